"""Events, snapshots and states of one domain's aggregates."""

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Generic, TypeVar

from domains.declaration import Domain
from domains.payloads import Data, State
from protocols.live import Live, ReplayFailed, frozen, load, thawed
from stores.contracts import Clock, Opened, Snapshot
from topics.event import EventRecord

S = TypeVar("S", bound=State)


@dataclass(frozen=True)
class StateAt(Generic[S]):
    """The state of an aggregate after `version` events; `data` has it as plain JSON values."""

    aggregate_id: str
    version: int
    state: S
    data: Data


class Querier(Generic[S]):
    """Queries of one domain. States are built from the nearest snapshot and the events after it.
    ReplayFailed names the event whose evolve or upcaster raised.

    A latest state of at most `limit` bytes as JSON is saved as a snapshot on the way.
    """

    def __init__(
        self, domain: Domain[S], stores: Opened, clock: Clock, *, limit: int = 1_000_000
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

    async def snapshot(self, aggregate_id: str) -> Snapshot | None:
        """The newest snapshot of the domain's present state version."""
        version = self._domain.state_version
        return (await self._stores.snapshots.latest([aggregate_id], version)).get(aggregate_id)

    async def latest(self, aggregate_id: str) -> StateAt[S] | None:
        """The state after all stored events, saved as a snapshot; None without any event."""
        live = (await load(self._domain, self._stores, [aggregate_id]))[aggregate_id]
        await self._replay(live, None)
        if live.version > live.snapshot_version:
            shot = frozen(self._domain, live, self._clock.now(), self._limit)
            if shot:
                await self._stores.snapshots.save([shot])
        return self._answer(live)

    async def at(self, aggregate_id: str, version: int) -> StateAt[S] | None:
        """The state after `version` events; None when there are not that many."""
        nearest = await self._stores.snapshots.at(aggregate_id, version, self._domain.state_version)
        live = thawed(self._domain, nearest, aggregate_id)
        await self._replay(live, version)
        return self._answer(live) if live.version == version else None

    def _lift(self, event: EventRecord) -> EventRecord:
        try:
            return self._domain.lift(event)
        except Exception as error:
            raise ReplayFailed(self._domain.name, event, error) from error

    async def _replay(self, live: Live, upto: int | None) -> None:
        if upto is None or live.version < upto:
            async for event in self._stores.events.read(live.aggregate_id, live.version, upto):
                live.fold(self._domain, event)

    def _answer(self, live: Live) -> StateAt[S] | None:
        if not live.version:
            return None
        data = self._domain.freeze(live.state)
        return StateAt(live.aggregate_id, live.version, live.state, data)
