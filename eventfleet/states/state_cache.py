"""Latest states, as synchronous commands are decided on them."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from eventfleet.model.domain import Domain
from eventfleet.states.live_state import LiveState, ReplayFailed, load_live_states
from eventfleet.states.lru_cache import LruCache
from eventfleet.stores.contracts import DomainStores, Tail, TailQuery
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.topics.event import EventRecord

AT_ONCE = 500


class Wanted(NamedTuple):
    """The latest state of an aggregate, and whether an event of it is stored."""

    aggregate_id: str
    event_id: str


class Latest(NamedTuple):
    """A state with all stored events in it; `known`: the event that was asked for, if stored."""

    live: LiveState
    known: EventRecord | None


Taken = Latest | ReplayFailed | ServerUnavailable | None


class States:
    """The latest states of one domain's aggregates; those used last stay in memory.

    A state is taken out while somebody works on it: whoever else comes builds another.
    """

    def __init__(self, domain: Domain[Any], stores: DomainStores, cached: int) -> None:
        self._domain, self._stores = domain, stores
        self._kept: LruCache[LiveState] = LruCache(cached)

    def __contains__(self, aggregate_id: str) -> bool:
        return aggregate_id in self._kept

    async def take(self, wanted: Sequence[Wanted]) -> list[Taken]:
        """The states of different aggregates, from memory or the newest snapshots, and the events
        after them: in one query, if these are few.

        ReplayFailed or Unavailable for one whose events can't be folded; None for one that has too
        many to be read with others: who wants it alone gets it.
        """
        lives = await self._bases([aggregate_id for aggregate_id, _ in wanted])
        seen = await self._look(
            [
                TailQuery(live.aggregate_id, live.version, event_id)
                for live, (_, event_id) in zip(lives, wanted, strict=True)
            ]
        )
        if len(wanted) == 1 and seen[0] is None:
            return [await self._whole(lives[0], wanted[0].event_id)]
        return [*map(self._caught_up, lives, seen)]

    def keep(self, lives: Iterable[LiveState]) -> None:
        """Put them (back) into memory."""
        for live in lives:
            self._kept.put(live.aggregate_id, live)
        self._kept.trim()

    async def _bases(self, aggregate_ids: Sequence[str]) -> list[LiveState]:
        """The states that their newest events are missing from."""
        kept = [self._kept.take(aggregate_id) for aggregate_id in aggregate_ids]
        missing = [i for i, live in zip(aggregate_ids, kept, strict=True) if live is None]
        loaded = await load_live_states(self._domain, self._stores, missing) if missing else {}
        return [live or loaded[i] for i, live in zip(aggregate_ids, kept, strict=True)]

    async def _look(self, looks: Sequence[TailQuery]) -> Sequence[Tail | None]:
        """For all together; each alone, where that is too much at once."""
        seen = await self._stores.events.tails(looks, AT_ONCE)
        return seen or [await self._alone(look) for look in looks]

    async def _alone(self, look: TailQuery) -> Tail | None:
        """None for a history that is too long to be read in one go."""
        seen = await self._stores.events.tails([look], AT_ONCE)
        return seen[0] if seen else None

    def _caught_up(self, live: LiveState, seen: Tail | None) -> Taken:
        if seen is None:
            self.keep((live,))
            return None
        try:
            for event in seen.events:
                live.fold(self._domain, event)
        except (ReplayFailed, ServerUnavailable) as error:
            return error
        return Latest(live, seen.found)

    async def _whole(self, live: LiveState, event_id: str) -> Taken:
        """Folded as it is read."""
        try:
            known = (await self._stores.events.find([event_id])).get(event_id)
            async for event in self._stores.events.read(live.aggregate_id, live.version):
                live.fold(self._domain, event)
                known = event if event.id == event_id else known
        except (ReplayFailed, ServerUnavailable) as error:
            return error
        return Latest(live, known)
