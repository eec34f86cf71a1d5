"""Some schedules of one mode at once, each on a partition of its own."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.kafka.admin import Admin
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.producer import Producer
from eventfleet.stores.kafka.reader import Reader
from eventfleet.topics.topic_specs import TopicSpec
from tests.late_requests.modes import Mode
from tests.late_requests.trial import FOREVER_SECONDS, Report, Schedule, Trial
from tests.servers.frame_proxy import FrameProxy

LEADERS_SECONDS = 180.0


async def run_batch(
    kind: type[Mode],
    prefix: str,
    schedules: Sequence[Schedule],
    kafka: str,
    proxy: FrameProxy,
    fenced_seconds: float = FOREVER_SECONDS,
) -> list[Report]:
    """Return the report of each schedule; `kafka` is the address without the proxy."""
    connection = Connection(kafka, timeout=30)
    admin, reader, writer = Admin(connection), Reader(connection), Producer(connection)
    mode = kind(prefix, len(schedules), reader, writer)
    try:
        await admin.create(mode.specs())
        for spec in mode.specs():
            await until_led(reader, spec)
        trials = [
            Trial(mode, partition, schedule, proxy, fenced_seconds)
            for partition, schedule in enumerate(schedules)
        ]
        return await asyncio.gather(*(trial.run() for trial in trials))
    finally:
        await delete_topics(connection, [spec.name for spec in mode.specs()])
        for client in (admin, reader, writer):
            await client.close()


async def until_led(reader: Reader, spec: TopicSpec) -> None:
    """Wait until all partitions of a topic have a leader that knows it."""
    async with asyncio.timeout(LEADERS_SECONDS):
        while True:
            with suppress(ServerUnavailable):
                if len(await reader.watermarks(spec.name)) == spec.partitions:
                    return
            await asyncio.sleep(0.1)


async def delete_topics(connection: Connection, names: list[str]) -> None:
    """Delete topics: clients read the metadata of all that there are."""
    admin = connection.admin()
    await admin.start()
    await admin.delete_topics(names)
    await admin.close()
