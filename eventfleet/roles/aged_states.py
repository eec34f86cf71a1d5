"""AgedStates: the states of aggregates that nobody writes to any more.

The passing of time alone may make their snapshots due.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from eventfleet.model.domain import Domain
from eventfleet.roles.parking import Parking
from eventfleet.states.live_state import LiveState, load_live_states
from eventfleet.states.lru_cache import LruCache
from eventfleet.stores.contracts import Clock, DomainStores

MAX_AGED_STATES = 500
SWEEP_PAGE_AGGREGATES = 100
SWEEP_INTERVAL = timedelta(minutes=1)


class AgedStates:
    """The states past their snapshot in one partition, a bounded number at each look.

    They matter where the snapshot rule needs a clock, so that they `are_timed`.
    """

    def __init__(
        self,
        domain: Domain[Any],
        partition: int,
        stores: DomainStores,
        parking: Parking,
        clock: Clock,
        states: LruCache[LiveState],
    ) -> None:
        self._domain, self._partition, self._stores = domain, partition, stores
        self._parking, self._clock, self._states = parking, clock, states
        self.are_timed = domain.snapshot is not None and domain.snapshot.needs_clock
        # The cached states past their snapshot, those looked at longest ago first.
        self._changed: dict[str, None] = {}
        self._sweep_cursor = ""
        self._swept_at: datetime | None = None

    def clear(self) -> None:
        self._changed.clear()
        self._sweep_cursor, self._swept_at = "", None

    def note(self, states: Iterable[LiveState]) -> None:
        """Note cached states, which are past their snapshot or no longer."""
        for state in states:
            if state.version > state.snapshot_version:
                self._changed.setdefault(state.aggregate_id)
            else:
                self._changed.pop(state.aggregate_id, None)

    def drop(self, states: Iterable[LiveState]) -> None:
        """Forget states that are cached no longer."""
        for state in states:
            self._changed.pop(state.aggregate_id, None)

    def cached(self) -> list[LiveState]:
        """The next cached states to look at, longest unseen first; they go to the queue's end."""
        keys = list(islice(self._changed, MAX_AGED_STATES))
        for key in keys:
            self._changed[key] = self._changed.pop(key)
        unparked = [key for key in keys if key not in self._parking.aggregates]
        return [state for key in unparked if (state := self._states.get(key))]

    async def behind(self) -> list[tuple[LiveState, int]]:
        """The states past their snapshot and not cached, of one page of the aggregates; each with
        the version that is stored."""
        now = self._clock.now()
        if not self._sweep_cursor:
            if self._swept_at and now - self._swept_at < SWEEP_INTERVAL:
                return []
            self._swept_at = now
        events = self._stores.events
        page = await events.aggregates(self._sweep_cursor, SWEEP_PAGE_AGGREGATES, self._partition)
        self._sweep_cursor = page.cursor if len(page.items) == SWEEP_PAGE_AGGREGATES else ""
        parked = self._parking.aggregates
        uncached = [key for key in page.items if key not in self._states and key not in parked]
        if not uncached:
            return []
        heads = await events.heads(uncached)
        states = (await load_live_states(self._domain, self._stores, uncached)).values()
        versions = [(state, heads[state.aggregate_id].readable) for state in states]
        return [(state, version) for state, version in versions if version > state.version]
