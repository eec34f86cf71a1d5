"""Runs several apps in one process: started, watched and stopped together."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from eventfleet.runtime.settings import Settings
from eventfleet.stores.kafka.connection import Connection
from eventfleet.workers.agent import Agent
from eventfleet.workers.app import RoleApp
from eventfleet.workers.metrics import Metrics
from eventfleet.workers.owner import OwnerTimeouts
from eventfleet.workers.transport import ConsumerConfig

SILENT_LOGGERS = ("faust", "mode", "aiokafka")
DOUBT_SECONDS = 60.0
"""How long a role asks again for an offset that looks lost: after a crash of its only broker, a
coordinator may answer so for half a minute and more."""


def role_app(
    settings: Settings,
    connection: Connection,
    agent: Agent,
    metrics: Metrics,
    timeouts: OwnerTimeouts | None = None,
    long_polls: bool = True,
) -> RoleApp:
    """Make the app of an agent. To be called within a running event loop.

    `long_polls`: False for the embedded broker, which looks for new records only every quarter of
    the time that a request may wait.
    """
    config = ConsumerConfig(
        connection,
        agent.source,
        agent.group,
        settings.chunk_records,
        settings.chunk_bytes,
        settings.kafka_session_timeout,
        settings.kafka_instance_id,
        settings.chunk_wait,
        long_polls,
    )
    timeouts = timeouts or OwnerTimeouts(fenced=settings.kafka_session_timeout)
    return RoleApp(agent, config, metrics.of(agent.domain_name, agent.role), timeouts)


def worker_timeouts(settings: Settings) -> OwnerTimeouts:
    """The timeouts of the owners in a worker process."""
    return OwnerTimeouts(fenced=settings.kafka_session_timeout, doubted=DOUBT_SECONDS)


async def run_apps(apps: Sequence[RoleApp], stop: asyncio.Event) -> None:
    """Run all until `stop` is set; each then finishes its chunks in hand, commits and leaves.

    An app that fails sets `stop`; the first one's error is raised. To be stopped, not cancelled.
    """
    for name in SILENT_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    tasks = [asyncio.create_task(_work(app, stop)) for app in apps]
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    for error in errors:
        if error is not None:
            raise error


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
