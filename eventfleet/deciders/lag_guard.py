"""The lag guard: how far append has surely come, in the time of the markers' clock."""

from eventfleet.stores.contracts import Incarnation, LogReader, Markers
from eventfleet.topics.names import Topics, consumer_group


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
        self._group = consumer_group(prefix, domain, "append")
        self._upto: dict[int, float] = {}
        self._aims: dict[int, tuple[float, int]] = {}  # a time, and where the log ended after it
        self._committed: dict[int, int] = {}
        self._incarnation: Incarnation | None = None
        self.awaited = False  # since the last beat, somebody has asked for more than it can tell

    async def incarnation(self) -> Incarnation:
        """The life and time last seen."""
        return self._incarnation or await self.look()

    async def look(self) -> Incarnation:
        """The present life and time, asked for now."""
        self._incarnation = await self._markers.incarnation()
        return self._incarnation

    async def beat(self) -> None:
        """Look again: first the time, then the ends, then how far append has committed."""
        self.awaited = False
        incarnation = await self.look()
        for partition, limit in (await self._reader.watermarks(self._events)).items():
            self._aims.setdefault(partition, (incarnation.now, limit.end))
        self._committed = await self._reader.committed(self._group, self._events)
        for partition, (time, end) in list(self._aims.items()):
            if self._committed.get(partition, 0) >= end:
                self._upto[partition] = time
                del self._aims[partition]

    def holds(self, partition: int, incarnation: Incarnation) -> bool:
        """Whether the store may be trusted, seen from a moment of a life."""
        needed = max(incarnation.began, incarnation.now - self._expiry / 2)
        return self._told(self._upto.get(partition, float("-inf")) >= needed)

    def passed(self, partition: int, offset: int) -> bool:
        """Whether append has committed past an offset."""
        return self._told(self._committed.get(partition, 0) > offset)

    def _told(self, answer: bool) -> bool:
        self.awaited = self.awaited or not answer
        return answer
