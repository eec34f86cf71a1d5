"""LatestStates: builds the latest states of aggregates, which the Querier answers with."""

import asyncio
from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

from eventfleet.model.domain import Domain
from eventfleet.states.live_state import LiveState, ReplayFailed, load_live_states
from eventfleet.states.lru_cache import LruCache, cache_statistics
from eventfleet.stores.contracts import DomainStores, Tail, TailQuery
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.topics.event import EventKey, EventRecord

MAX_BATCH_EVENTS = 500
SHORT_HISTORY_EVENTS = 100


class LatestStateQuery(NamedTuple):
    """Query: the latest state of an aggregate, whether the event `event_id` is stored, and which
    of the events `seen` are."""

    aggregate_id: str
    event_id: str
    seen: tuple[str, ...] = ()


class LatestState(NamedTuple):
    """Answer: a state with all stored events folded in, the queried event if it is stored, and
    those of the events `seen` that are."""

    live: LiveState
    event: EventRecord | None
    seen: Sequence[EventRecord] = ()


LatestStateResult = LatestState | ReplayFailed | ServerUnavailable | None
"""ReplayFailed or ServerUnavailable when the events can't be folded; None when there are too many
to be read with those of other aggregates."""


class LatestStates:
    """The latest states of one domain's aggregates.

    A state starts from the cache or the newest snapshot, without either from the beginning; the
    stored events after that are folded in. The store is read each time, so a cached state is never
    taken for the latest one, but by who calls `take_cached`.
    """

    def __init__(
        self, domain: Domain[Any], stores: DomainStores, cache: LruCache[LiveState], role: str
    ) -> None:
        """`role` names whom the look-ups in the cache are counted for."""
        self._domain, self._stores, self._cache = domain, stores, cache
        self._statistics = cache_statistics(domain.name, role, "states")

    def is_cached(self, aggregate_id: str) -> bool:
        return aggregate_id in self._cache

    def peek_cached(self, aggregate_id: str) -> LiveState | None:
        """The cached state as it is, which may not be the latest.

        None without one, and where other writers' events were found when it was last built, or
        noted since: then it is likely to be stale.
        """
        cached = self._cache.peek(aggregate_id)
        return None if cached is None or cached.contended else cached

    def take_cached(self, aggregate_id: str) -> LiveState | None:
        """Take the cached state out, for use as it is; `keep` returns it."""
        self._statistics.hits += 1
        return self._cache.take(aggregate_id)

    def note(self, event: EventRecord) -> None:
        """Note that the cached state is stale, if the event is above it.

        It is not folded in: only what was read from the store, or put there, may make a state.
        """
        cached = self._cache.peek(event.aggregate_id)
        if cached and event.version > cached.version:
            cached.contended = True

    async def build_all(self, queries: Sequence[LatestStateQuery]) -> list[LatestStateResult]:
        """Build the states of different aggregates: their events are read in one query if these
        are at most MAX_BATCH_EVENTS, otherwise aggregate by aggregate.

        The cached states are taken out; `keep` returns them. A query that comes meanwhile builds
        another. A single query is answered however many events there are.
        """
        cached = {query.aggregate_id: self._cache.take(query.aggregate_id) for query in queries}
        if len(queries) == 1 and None in cached.values():
            return [await self._build_cold(queries[0])]
        return await self._build_all(queries, cached, await self._bases(cached))

    async def _build_cold(self, query: LatestStateQuery) -> LatestStateResult:
        """Build a state that is not cached: snapshot and events are read side by side, which
        suffices for a short history.

        A snapshot above these events was saved meanwhile: then they are read again, since the
        queried event may be among those between.
        """
        aggregate_id, event_id, seen = query
        bases, read = await asyncio.gather(
            self._bases({aggregate_id: None}),
            self._stores.events.tails(
                [TailQuery(aggregate_id, 0, event_id, seen)], SHORT_HISTORY_EVENTS
            ),
        )
        live, events = bases[aggregate_id], read[0].events if read else []
        if read and live.version <= (events[-1].version if events else 0):
            behind = [event for event in events if event.version > live.version]
            return self._fold(live, read[0]._replace(events=behind))
        (result,) = await self._build_all([query], {aggregate_id: None}, bases)
        return result

    async def _build_all(
        self,
        queries: Sequence[LatestStateQuery],
        cached: dict[str, LiveState | None],
        bases: dict[str, LiveState],
    ) -> list[LatestStateResult]:
        wanted = [
            TailQuery(each, bases[each].version, event_id, seen) for each, event_id, seen in queries
        ]
        # One query for all, or one for each where that is too much.
        read = await self._stores.events.tails(wanted, MAX_BATCH_EVENTS)
        tails: Sequence[Tail | None] = read or [await self._tail(query) for query in wanted]
        for query, tail in zip(queries, tails, strict=True):
            known = cached[query.aggregate_id] is not None
            bases[query.aggregate_id].contended = known and (tail is None or bool(tail.events))
        if len(queries) == 1 and tails[0] is None:
            ((aggregate_id, event_id, seen),) = queries
            return [await self._stream(bases[aggregate_id], event_id, seen)]
        return [
            self._fold(bases[query.aggregate_id], tail)
            for query, tail in zip(queries, tails, strict=True)
        ]

    async def build(self, aggregate_id: str) -> LiveState:
        """Build one state, which shares nothing with the cache: no later fold, and nothing that the
        caller does with it, changes the other. ReplayFailed or ServerUnavailable when its events
        can't be folded."""
        cached = self._cache.get(aggregate_id)
        bases = await self._bases({aggregate_id: cached and cached.copy()})
        result = await self._stream(bases[aggregate_id])
        if not isinstance(result, LatestState):
            raise result
        if not cached:
            return result.live
        self._refresh(result.live)
        return deepcopy(result.live)

    def _refresh(self, live: LiveState) -> None:
        """Replace the cached state by a newer one; a state that is taken out stays out."""
        cached = self._cache.peek(live.aggregate_id)
        if cached and cached.version < live.version:
            self._cache.put(live.aggregate_id, live)

    def keep(self, states: Iterable[LiveState]) -> None:
        """Put states (back) into the cache."""
        for live in states:
            self._cache.put(live.aggregate_id, live)

    async def _bases(self, cached: dict[str, LiveState | None]) -> dict[str, LiveState]:
        """The states that the newest events are to be folded into."""
        bases = {aggregate_id: live for aggregate_id, live in cached.items() if live}
        self._statistics.add(len(bases), len(cached) - len(bases))
        if missing := [aggregate_id for aggregate_id in cached if aggregate_id not in bases]:
            bases |= await load_live_states(self._domain, self._stores, missing)
        return bases

    async def _tail(self, query: TailQuery) -> Tail | None:
        """None for a history that is too long to be read in one go."""
        tails = await self._stores.events.tails([query], MAX_BATCH_EVENTS)
        return tails[0] if tails else None

    def _fold(self, live: LiveState, tail: Tail | None) -> LatestStateResult:
        if tail is None:
            self.keep((live,))
            return None
        try:
            for event in tail.events:
                live.fold(self._domain, event)
        except (ReplayFailed, ServerUnavailable) as error:
            return error
        return LatestState(live, tail.found, tail.seen)

    async def _stream(
        self, live: LiveState, event_id: str = "", seen: tuple[str, ...] = ()
    ) -> LatestState | ReplayFailed | ServerUnavailable:
        """Fold the events as they are read, however many there are."""
        events = self._stores.events
        try:
            keys = [EventKey(live.aggregate_id, each) for each in (event_id, *seen) if each]
            stored = await events.find(keys) if keys else {}
            found = stored.get(EventKey(live.aggregate_id, event_id))
            async for event in events.read(live.aggregate_id, live.version):
                live.fold(self._domain, event)
                found = event if event.id == event_id else found
        except (ReplayFailed, ServerUnavailable) as error:
            return error
        return LatestState(live, found, [*stored.values()])
