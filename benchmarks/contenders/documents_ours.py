"""Edits of documents through our storage: each an event and, later, the document."""

from benchmarks.contenders.document_data import User, measure_edits
from benchmarks.contenders.task import ContenderTask, read_task, run
from eventfleet.documents import open_storage


def visit(user: User) -> None:
    user.visits += 1
    user.city = f"Springfield {user.visits}"


async def main(task: ContenderTask) -> None:
    async with open_storage(task.mongo_url, task.database, task.domain, User) as users:
        await measure_edits(task, lambda id: users.find_one_and_update(id, visit, "bench"))


if __name__ == "__main__":
    run(main(read_task()))
