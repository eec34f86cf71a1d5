"""LruCache: a bounded cache that keeps what was used last; and the statistics of caches."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

V = TypeVar("V")


class LruCache(Generic[V]):
    """Values by aggregate id; those used longest ago are dropped beyond `capacity`.

    The longest unused values come first. A plain dict does in C, for all keys of a chunk at once,
    what an OrderedDict does key by key.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: dict[str, V] = {}
        self.peek = self._values.get
        """The value, or None; this does not count as a use."""

    def get(self, key: str) -> V | None:
        """The value, or None."""
        value = self._values.pop(key, None)
        if value is not None:
            self._values[key] = value
        return value

    def take(self, key: str) -> V | None:
        """Remove the value and return it; None without one."""
        return self._values.pop(key, None)

    def get_all(self, keys: Iterable[str]) -> dict[str, V]:
        """The cached values among these keys."""
        values, take = self._values, self._values.pop
        found = {key: take(key) for key in keys if key in values}
        values.update(found)
        return found

    def put(self, key: str, value: V) -> list[V]:
        """Put a value, and return what is dropped for it."""
        self._values.pop(key, None)
        self._values[key] = value
        return self.trim() if len(self._values) > self._capacity else []

    def put_all(self, values: Mapping[str, V]) -> None:
        """Put many at once, and drop nothing before `trim`. This does not count as a use of those
        that are cached already."""
        self._values.update(values)

    def drop(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._values.pop(key, None)

    def clear(self) -> None:
        self._values.clear()

    def trim(self) -> list[V]:
        """Drop what is beyond the capacity, and return it."""
        over = max(0, len(self._values) - self._capacity)
        return [self._values.pop(key) for key in [*islice(self._values, over)]]

    def take_all(self) -> list[V]:
        """Remove all values and return them."""
        values = [*self._values.values()]
        self._values.clear()
        return values

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: str) -> bool:
        return key in self._values


# The hits and misses of a process


class CacheName(NamedTuple):
    """The cache of one role of one domain: its `heads`, or its `states`."""

    domain: str
    role: str
    cache: str


class CacheStatistics:
    """The aggregates that were looked for in a cache: found, and not found."""

    __slots__ = ("hits", "misses")

    def __init__(self) -> None:
        self.hits = self.misses = 0

    def add(self, hits: int, misses: int) -> None:
        """Count a look-up of several aggregates."""
        self.hits += hits
        self.misses += misses


_statistics: dict[CacheName, CacheStatistics] = {}


def cache_statistics(domain: str, role: str, cache: str) -> CacheStatistics:
    """The statistics of a cache; the owners of all partitions of a role share them."""
    return _statistics.setdefault(CacheName(domain, role, cache), CacheStatistics())


def all_cache_statistics() -> Iterator[tuple[CacheName, CacheStatistics]]:
    """The statistics of all caches of the process."""
    yield from list(_statistics.items())
