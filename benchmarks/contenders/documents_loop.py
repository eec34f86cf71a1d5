"""Edits of documents by the bare driver: `find_one_and_update`, without an event."""

from pymongo import AsyncMongoClient, ReturnDocument

from benchmarks.contenders.document_data import measure_edits, open_collection
from benchmarks.contenders.task import ContenderTask, read_task, run

CHANGE = {"$inc": {"visits": 1, "version": 1}, "$set": {"city": "Springfield 1"}}


async def main(task: ContenderTask) -> None:
    async with AsyncMongoClient(task.mongo_url) as client:
        users = open_collection(client, task)
        await measure_edits(
            task,
            lambda id: users.find_one_and_update(
                {"_id": id}, CHANGE, return_document=ReturnDocument.AFTER
            ),
        )


if __name__ == "__main__":
    run(main(read_task()))
