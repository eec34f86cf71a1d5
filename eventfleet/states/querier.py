"""Querier: answers with the events, snapshots and states of one domain's aggregates."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Self, TypeVar

import msgspec
from jsonpatch import JsonPatch

from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Data, State
from eventfleet.states.latest_states import LatestStates
from eventfleet.states.live_state import LiveState, ReplayFailed, restore
from eventfleet.states.lru_cache import LruCache
from eventfleet.states.snapshot_saver import SnapshotSaver
from eventfleet.states.view_reader import ViewReader
from eventfleet.stores.contracts import NO_HEAD, Clock, DomainStores, Page, Snapshot
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EventKey, EventRecord, truncate_to_milliseconds

MAX_VERSION = 2**63 - 1
ROLE = "query"

S = TypeVar("S", bound=State)


@dataclass(frozen=True)
class StateAt(Generic[S]):
    """The state of an aggregate after `version` events; `data` has it as plain JSON values."""

    aggregate_id: str
    version: int
    state: S
    data: Data


@dataclass(frozen=True)
class StateDiff:
    """The difference from the state at version `first` to the state at version `second`.

    `patch` is a JSON Patch (RFC 6902) of `add`, `remove` and `replace` only.
    """

    aggregate_id: str
    first: int
    second: int
    patch: list[dict[str, Any]]


@dataclass(frozen=True)
class MissingEvents:
    """The stored events that a reader lacks who has an aggregate's events up to version `after`.

    `latest` is the stored version, 0 without any event. `events` are the next ones, in order, up to
    the query's limit.
    """

    aggregate_id: str
    after: int
    latest: int
    events: list[EventRecord]

    @property
    def ahead(self) -> bool:
        """The reader claims a version that is not stored: it has read something else."""
        return self.after > self.latest


class Querier(Generic[S]):
    """The queries of one domain, of the Manager and of others alike.

    A state is built from the nearest snapshot (the latest state also from the `cache`) and the
    events after it. ReplayFailed names the event whose evolve or upcaster raised. A latest state of
    at most `limit` bytes as JSON is saved as a snapshot, behind the answer and while the Querier is
    `running`: no answer waits for that, and none fails with it. `views` answers queries of views,
    `latest_states` those of the Manager.
    """

    def __init__(
        self,
        domain: Domain[S],
        stores: DomainStores,
        clock: Clock,
        *,
        limit: int = 1_000_000,
        cache: LruCache[LiveState] | None = None,
        role: str = ROLE,
    ) -> None:
        """Queriers of one domain in one event loop may share a cache; without one none is used.

        `role` names whom the look-ups in the cache are counted for.
        """
        self._domain, self._stores = domain, stores
        cache = LruCache(0) if cache is None else cache
        self.latest_states = LatestStates(domain, stores, cache, role)
        self.views = ViewReader(domain, stores.views)
        self.saver = SnapshotSaver(
            domain, stores.snapshots, clock, limit=limit, name="queries' snapshot saver"
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Save snapshots of queried states for the length of the block."""
        async with self.saver.running():
            yield self

    # Queries of users

    async def events(
        self,
        aggregate_id: str,
        after: int = 0,
        limit: int | None = None,
        types: Collection[str] | None = None,
        up_to: int | None = None,
    ) -> AsyncIterator[EventRecord]:
        """Events with a version above `after`, and `up_to` another, in version order, in their
        newest schema; with `types` only events of these.

        All that are stored: those that an operator has discarded are marked so, and as they are.
        """
        if up_to is None and types is None:
            up_to = _page_end(after, limit)
        found = self._stores.events.read(aggregate_id, after, up_to, limit, types)
        async for event in found:
            yield self.upcast(event)

    async def effective_events(
        self,
        aggregate_id: str,
        after: int = 0,
        types: Collection[str] | None = None,
        up_to: int | None = None,
    ) -> AsyncIterator[EventRecord]:
        """The events that states are made of, as `events` otherwise: without discarded ones."""
        async for event in self.events(aggregate_id, after, None, types, up_to):
            if not event.discarded:
                yield event

    async def version(self, aggregate_id: str, moment: datetime | None = None) -> int:
        """The latest version, 0 without any event; with a `moment`, the highest version whose event
        is not later. InvalidRecord for a moment without a time zone."""
        if moment is None:
            heads = await self._stores.events.heads([aggregate_id])
            return heads.get(aggregate_id, NO_HEAD).readable
        if moment.tzinfo is None:
            raise InvalidRecord("time", "has no time zone")
        until = truncate_to_milliseconds(moment)
        return await self._stores.events.version_at(aggregate_id, until)

    async def feed(self, cursor: str, limit: int) -> Page:
        """Events of the whole domain from a cursor on ("": the beginning), in their newest schema.
        InvalidCursor for one that no feed gave."""
        page = await self._stores.events.feed(cursor, limit)
        return Page([self.upcast(event) for event in page.items], page.cursor)

    async def snapshot(self, aggregate_id: str) -> Snapshot | None:
        """The newest snapshot of the present shape of the domain's state."""
        shape = self._domain.state_shape
        return (await self._stores.snapshots.latest([aggregate_id], shape)).get(aggregate_id)

    async def latest(self, aggregate_id: str) -> StateAt[S] | None:
        """The state after all stored events, saved as a snapshot; None without any event."""
        live = await self.latest_states.build(aggregate_id)
        self.saver.save_copy_later(live)
        return self._answer(live)

    async def at(self, aggregate_id: str, version: int) -> StateAt[S] | None:
        """The state after `version` events; None when there are not that many."""
        nearest = await self._stores.snapshots.at(aggregate_id, version, self._domain.state_shape)
        live = restore(self._domain, nearest, aggregate_id)
        if live.version < version:
            async for event in self._stores.events.read(aggregate_id, live.version, version):
                live.fold(self._domain, event)
        return self._answer(live) if live.version == version else None

    async def at_time(self, aggregate_id: str, moment: datetime) -> StateAt[S] | None:
        """The state at the highest version whose event is not later; None when all are later.

        InvalidRecord for a moment without a time zone.
        """
        return await self.at(aggregate_id, await self.version(aggregate_id, moment))

    async def diff(self, aggregate_id: str, first: int, second: int) -> StateDiff | None:
        """The diff from the state at one version to the state at another, later or earlier; 0 is
        the version before any event. None when there are not that many events."""
        before = await self._data_at(aggregate_id, first)
        after = await self._data_at(aggregate_id, second)
        if before is None or after is None:
            return None
        return StateDiff(aggregate_id, first, second, diff_states(before, after))

    async def missing(
        self, aggregate_id: str, after: int, limit: int | None = None
    ) -> MissingEvents:
        """The events above a version that a reader has, and the latest version."""
        latest = await self.version(aggregate_id)
        up_to = min(latest, _page_end(after, limit) or latest)
        found = self._stores.events.read(aggregate_id, after, up_to, limit)
        events = [self.upcast(event) async for event in found]
        return MissingEvents(aggregate_id, after, latest, events)

    # Queries of the Manager

    async def find_stored(self, keys: Collection[EventKey]) -> dict[EventKey, EventRecord]:
        """The stored events among these, as they are stored."""
        return await self._stores.events.find(keys)

    def read_stored(self, aggregate_id: str, after: int) -> AsyncIterator[EventRecord]:
        """The events above a version, as they are stored."""
        return self._stores.events.read(aggregate_id, after)

    async def _data_at(self, aggregate_id: str, version: int) -> Data | None:
        if not version:
            return self._domain.dump_state(self._domain.state())
        found = await self.at(aggregate_id, version)
        return found.data if found else None

    def upcast(self, event: EventRecord) -> EventRecord:
        """An event in its newest schema; a discarded one, which no code may be able to read, as it
        is stored."""
        try:
            return event if event.discarded else self._domain.upcast(event)
        except Exception as error:
            raise ReplayFailed(self._domain.name, event, error) from error

    def _answer(self, live: LiveState) -> StateAt[S] | None:
        if not live.version:
            return None
        data = self._domain.dump_state(live.state)
        return StateAt(live.aggregate_id, live.version, live.state, data)


def _page_end(after: int, limit: int | None) -> int | None:
    """The last version of a page, as versions have no gaps: some servers read a range whole,
    whatever the limit."""
    return None if limit is None else min(after + limit, MAX_VERSION)


def diff_states(before: Data, after: Data) -> list[dict[str, Any]]:
    """A JSON Patch without `move` and `copy`: values are often equal by chance."""
    first, second = (msgspec.json.decode(msgspec.json.encode(state)) for state in (before, after))
    return list(JsonPatch.from_diff(first, second, optimization=False))
