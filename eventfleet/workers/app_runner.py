"""Runs several apps in one process: started, watched and stopped together."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from eventfleet.roles.steady_offsets import DOUBT_SECONDS, STEADY_SECONDS
from eventfleet.runtime.process_stop import stop_signals
from eventfleet.runtime.settings import Settings
from eventfleet.stores.errors import AccessFault, AccessRefused
from eventfleet.workers.agent import Agent
from eventfleet.workers.app import RoleApp, Tell
from eventfleet.workers.metrics import Metrics
from eventfleet.workers.owner_outage import OwnerTimeouts
from eventfleet.workers.worker_log import WorkerLog

__all__ = ["role_app", "run_apps", "stop_signals", "worker_timeouts"]

SILENT_LOGGERS = ("faust", "mode", "aiokafka")
WAY_BACK = "grant it, and restart this process"


def role_app(
    settings: Settings,
    log: WorkerLog,
    agent: Agent,
    metrics: Metrics,
    timeouts: OwnerTimeouts | None = None,
    start_seconds: float = 0.0,
) -> RoleApp:
    """Make the app of an agent. To be called within a running event loop.

    `start_seconds`: how long its start may wait for the log.
    """
    config = log.consumer(settings, agent.source, agent.group, start_seconds)
    timeouts = timeouts or OwnerTimeouts(fenced=settings.kafka_session_timeout)
    timeouts = replace(timeouts, rest_tick=agent.rest_seconds)
    return RoleApp(agent, config, metrics.of(agent.domain_name, agent.role), timeouts)


def worker_timeouts(settings: Settings) -> OwnerTimeouts:
    """The timeouts of the owners in a worker process."""
    return OwnerTimeouts(
        fenced=settings.kafka_session_timeout, doubted=DOUBT_SECONDS, removed=STEADY_SECONDS
    )


async def run_apps(apps: Sequence[RoleApp], stop: asyncio.Event, tell: Tell | None = None) -> None:
    """Run all until `stop` is set; each then finishes its chunks in hand, commits and leaves.

    An app that fails sets `stop`; the first error is raised, and is told before any app is stopped.
    Only where one lacks a right, it alone ends, and the others go on. To be stopped, not cancelled.
    """
    for name in SILENT_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    causes: list[Exception] = []
    working = set(apps)

    async def work(app: RoleApp) -> None:
        def tell_first(error: Exception) -> None:
            working.discard(app)
            if working and _is_of_one_role(app, error):
                app.halt(f"{error}: {WAY_BACK}")
                return
            if tell and not causes:
                tell(error)
            causes.append(error)

        try:
            await app.work(stop, tell_first)
        except Exception as error:
            if not app.fault or error in causes:
                raise
            await stop.wait()
            raise
        finally:
            stop.set()

    errors = await asyncio.gather(*map(work, apps), return_exceptions=True)
    for error in [*causes, *errors]:
        if error is not None:
            raise error


def _is_of_one_role(app: RoleApp, error: Exception) -> bool:
    """Check that an error says nothing about other roles: a right is missing, or a topic."""
    if app.fault:
        return True
    found = [each for each in (error, error.__cause__) if isinstance(each, AccessRefused)]
    return any(each.access is AccessFault.RIGHT for each in found)
