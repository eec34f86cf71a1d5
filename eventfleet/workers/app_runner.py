"""Several apps in one process: started, watched and stopped together."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from eventfleet.runtime.settings import Settings
from eventfleet.stores.kafka.connection import Connection
from eventfleet.topics.names import consumer_group
from eventfleet.workers.app import RoleApp, RoleSpec
from eventfleet.workers.metrics import Metrics
from eventfleet.workers.owners import OwnerTimeouts
from eventfleet.workers.transport import ConsumerConfig

SILENT = ("faust", "mode", "aiokafka")


def role_app(
    settings: Settings,
    connection: Connection,
    duty: RoleSpec,
    topic: str,
    metrics: Metrics,
    patience: OwnerTimeouts | None = None,
) -> RoleApp:
    """The app of a duty over a topic; to be made within a running event loop."""
    source = ConsumerConfig(
        connection,
        topic,
        consumer_group(settings.group_prefix, duty.domain, duty.role),
        settings.chunk_records,
        settings.chunk_bytes,
        settings.kafka_session_timeout,
    )
    patience = patience or OwnerTimeouts(fenced=settings.kafka_session_timeout)
    return RoleApp(duty, source, metrics.of(duty.domain, duty.role), patience)


async def run_apps(apps: Sequence[RoleApp], stop: asyncio.Event) -> None:
    """Run all until `stop` is set; each then finishes its chunks in hand, commits and leaves.

    One that fails sets `stop`; the first one's error is raised. To be stopped, not cancelled.
    """
    for name in SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    work = [asyncio.create_task(_work(app, stop)) for app in apps]
    ends = await asyncio.gather(*work, return_exceptions=True)
    for end in ends:
        if end is not None:
            raise end


async def _work(app: RoleApp, stop: asyncio.Event) -> None:
    try:
        await app.work(stop)
    finally:
        stop.set()


@asynccontextmanager
async def stop_signals() -> AsyncIterator[asyncio.Event]:
    """An event that SIGTERM or SIGINT sets."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
