"""The hits and misses of this process's caches of aggregates."""

from collections.abc import Iterator
from typing import NamedTuple


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
