"""Opens the EventService of a domain, and its decider, on the servers of the settings."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

from eventfleet.deciders.commander import Commander
from eventfleet.deciders.decider import Answer, Decider, Permit
from eventfleet.deciders.direct_decider import DirectDecider
from eventfleet.deciders.event_publisher import EventPublisher
from eventfleet.deciders.incarnation_reader import IncarnationReader
from eventfleet.deciders.lag_guard import LagGuard
from eventfleet.deciders.manager import Announce, Manager
from eventfleet.deciders.marker_decider import MarkerDecider
from eventfleet.deciders.outcomes import Unavailable
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import State
from eventfleet.runtime import connections
from eventfleet.runtime.connections import prefixed
from eventfleet.runtime.event_shapes import register_event_shapes
from eventfleet.runtime.partitions import require_domain_topics
from eventfleet.runtime.settings import Settings
from eventfleet.runtime.topic_watch import TopicUse, TopicWatch
from eventfleet.service.decider_metrics import DeciderMetrics
from eventfleet.service.dispositions import Dispositions
from eventfleet.service.event_service import EventService
from eventfleet.service.lag_guard_task import running_lag_guard
from eventfleet.service.notice_watch import NoticeWatch
from eventfleet.service.stage_waiter import CommandFollower, StageWaiters
from eventfleet.states.live_state import LiveState
from eventfleet.states.lru_cache import LruCache
from eventfleet.states.querier import Querier
from eventfleet.states.snapshot_saver import SnapshotSaver
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import Clock, DomainStores, LogWriter
from eventfleet.stores.ids import Uuid7Generator
from eventfleet.topics.names import consumer_group

MAX_DECIDE_SECONDS = 10.0
COMMAND_ROLE = "command"

S = TypeVar("S", bound=State)


def patience(settings: Settings) -> float:
    """Seconds for one try to decide, and for one produce: together well within the expiry."""
    return min(MAX_DECIDE_SECONDS, settings.marker_expiry / 4)


class HaltableDecider:
    """A decider whose deadlines are never further away than some seconds, and that answers
    Unavailable once it is halted."""

    def __init__(self, decider: Decider, clock: Clock, seconds: float = MAX_DECIDE_SECONDS) -> None:
        self._decider, self._clock, self._reason = decider, clock, ""
        self._limit = timedelta(seconds=seconds)

    def halt(self, reason: str) -> None:
        self._reason = reason

    async def decide(
        self,
        commands: Sequence[Any],
        deadline: datetime,
        answer: Answer,
        permit: Permit | None = None,
    ) -> None:
        if self._reason:
            for index in range(len(commands)):
                answer(index, Unavailable(self._reason))
        else:
            latest = self._clock.steady() + self._limit
            await self._decider.decide(commands, min(deadline, latest), answer, permit)


@asynccontextmanager
async def decider(
    settings: Settings,
    domain: Domain[Any],
    opened: DomainStores,
    decider_metrics: DeciderMetrics | None = None,
    cache: LruCache[LiveState] | None = None,
    announce: Announce | None = None,
    waiters: StageWaiters | None = None,
) -> AsyncIterator[HaltableDecider]:
    """Opens the decider of a domain, for any number of tasks. Without rules it needs no Redis.

    The latest states of a synchronous domain are kept in `cache`, or else in a cache of its own;
    its decider announces stored events. With `waiters` append's notices end the waits for it.
    """
    decider_metrics = decider_metrics or DeciderMetrics()
    async with AsyncExitStack() as stack:
        backend, clock = connections.backend(settings), SystemClock()
        await stack.enter_async_context(backend.opened())
        writer = backend.writer(patience(settings))
        stack.push_async_callback(writer.close)
        if domain.synchronous:
            manager = _manager(settings, domain, opened, writer, decider_metrics, cache, announce)
            yield HaltableDecider(await stack.enter_async_context(manager.running()), clock)
            return
        if not domain.uses_marker:
            place = writer, domain.topics.events
            direct = DirectDecider(opened.events, *place, clock, partitions=settings.partitions)
            yield HaltableDecider(direct, clock)
            return
        markers = await stack.enter_async_context(connections.markers(settings, domain.name))
        reader = await stack.enter_async_context(connections.log_reader(settings))
        events, letters = opened.events, opened.dead_letters
        assert letters is not None
        topic = domain.topics.events
        guard = LagGuard(
            IncarnationReader(markers, events.registry, reader, topic, events),
            *(reader, events, clock),
            group=consumer_group(settings.group_prefix, domain.name, "append"),
            topic=topic,
            expiry=settings.marker_expiry,
        )
        watch = NoticeWatch(waiters) if waiters else None
        if watch:
            guard.on_update = watch.wake
        await stack.enter_async_context(running_lag_guard(guard, domain.name))
        marker_decider = MarkerDecider(
            *(events, markers, writer, guard, clock),
            topic=topic,
            partitions=settings.partitions,
            watch=watch,
            letters=letters,
        )
        decider_metrics.markers[domain.name] = marker_decider.statistics
        yield HaltableDecider(marker_decider, clock, patience(settings))


def _manager(
    settings: Settings,
    domain: Domain[Any],
    opened: DomainStores,
    writer: LogWriter,
    decider_metrics: DeciderMetrics,
    cache: LruCache[LiveState] | None,
    announce: Announce | None,
) -> Manager:
    clock, limit = SystemClock(), settings.snapshot_bytes
    if cache is None:
        cache = LruCache(settings.cached_aggregates)
    querier = Querier(domain, opened, clock, limit=limit, cache=cache, role=COMMAND_ROLE)
    saver = SnapshotSaver(domain, opened.snapshots, clock, limit=limit)
    topic, partitions = domain.topics.events, settings.partitions
    publishing = connections.backend(settings).publishing_events(domain.name, topic)
    commander = Commander(publishing or opened.events, saver, partitions=partitions)
    publisher = EventPublisher(None if publishing else writer, topic, clock, partitions=partitions)
    manager = Manager(domain, querier, commander, publisher, clock, announce=announce)
    decider_metrics.managers[domain.name] = manager.statistics, saver
    return manager


@asynccontextmanager
async def event_service(settings: Settings, domain: Domain[S]) -> AsyncIterator[EventService[S]]:
    """Opens the EventService of a domain on the servers of the settings.

    Unreachable: a server does not answer; Misconfigured: topics are missing,
    or have another number of partitions than the settings or the stored events; or an event's class
    does not read what is stored.
    """
    domain = prefixed(settings, domain)
    domains = {domain.name: domain}
    async with (
        connections.stores(settings, domains) as stores,
        connections.stores(settings, domains, long_reads=True) as reading,
        stage_waiters(settings) as waiters,
    ):
        limit = settings.snapshot_bytes
        cache: LruCache[LiveState] = LruCache(settings.cached_aggregates)
        queries = Querier(domain, reading[domain.name], SystemClock(), limit=limit, cache=cache)
        async with event_service_over(
            settings, domain, stores[domain.name], queries, waiters, cache=cache
        ) as service:
            yield service


@asynccontextmanager
async def event_service_over(
    settings: Settings,
    domain: Domain[S],
    opened: DomainStores,
    queries: Querier[S],
    waiters: StageWaiters,
    decider_metrics: DeciderMetrics | None = None,
    cache: LruCache[LiveState] | None = None,
    announce: Announce | None = None,
    watch: TopicWatch | None = None,
) -> AsyncIterator[EventService[S]]:
    """Opens the EventService of a domain over open stores; services may share the waiters.

    The indexes are created where missing: a service may store events before any worker has begun.
    `cache` is that of the `queries`, for the decider to share; `announce` is for the decider.
    What the `watch` finds of the topic that commands write to, they are answered with.
    """
    await opened.events.prepare()
    await opened.snapshots.prepare()
    if opened.dead_letters:
        await opened.dead_letters.prepare()
    async with connections.log_reader(settings) as reader:
        await require_domain_topics(settings, domain, reader, opened.events.registry)
    await register_event_shapes(domain, opened.events)
    clock, ids = SystemClock(), Uuid7Generator()
    dispositions = Dispositions(opened.events, opened.dead_letters, opened.views, domain.views)
    follower = CommandFollower(domain.synchronous, opened.events, waiters, dispositions)
    decider_metrics = decider_metrics or DeciderMetrics()
    decider_metrics.queriers[domain.name] = queries.saver
    async with (
        queries.running(),
        decider(settings, domain, opened, decider_metrics, cache, announce, waiters) as deciding,
        EventService(domain, deciding, queries, clock, ids, follower) as service,
    ):
        if watch:
            watch.add([TopicUse(domain.name, domain.topics.events, "Write")], deciding.halt)
        yield service


def stage_waiters(settings: Settings) -> AbstractAsyncContextManager[StageWaiters]:
    """Opens the StageWaiters of this process; they connect at the first wait."""
    return StageWaiters(connections.backend(settings).notices()).running()
