"""The way in for a domain's commands: over markers where it has rules, else straight ahead."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from eventfleet.deciders.commander import Commander
from eventfleet.deciders.direct_decider import DirectDecider
from eventfleet.deciders.lag_guard import LagGuard
from eventfleet.deciders.manager import Manager
from eventfleet.deciders.marker_decider import MarkerDecider
from eventfleet.deciders.pending_command import Answer
from eventfleet.model.domain import Domain
from eventfleet.roles.command import Decider
from eventfleet.runtime import connections
from eventfleet.runtime.settings import Settings
from eventfleet.service.decider_metrics import DeciderMetrics
from eventfleet.service.event_service import EventService
from eventfleet.service.lag_guard_task import running_lag_guard
from eventfleet.service.stage_waiter import CommandFollower, StageWaiters
from eventfleet.states.snapshot_saver import SnapshotSaver
from eventfleet.states.state_cache import States
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import Clock, DomainStores, LogWriter
from eventfleet.stores.ids import Uuid7Generator
from eventfleet.stores.kafka.producer import Producer

LONGEST = 10.0


def patience(settings: Settings) -> float:
    """Seconds for one try to decide, and for one produce: together well within the expiry."""
    return min(LONGEST, settings.marker_expiry / 4)


class Bounded:
    """A decider whose deadlines are never further away than some seconds."""

    def __init__(self, decider: Decider, clock: Clock, seconds: float) -> None:
        self._decider, self._clock = decider, clock
        self._longest = timedelta(seconds=seconds)

    async def decide(self, asked: Sequence[Any], deadline: datetime, answer: Answer) -> None:
        longest = self._clock.now() + self._longest
        await self._decider.decide(asked, min(deadline, longest), answer)


@asynccontextmanager
async def decider(
    settings: Settings,
    domain: Domain[Any],
    opened: DomainStores,
    tallies: DeciderMetrics | None = None,
) -> AsyncIterator[Decider]:
    """For any number of tasks at once. Without rules no Redis is needed."""
    tallies = tallies or DeciderMetrics()
    async with AsyncExitStack() as stack:
        connection, clock = connections.connection(settings), SystemClock()
        quick = min(connection.timeout, patience(settings))
        writer = Producer(replace(connection, timeout=quick))
        stack.push_async_callback(writer.close)
        if domain.synchronous:
            manager = _manager(settings, domain, opened, writer, tallies)
            yield Bounded(await stack.enter_async_context(manager.running()), clock, LONGEST)
            return
        if not domain.uses_marker:
            yield DirectDecider(opened.events, writer, partitions=settings.partitions)
            return
        markers = await stack.enter_async_context(connections.markers(settings, domain.name))
        reader = await stack.enter_async_context(connections.log_reader(settings))
        guard = LagGuard(
            domain.name,
            markers,
            reader,
            prefix=settings.group_prefix,
            expiry=settings.marker_expiry,
        )
        await stack.enter_async_context(running_lag_guard(guard))
        marking = MarkerDecider(
            opened.events, markers, writer, guard, clock, partitions=settings.partitions
        )
        tallies.of[domain.name] = marking.tally
        yield Bounded(marking, clock, patience(settings))


def _manager(
    settings: Settings,
    domain: Domain[Any],
    opened: DomainStores,
    writer: LogWriter,
    tallies: DeciderMetrics,
) -> Manager:
    clock = SystemClock()
    saving = SnapshotSaver(domain, opened.snapshots, clock, limit=settings.snapshot_bytes)
    commander = Commander(opened.events, writer, clock, partitions=settings.partitions)
    states = States(domain, opened, settings.cached_aggregates)
    manager = Manager(domain, opened, states, commander, saving, clock)
    tallies.managers[domain.name] = manager.tally, saving
    return manager


@asynccontextmanager
async def event_service(settings: Settings, domain: Domain[Any]) -> AsyncIterator[EventService]:
    """The EventService of a domain, on the servers that the settings name.

    Unreachable where one of them does not answer; Misconfigured where the topics are not there.
    """
    async with (
        connections.stores(settings, {domain.name: domain}) as stores,
        waiting_room(settings) as waiting,
        event_service_over(settings, domain, stores[domain.name], waiting) as service,
    ):
        yield service


@asynccontextmanager
async def event_service_over(
    settings: Settings,
    domain: Domain[Any],
    opened: DomainStores,
    waiting: StageWaiters,
    tallies: DeciderMetrics | None = None,
) -> AsyncIterator[EventService]:
    """As `event_service`, over stores that are open already; any number may share the waiting."""
    async with connections.log_reader(settings) as reader:
        await connections.require_topics(reader, connections.topics_of(settings, domain))
    following = CommandFollower(domain.synchronous, opened.events, waiting)
    async with (
        decider(settings, domain, opened, tallies) as way,
        EventService(domain, way, SystemClock(), Uuid7Generator(), following) as service,
    ):
        yield service


def waiting_room(settings: Settings) -> AbstractAsyncContextManager[StageWaiters]:
    """For all in this process that wait for events; connects at the first wait only."""
    return StageWaiters(connections.notices(settings)).running()
