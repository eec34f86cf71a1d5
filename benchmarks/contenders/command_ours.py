"""Our command role: the duty that `eventfleet worker command` runs."""

import asyncio

from benchmarks.contenders.command_data import settings_of, shop
from benchmarks.contenders.our_roles import Counted, Tally
from benchmarks.contenders.task import Result, Task, run, task, told
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
    settings, domain, metrics = settings_of(task), shop(task.domain), Metrics()
    tally = Tally(task.records)
    async with (
        connections.stores(settings, {domain.name: domain}) as stores,
        decider(settings, domain, stores[domain.name], metrics.tallies) as way,
    ):
        connection = connections.connection(settings)
        duties = Duties(settings, connection, True, {domain.name: way}, Producer(connection))
        duty = duties.duty("command", domain, stores[domain.name])

        def make(partition: int, ack: Ack) -> Role:
            return Counted(duty.make(partition, ack), tally)

        counted = RoleSpec(duty.domain, duty.role, make)
        app = role_app(settings, duties.connection, counted, task.topic, metrics)
        await run_apps([app], tally.stop)
    clock = tally.clock
    settings_told = {
        "chunk": str(settings.chunk_records),
        "fetch": "1 MiB",
        "acks": "all; replies transactional",
        "isolation": "read_committed",
        "compression": "none",
        "event loop": type(asyncio.get_event_loop()).__module__.split(".")[0],
        "read concern": "majority",
        "marker": "EVALSHA in pipelines",
    }
    told(Result(task.records, clock.seconds, clock.cpu, tally.check, settings_told))


if __name__ == "__main__":
    run(main(task()))
