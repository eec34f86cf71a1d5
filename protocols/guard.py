"""The lag guard: how far append has surely come, in the time of the markers' clock."""

from stores.contracts import Life, LogReader, Markers
from topics.names import Topics, group


class LagGuard:
    """For each partition, a time up to which all that was produced has been appended.

    A marker that is missing may be made anew from the store only if append has passed everything
    that was produced under the marker before it: since this life began, and within half an expiry.
    """

    def __init__(
        self, domain: str, markers: Markers, reader: LogReader, *, prefix: str, expiry: float
    ) -> None:
        self._markers, self._reader, self._expiry = markers, reader, expiry
        self._events = Topics.of(domain).events
        self._group = group(prefix, domain, "append")
        self._upto: dict[int, float] = {}
        self._committed: dict[int, int] = {}

    async def beat(self) -> None:
        """Look again: first the time, then the ends, then how far append has committed."""
        life = await self._markers.life()
        bounds = await self._reader.bounds(self._events)
        self._committed = await self._reader.committed(self._group, self._events)
        for partition, limit in bounds.items():
            if self._committed.get(partition, 0) >= limit.end:
                self._upto[partition] = life.now

    def holds(self, partition: int, life: Life) -> bool:
        """Whether the store may be trusted, seen from a moment of a life."""
        needed = max(life.began, life.now - self._expiry / 2)
        return self._upto.get(partition, float("-inf")) >= needed

    def passed(self, partition: int, offset: int) -> bool:
        """Whether append has committed past an offset."""
        return self._committed.get(partition, 0) > offset
