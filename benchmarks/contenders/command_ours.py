"""Our command role, as `eventfleet worker command` runs it."""

import asyncio

from benchmarks.contenders.command_data import declare_shop, make_settings
from benchmarks.contenders.our_roles import RunCounter, counting_agent
from benchmarks.contenders.scraping import scraped
from benchmarks.contenders.task import ContenderTask, Result, read_task, run, write_result
from eventfleet.runtime import connections
from eventfleet.runtime.event_services import decider
from eventfleet.runtime.server_backend import ServerBackend
from eventfleet.stores.kafka.producer import Producer
from eventfleet.workers.agent import WorkerContext
from eventfleet.workers.app_runner import role_app, run_apps
from eventfleet.workers.command_agent import CommandAgent
from eventfleet.workers.health_server import HealthServer
from eventfleet.workers.metrics import Metrics
from eventfleet.workers.worker_log import KafkaLog


async def main(task: ContenderTask) -> None:
    settings, domain, metrics = make_settings(task), declare_shop(task.domain), Metrics()
    counter = RunCounter(task.records)
    async with (
        connections.stores(settings, {domain.name: domain}) as stores,
        decider(settings, domain, stores[domain.name]) as order_decider,
        connections.log_reader(settings) as reader,
    ):
        connection = ServerBackend(settings).connection()
        log = KafkaLog(connection)
        deciders = {domain.name: order_decider}
        context = WorkerContext(
            settings, log, Producer(connection), reader, deciders, metrics=metrics
        )
        agent_type = counting_agent(CommandAgent, counter)
        agent = agent_type(domain, stores[domain.name], context)
        apps = [role_app(settings, log, agent, metrics)]
        async with scraped(HealthServer(metrics, apps).served("127.0.0.1", 0)):
            await run_apps(apps, counter.stop)
    clock = counter.clock
    reported_settings = {
        "chunk": str(settings.chunk_records),
        "fetch": "1 MiB",
        "acks": "all; replies transactional",
        "isolation": "read_committed",
        "compression": "none",
        "event loop": type(asyncio.get_event_loop()).__module__.split(".")[0],
        "read concern": "majority",
        "marker": "EVALSHA in pipelines",
    }
    write_result(
        Result(task.records, clock.seconds, clock.cpu, counter.value_bytes, reported_settings)
    )


if __name__ == "__main__":
    run(main(read_task()))
