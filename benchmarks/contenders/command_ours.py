"""Our command role, as `eventfleet worker command` runs it."""

import asyncio

from benchmarks.contenders.command_data import declare_shop, make_settings
from benchmarks.contenders.our_roles import CountedRole, RunCounter
from benchmarks.contenders.task import Result, Task, read_task, run, write_result
from eventfleet.roles.role import Role
from eventfleet.runtime import connections
from eventfleet.runtime.event_services import decider
from eventfleet.stores.kafka.producer import Producer
from eventfleet.workers.app import RoleSpec
from eventfleet.workers.app_runner import role_app, run_apps
from eventfleet.workers.duties import Duties
from eventfleet.workers.metrics import Metrics
from eventfleet.workers.owners import Ack


async def main(task: Task) -> None:
    settings, domain, metrics = make_settings(task), declare_shop(task.domain), Metrics()
    counter = RunCounter(task.records)
    async with (
        connections.stores(settings, {domain.name: domain}) as stores,
        decider(settings, domain, stores[domain.name], metrics.tallies) as order_decider,
    ):
        connection = connections.connection(settings)
        duties = Duties(
            settings, connection, True, {domain.name: order_decider}, Producer(connection)
        )
        duty = duties.duty("command", domain, stores[domain.name])

        def make(partition: int, ack: Ack) -> Role:
            return CountedRole(duty.make(partition, ack), counter)

        counted = RoleSpec(duty.domain, duty.role, make)
        app = role_app(settings, duties.connection, counted, task.topic, metrics)
        await run_apps([app], counter.stop)
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
