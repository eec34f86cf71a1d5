"""Latest states, as synchronous commands are decided on them."""

from typing import Any, NamedTuple

from domains.declaration import Domain
from protocols.live import Live, load
from protocols.recent import Recent
from stores.contracts import Opened
from topics.event import EventRecord

AT_ONCE = 500


class Latest(NamedTuple):
    """A state with all stored events in it; `known`: the event that was asked for, if stored."""

    live: Live
    known: EventRecord | None


class States:
    """The latest states of one domain's aggregates; those used last stay in memory.

    A state is taken out while somebody works on it: whoever else comes builds another.
    """

    def __init__(self, domain: Domain[Any], stores: Opened, cached: int) -> None:
        self._domain, self._stores = domain, stores
        self._kept: Recent[Live] = Recent(cached)

    def __contains__(self, aggregate_id: str) -> bool:
        return aggregate_id in self._kept

    async def take(self, aggregate_id: str, event_id: str) -> Latest:
        """From memory or the newest snapshot, and the events after it: in one query, if these are
        few. ReplayFailed names the event that could not be folded."""
        live = self._kept.take(aggregate_id)
        if live is None:
            live = (await load(self._domain, self._stores, [aggregate_id]))[aggregate_id]
        events, known = await self._stores.events.since(
            aggregate_id, live.version, event_id, AT_ONCE
        )
        for event in events:
            live.fold(self._domain, event)
        if len(events) == AT_ONCE:
            known = await self._rest(live, event_id) or known
        return Latest(live, known)

    def keep(self, live: Live) -> None:
        """Put it (back) into memory."""
        self._kept.put(live.aggregate_id, live)
        self._kept.trim()

    async def _rest(self, live: Live, event_id: str) -> EventRecord | None:
        known = None
        async for event in self._stores.events.read(live.aggregate_id, live.version):
            live.fold(self._domain, event)
            if event.id == event_id:
                known = event
        return known
