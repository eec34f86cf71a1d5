"""LagGuard: how far append has surely come, in the time of the markers' clock."""

from typing import NamedTuple

from eventfleet.stores.contracts import Incarnation, LogReader, Markers
from eventfleet.topics.names import Topics, consumer_group


class Target(NamedTuple):
    """A time of one incarnation, and the end of a partition's log after it."""

    incarnation: Incarnation
    end: int


class LagGuard:
    """Keeps, for each partition, a time up to which all that was produced has been appended.

    A time counts in its own incarnation only, and until that one's clock steps back: another
    server's clock may be far behind.

    A missing marker may be made anew from the store only if append has passed everything that was
    produced under the marker before it: since this incarnation began, and within half an expiry.
    """

    def __init__(
        self, domain: str, markers: Markers, reader: LogReader, *, prefix: str, expiry: float
    ) -> None:
        """`expiry`: that of the markers, in seconds; `prefix`: of the consumer groups."""
        self._markers, self._reader, self._expiry = markers, reader, expiry
        self._events = Topics.of(domain).events
        self._group = consumer_group(prefix, domain, "append")
        self._appended_until: dict[int, Incarnation] = {}
        self._targets: dict[int, Target] = {}
        self._last_update: Incarnation | None = None
        self._committed: dict[int, int] = {}
        self._incarnation: Incarnation | None = None
        self.update_wanted = False  # since the last update, a question was answered by no

    async def incarnation(self) -> Incarnation:
        """The incarnation and time last seen."""
        return self._incarnation or await self.refresh_incarnation()

    async def refresh_incarnation(self) -> Incarnation:
        """Read the present incarnation and time."""
        self._incarnation = await self._markers.incarnation()
        return self._incarnation

    async def update(self) -> None:
        """Read first the time, then the log's ends, then how far append has committed."""
        self.update_wanted = False
        incarnation = await self.refresh_incarnation()
        if not _follows(incarnation, self._last_update):
            self._targets.clear()
            self._appended_until.clear()
        self._last_update = incarnation
        for partition, limit in (await self._reader.watermarks(self._events)).items():
            self._targets.setdefault(partition, Target(incarnation, limit.end))
        self._committed = await self._reader.committed(self._group, self._events)
        for partition, target in list(self._targets.items()):
            if self._committed.get(partition, 0) >= target.end:
                self._appended_until[partition] = target.incarnation
                del self._targets[partition]

    def is_caught_up(self, partition: int, incarnation: Incarnation) -> bool:
        """Check that the store may be trusted, seen from a moment of an incarnation."""
        appended = self._appended_until.get(partition)
        if not appended or appended.id != incarnation.id:
            return self._noted(False)
        needed = max(incarnation.began, incarnation.now - self._expiry / 2)
        return self._noted(appended.now >= needed)

    def is_behind(self, partition: int) -> bool:
        """Check that append is not known to have caught up, by the last look at the clock."""
        last = self._incarnation
        return last is not None and not self.is_caught_up(partition, last)

    def has_appended(self, partition: int, offset: int) -> bool:
        """Check that append has committed past an offset."""
        return self._noted(self._committed.get(partition, 0) > offset)

    def _noted(self, answer: bool) -> bool:
        self.update_wanted = self.update_wanted or not answer
        return answer


def _follows(incarnation: Incarnation, earlier: Incarnation | None) -> bool:
    """Check that both are looks at one clock, which has not stepped back between them."""
    return earlier is not None and incarnation.id == earlier.id and incarnation.now >= earlier.now
