"""Latest states, as synchronous commands are decided on them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from domains.declaration import Domain
from protocols.live import Live, load
from protocols.recent import Recent
from service.together import Together
from stores.contracts import Look, Opened, Since
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
        self._looks = Together(self._look)
        self._loads = Together(self._load)
        self._kept: Recent[Live] = Recent(cached)

    def __contains__(self, aggregate_id: str) -> bool:
        return aggregate_id in self._kept

    async def take(self, aggregate_id: str, event_id: str) -> Latest:
        """From memory or the newest snapshot, and the events after it: in one query, with those of
        others, if these are few. ReplayFailed names the event that could not be folded."""
        live = self._kept.take(aggregate_id)
        if live is None:
            live = await self._loads.ask(aggregate_id)
        seen = await self._looks.ask(Look(aggregate_id, live.version, event_id))
        if seen is None:
            return Latest(live, await self._all(live, event_id))
        for event in seen.events:
            live.fold(self._domain, event)
        return Latest(live, seen.known)

    def keep(self, live: Live) -> None:
        """Put it (back) into memory."""
        self._kept.put(live.aggregate_id, live)
        self._kept.trim()

    async def close(self) -> None:
        """What is not read yet is given up."""
        await self._loads.close()
        await self._looks.close()

    async def _load(self, aggregate_ids: Sequence[str]) -> Sequence[Live]:
        """One for each that asks: an aggregate may be asked for twice."""
        found = await load(self._domain, self._stores, {*aggregate_ids})
        return [found[aggregate_id].copy() for aggregate_id in aggregate_ids]

    async def _look(self, looks: Sequence[Look]) -> Sequence[Since | None]:
        """For all together; each alone, where that is too much at once."""
        seen = await self._stores.events.since(looks, AT_ONCE)
        return seen or [await self._alone(look) for look in looks]

    async def _alone(self, look: Look) -> Since | None:
        """None for a history that is too long to be read in one go."""
        seen = await self._stores.events.since([look], AT_ONCE)
        return seen[0] if seen else None

    async def _all(self, live: Live, event_id: str) -> EventRecord | None:
        """Folded as it is read; the event that was asked for, if stored."""
        known = (await self._stores.events.find([event_id])).get(event_id)
        async for event in self._stores.events.read(live.aggregate_id, live.version):
            live.fold(self._domain, event)
            known = event if event.id == event_id else known
        return known
