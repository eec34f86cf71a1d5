"""Commands over our HTTP service."""

from benchmarks.contenders.command_data import make_settings
from benchmarks.contenders.http_data import declare_domain, serve_and_measure
from benchmarks.contenders.task import ContenderTask, read_task, run, write_result
from eventfleet.runtime.http_server import http_application


async def main(task: ContenderTask) -> None:
    async with http_application(make_settings(task), {task.domain: declare_domain(task)}) as app:
        result = await serve_and_measure(task, app, {})
    write_result(result)


if __name__ == "__main__":
    run(main(read_task()))
