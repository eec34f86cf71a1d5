"""AppendHeads: the heads of aggregates that append counts versions from, cached by its owner."""

from collections.abc import Sequence

from eventfleet.roles.append_parking import ROLE
from eventfleet.roles.append_plan import AppendItem, FastPlan, Heads, Plan
from eventfleet.states.lru_cache import LruCache, cache_statistics
from eventfleet.stores.contracts import NO_HEAD, EventStore, Head


class AppendHeads:
    """The heads of one partition, up to `cached` of them after `trim`."""

    def __init__(self, domain: str, store: EventStore, cached: int) -> None:
        self._store = store
        self._cache: LruCache[Head] = LruCache(cached)
        self._statistics = cache_statistics(domain, ROLE, "heads")
        self.clear, self.trim = self._cache.clear, self._cache.trim

    async def of(self, items: Sequence[AppendItem]) -> Heads:
        """The heads of the items' aggregates; those not cached are loaded into the cache."""
        aggregate_ids = {item.event.aggregate_id for item in items}
        heads = self._cache.get_all(aggregate_ids)
        misses = aggregate_ids - heads.keys()
        self._statistics.add(len(heads), len(misses))
        if misses:
            loaded = dict.fromkeys(misses, NO_HEAD) | await self._store.heads(misses)
            self._cache.put_all(loaded)
            heads |= loaded
        return heads

    def remember(self, plan: Plan | FastPlan) -> None:
        """Keep the heads after the writes of a plan, which are acknowledged."""
        self._cache.put_all(plan.heads)

    def forget(self, items: Sequence[AppendItem]) -> None:
        """Forget the heads of the items' aggregates, which another writer may have moved."""
        self._cache.drop(item.event.aggregate_id for item in items)
