"""Events, snapshots and states of one domain's aggregates."""

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec
from jsonpatch import JsonPatch

from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Data, State
from eventfleet.states.live_state import (
    LiveState,
    ReplayFailed,
    load_live_states,
    restore,
    take_snapshot,
)
from eventfleet.stores.contracts import NO_HEAD, Clock, DomainStores, Page, Snapshot
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EventRecord, truncate_to_milliseconds

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
    """What turns the state at version `first` into that at `second`.

    `patch` is a JSON Patch (RFC 6902) of `add`, `remove` and `replace` only.
    """

    aggregate_id: str
    first: int
    second: int
    patch: list[dict[str, Any]]


@dataclass(frozen=True)
class MissingEvents:
    """What a reader lacks that has an aggregate's events up to version `after`.

    `latest` is the stored version, 0 without any event. `events` are the next ones, in order, up to
    the limit that was asked for.
    """

    aggregate_id: str
    after: int
    latest: int
    events: list[EventRecord]

    @property
    def ahead(self) -> bool:
        """Whether the reader claims a version that is not stored: it has read something else."""
        return self.after > self.latest


class Querier(Generic[S]):
    """Queries of one domain. States are built from the nearest snapshot and the events after it.
    ReplayFailed names the event whose evolve or upcaster raised.

    A latest state of at most `limit` bytes as JSON is saved as a snapshot on the way.
    """

    def __init__(
        self, domain: Domain[S], stores: DomainStores, clock: Clock, *, limit: int = 1_000_000
    ) -> None:
        self._domain, self._stores, self._clock, self._limit = domain, stores, clock, limit

    async def events(
        self,
        aggregate_id: str,
        after: int = 0,
        limit: int | None = None,
        types: Collection[str] | None = None,
    ) -> AsyncIterator[EventRecord]:
        """Events with a version above `after`, in version order, in their newest schema."""
        found = self._stores.events.read(aggregate_id, after, None, limit, types)
        async for event in found:
            yield self._lift(event)

    async def feed(self, cursor: str, limit: int) -> Page:
        """Events of the whole domain from a cursor on ("": the beginning), in their newest schema.
        InvalidCursor for one that no feed gave."""
        page = await self._stores.events.feed(cursor, limit)
        return Page([self._lift(event) for event in page.items], page.cursor)

    async def snapshot(self, aggregate_id: str) -> Snapshot | None:
        """The newest snapshot of the domain's present state version."""
        version = self._domain.state_version
        return (await self._stores.snapshots.latest([aggregate_id], version)).get(aggregate_id)

    async def latest(self, aggregate_id: str) -> StateAt[S] | None:
        """The state after all stored events, saved as a snapshot; None without any event."""
        live = (await load_live_states(self._domain, self._stores, [aggregate_id]))[aggregate_id]
        await self._replay(live, None)
        if live.version > live.snapshot_version:
            shot = take_snapshot(self._domain, live, self._clock.now(), self._limit)
            if shot:
                await self._stores.snapshots.save([shot])
        return self._answer(live)

    async def at(self, aggregate_id: str, version: int) -> StateAt[S] | None:
        """The state after `version` events; None when there are not that many."""
        nearest = await self._stores.snapshots.at(aggregate_id, version, self._domain.state_version)
        live = restore(self._domain, nearest, aggregate_id)
        await self._replay(live, version)
        return self._answer(live) if live.version == version else None

    async def at_time(self, aggregate_id: str, moment: datetime) -> StateAt[S] | None:
        """The state at the highest version whose event is not later; None when all are later.

        InvalidRecord for a moment without a time zone.
        """
        if moment.tzinfo is None:
            raise InvalidRecord("time", "has no time zone")
        until = truncate_to_milliseconds(moment)
        version = await self._stores.events.version_at(aggregate_id, until)
        return await self.at(aggregate_id, version)

    async def diff(self, aggregate_id: str, first: int, second: int) -> StateDiff | None:
        """From the state at one version to that at another, later or earlier; 0 is the beginning.

        None when there are not that many events.
        """
        before = await self._plain_at(aggregate_id, first)
        after = await self._plain_at(aggregate_id, second)
        if before is None or after is None:
            return None
        return StateDiff(aggregate_id, first, second, patch_between(before, after))

    async def missing(
        self, aggregate_id: str, after: int, limit: int | None = None
    ) -> MissingEvents:
        """The events above a version that a reader has, and the latest version."""
        heads = await self._stores.events.heads([aggregate_id])
        latest = heads.get(aggregate_id, NO_HEAD).version
        found = self._stores.events.read(aggregate_id, after, latest, limit)
        return MissingEvents(
            aggregate_id, after, latest, [self._lift(event) async for event in found]
        )

    async def _plain_at(self, aggregate_id: str, version: int) -> Data | None:
        if not version:
            return self._domain.dump_state(self._domain.state())
        found = await self.at(aggregate_id, version)
        return found.data if found else None

    def _lift(self, event: EventRecord) -> EventRecord:
        try:
            return self._domain.upcast(event)
        except Exception as error:
            raise ReplayFailed(self._domain.name, event, error) from error

    async def _replay(self, live: LiveState, upto: int | None) -> None:
        if upto is None or live.version < upto:
            async for event in self._stores.events.read(live.aggregate_id, live.version, upto):
                live.fold(self._domain, event)

    def _answer(self, live: LiveState) -> StateAt[S] | None:
        if not live.version:
            return None
        data = self._domain.dump_state(live.state)
        return StateAt(live.aggregate_id, live.version, live.state, data)


def patch_between(before: Data, after: Data) -> list[dict[str, Any]]:
    """A JSON Patch. What is equal elsewhere by chance is not said to have moved."""
    first, second = (msgspec.json.decode(msgspec.json.encode(state)) for state in (before, after))
    return list(JsonPatch.from_diff(first, second, optimization=False))
