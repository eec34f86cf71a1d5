"""Commands over our HTTP service."""

from benchmarks.contenders.command_data import make_settings
from benchmarks.contenders.http_data import declare_domain, serve_and_measure
from benchmarks.contenders.scraping import scraped
from benchmarks.contenders.task import ContenderTask, read_task, run, write_result
from eventfleet.runtime.http_server import http_application, served_probes


async def main(task: ContenderTask) -> None:
    settings = make_settings(task).model_copy(update={"http_metrics_port": 0})
    async with (
        http_application(settings, {task.domain: declare_domain(task)}) as app,
        scraped(served_probes(app.probes, settings)),
    ):
        result = await serve_and_measure(task, app, {})
    write_result(result)


if __name__ == "__main__":
    run(main(read_task()))
