"""Commands over our HTTP service."""

from benchmarks.contenders.command_data import settings_of
from benchmarks.contenders.http_data import domain_of, measured
from benchmarks.contenders.task import Task, run, task, told
from eventfleet.runtime.http_server import http_application


async def main(task: Task) -> None:
    async with http_application(settings_of(task), {task.domain: domain_of(task)}) as app:
        result = await measured(task, app, {})
    told(result)


if __name__ == "__main__":
    run(main(task()))
