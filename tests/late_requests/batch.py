"""Some schedules of one mode at once, each on a partition of its own."""

import asyncio
from collections.abc import Sequence

from eventfleet.stores.kafka.admin import Admin
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.producer import Producer
from eventfleet.stores.kafka.reader import Reader
from tests.late_requests.modes import Mode
from tests.late_requests.trial import Report, Schedule, Trial
from tests.servers.frame_proxy import FrameProxy


async def run_batch(
    kind: type[Mode],
    prefix: str,
    schedules: Sequence[Schedule],
    kafka: str,
    proxy: FrameProxy,
) -> list[Report]:
    """Return the report of each schedule; `kafka` is the address without the proxy."""
    connection = Connection(kafka, timeout=30)
    admin, reader, writer = Admin(connection), Reader(connection), Producer(connection)
    try:
        mode = kind(prefix, len(schedules), reader, writer)
        await admin.create(mode.specs())
        trials = [
            Trial(mode, partition, schedule, proxy) for partition, schedule in enumerate(schedules)
        ]
        return await asyncio.gather(*(trial.run() for trial in trials))
    finally:
        for client in (admin, reader, writer):
            await client.close()
