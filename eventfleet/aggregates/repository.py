"""Repository: loads aggregates from the stores of their domain, and saves their events there."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from eventfleet.aggregates.aggregate import Aggregate
from eventfleet.aggregates.command_envelope import CommandEnvelope
from eventfleet.aggregates.commit import are_same, commit_event_key, make_commit_events
from eventfleet.aggregates.factory import AggregateFactory
from eventfleet.aggregates.mapper import AggregateEventMapper, published_aggregate_events
from eventfleet.buses.bus import EventBus
from eventfleet.buses.publisher import Publisher
from eventfleet.deciders.state_command import fingerprint
from eventfleet.model.errors import DeclarationError
from eventfleet.states.live_state import LiveState, load_live_states, take_snapshot
from eventfleet.states.querier import Querier
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import NO_HEAD, Clock, DomainStores
from eventfleet.stores.errors import (
    Duplicate,
    EditConflict,
    Misconfigured,
    NotFound,
    ServerUnavailable,
    StoreError,
)
from eventfleet.stores.memory.dead_letters import MemoryDeadLetters
from eventfleet.stores.retry import CONFLICT
from eventfleet.stores.startable import Startable
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EventRecord
from eventfleet.topics.partitioner import partition_of

DEFAULT_PARTITIONS = 4
MAX_SNAPSHOT_BYTES = 1_000_000

A = TypeVar("A", bound=Aggregate[Any])
logger = logging.getLogger(__name__)


class Repository(Startable, Generic[A]):
    """The aggregates of one class, in the event and snapshot stores of its domain.

        users = Repository(User, stores["users"])
        user = await users.load("user123")
        user.change_email("john.doe@example.com")
        await users.save(user)

    Events are stored as a synchronous domain's are: with their versions, for append to place and
    relay to route when a fleet runs the domain. The first use creates and verifies the indexes.
    Every method may raise ServerUnavailable: `save` may then be called again with the same
    arguments, and recognises what it stored.

    With a bus the events are published too: in version order per aggregate, at least once, also
    where their writer died. Such a repository is used as `async with`, or started and stopped.
    """

    def __init__(
        self,
        kind: type[A],
        stores: DomainStores,
        *,
        factory: AggregateFactory | None = None,
        bus: EventBus | None = None,
        mapper: AggregateEventMapper | None = None,
        partitions: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`factory` makes the empty aggregates, by default their class does.

        A started `bus` gets what `mapper` makes of each event that is saved: by default one event
        of the same id, type, version, time and data, with the class's name as aggregate type. The
        repositories of one domain publish each other's events. So each has the same class and
        mapper, and every process that saves gives a bus, or none does: what is saved without one is
        stored, and never published.

        `partitions` is the number of partitions of the domain's topics; by default the number that
        the store has registered, or else DEFAULT_PARTITIONS, which is then registered.
        DeclarationError: append gives this domain's events their versions.
        """
        if kind.domain.commands and not kind.domain.synchronous:
            raise DeclarationError(
                f"aggregate {kind.__name__}: domain {kind.domain.name} is asynchronous, only its "
                "append role stores events: give it `decide`, or declare no commands"
            )
        self._kind, self._stores, self._factory = kind, stores, factory
        self._domain, self._clock = kind.domain, clock or SystemClock()
        if partitions is not None and partitions < 1:
            raise ValueError(f"partitions={partitions}: the number must be at least 1")
        self._given_partitions, self._partitions = partitions, 0
        self._preparing = asyncio.Lock()
        self._letters = stores.dead_letters or MemoryDeadLetters()
        self._publisher = self._make_publisher(bus, mapper or AggregateEventMapper())
        self._was_started = False

    async def start(self) -> None:
        """Prepare, and begin to publish where there is a bus."""
        await self.prepare()
        if self._publisher:
            self._publisher.start()
        self._was_started = True

    async def stop(self) -> None:
        """Publish what is pending, within bounds, and end; what is left another process does."""
        if self._publisher:
            await self._publisher.stop()

    async def prepare(self) -> None:
        """Create and verify the indexes, and agree on the partitions; the first use does it too.

        Misconfigured: an index is missing, or the store has another number of partitions.
        """
        async with self._preparing:
            if self._partitions:
                return
            await self._stores.events.prepare()
            await self._stores.snapshots.prepare()
            if self._publisher:
                await self._stores.events.outbox.prepare()
                await self._letters.prepare()
            self._partitions = await self._agree_on_partitions()

    @property
    def queries(self) -> Querier[Any]:
        """Queries of the stored events, and of states at a version or time."""
        return Querier(self._domain, self._stores, self._clock)

    # Loading

    async def load(self, id: str) -> A:
        """Load an aggregate from its latest snapshot and the events after it.

        NotFound: it has no events. ReplayFailed: `evolve` or an upcaster raised.
        """
        aggregate = await self.load_or_new(id)
        if not aggregate.version:
            raise NotFound(self._domain.name, id)
        return aggregate

    async def load_or_new(self, id: str) -> A:
        """Load an aggregate as `load` does; one without events is new, at version 0."""
        await self._prepare()
        live = await self._load_live(id)
        aggregate = self._factory.create(self._kind, id) if self._factory else self._kind(id)
        aggregate.restore(live)
        return aggregate

    async def find_events(self, command: CommandEnvelope[Any]) -> list[EventRecord]:
        """Return the events that were stored for a command, on the aggregate it is addressed to.

        InvalidRecord: the command's id was used for another command.
        """
        await self._prepare()
        return await self._find_events(command.aggregate_id, command.id, command)

    # Saving

    async def save(
        self,
        aggregate: A,
        expected_version: int | None = None,
        *,
        command: CommandEnvelope[Any] | None = None,
    ) -> list[EventRecord]:
        """Store the uncommitted changes, all or none, and return them as they are stored.

        With `expected_version`, such as that of an If-Match, the aggregate must have been loaded at
        that version. With a `command` the events name it as their cause, and have their ids by it:
        its events that are stored already are returned, and the aggregate becomes as it is stored.
        A command is saved once for each aggregate.

        A snapshot follows when the domain's rule says so; one that fails is logged. EditConflict:
        another writer came first, or the aggregate was loaded at another version. InvalidRecord: an
        event is too large, or the command's id was used for another.
        """
        self._check(aggregate, expected_version, command)
        if not aggregate.uncommitted_changes:
            return []
        await self._prepare()
        events = make_commit_events(aggregate, command, self._clock.now())
        stored = await self._put(aggregate, events, command)
        if self._publisher:
            self._publisher.nudge()
        if not are_same(stored, events):
            aggregate.restore(await self._load_live(aggregate.id))
        aggregate.mark_committed(command.id if command else "")
        await self._save_snapshot(aggregate.live)
        return stored

    def _check(
        self, aggregate: A, expected_version: int | None, command: CommandEnvelope[Any] | None
    ) -> None:
        if self._publisher and not self._was_started:
            raise ValueError(
                f"the repository of {self._kind.__name__} has a bus, and nothing publishes yet: "
                "use it as `async with`, or start it, before it saves"
            )
        loaded = aggregate.expected_version
        if expected_version is not None and expected_version != loaded:
            raise EditConflict(self._domain.name, aggregate.id, expected_version, loaded)
        if command and aggregate.is_committed_for(command.id):
            raise ValueError(
                f"{command.name} {command.id} was saved for {self._domain.name} {aggregate.id!r} "
                "already: raise all its events first, and save them together"
            )

    async def _put(
        self, aggregate: A, events: Sequence[EventRecord], command: CommandEnvelope[Any] | None
    ) -> list[EventRecord]:
        """Store the events, unless an earlier try did; return the stored ones.

        A clash that can't be read yet is one with a write that no majority has: the put is tried
        again.
        """
        id, expected = aggregate.id, aggregate.expected_version
        command_id = command.id if command else aggregate.commit_id
        for number in range(1, CONFLICT.attempts + 1):
            aggregate.unanswered = True
            try:
                await self._stores.events.put(
                    events,
                    partition_of(id, self._partitions),
                    to_publish=self._publisher is not None,
                )
                return [*events]
            except Duplicate:
                if stored := await self._find_events(id, command_id, command):
                    return stored
                present = (await self._stores.events.heads([id])).get(id, NO_HEAD).version
                if present > expected:
                    aggregate.unanswered = False
                    raise EditConflict(self._domain.name, id, expected, present) from None
            await self._clock.sleep(CONFLICT.pause(number))
        raise ServerUnavailable(
            f"{self._domain.name} {id!r}: version {expected + 1} is taken by an event that can't "
            "be read yet: save again"
        )

    async def _save_snapshot(self, live: LiveState) -> None:
        """Save a snapshot if one is due. One that can't be saved is logged: the events are safe."""
        rule, now = self._domain.snapshot, self._clock.now()
        if rule is None or not rule.due(live.since_snapshot(now)):
            return
        where = f"{self._domain.name} {live.aggregate_id!r} version {live.version}"
        snapshot = take_snapshot(self._domain, live, now, MAX_SNAPSHOT_BYTES)
        if snapshot is None:
            logger.warning("%s: no store can keep a snapshot of its state", where)
            return
        try:
            await self._stores.snapshots.save([snapshot])
        except StoreError as error:
            logger.warning("%s: no snapshot was saved: %s", where, error)
            return
        live.record_snapshot(now)

    # What both need

    def _make_publisher(
        self, bus: EventBus | None, mapper: AggregateEventMapper
    ) -> Publisher | None:
        if bus is None:
            return None
        map_event = partial(published_aggregate_events, mapper, self._kind.__name__)
        outbox = self._stores.events.outbox
        return Publisher(self._domain.name, outbox, self._letters, bus, map_event, logger=logger)

    async def _prepare(self) -> None:
        if not self._partitions:
            await self.prepare()

    async def _agree_on_partitions(self) -> int:
        registry, given = self._stores.events.registry, self._given_partitions
        wanted = given or await registry.partition_count() or DEFAULT_PARTITIONS
        registered = await registry.register_partition_count(wanted)
        if registered != wanted:
            raise Misconfigured(
                f"domain {self._domain.name}: the repository has partitions={wanted}, but the "
                f"stored events were divided by {registered}: give it that number"
            )
        return registered

    async def _load_live(self, id: str) -> LiveState:
        live = (await load_live_states(self._domain, self._stores, [id]))[id]
        async for event in self._stores.events.read(id, live.version):
            live.fold(self._domain, event)
        return live

    async def _find_events(
        self, aggregate_id: str, command_id: str, command: CommandEnvelope[Any] | None
    ) -> list[EventRecord]:
        """Return the stored events of a command, or of an aggregate's own commit."""
        key = commit_event_key(self._domain.name, aggregate_id, command_id, 0)
        first = (await self._stores.events.find([key])).get(key)
        if first is None:
            return []
        if command and first.fingerprint not in (None, fingerprint(command.name, command.payload)):
            raise InvalidRecord("id", f"was used for another command, which made {first.type}")
        found = [first]
        async for event in self._stores.events.read(aggregate_id, first.version):
            index = len(found)
            if event.key != commit_event_key(self._domain.name, aggregate_id, command_id, index):
                break
            found.append(event)
        return found
