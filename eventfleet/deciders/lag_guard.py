"""LagGuard: what append parks, and how far it has come, in the time of the markers' clock."""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import NamedTuple

from eventfleet.deciders.incarnation_reader import IncarnationReader
from eventfleet.stores.contracts import Clock, EventReader, Incarnation, LogReader

MAX_DRIFT = 0.1
MAX_DRIFT_SECONDS = 0.1
"""Beyond these, between two looks, Redis' clock was set back."""

UPDATE_SECONDS = 1.0
REST_SECONDS = 10.0
"""A guard that nobody has asked for this long is at rest."""
REST_UPDATE_SECONDS = 10.0
MAX_REST_SHARE = 0.02
"""How much of the markers' expiry may pass between two updates at rest."""


class Look(NamedTuple):
    """An incarnation and its time as read between two moments of this process."""

    incarnation: Incarnation
    asked_at: datetime
    answered_at: datetime


class Target(NamedTuple):
    """A time of one incarnation, and the end of a partition's log after it."""

    incarnation: Incarnation
    end: int


class LagGuard:
    """Keeps, for each partition, a time up to which all that was produced has been appended.

    A time counts in its own incarnation only, and until that one's clock is set back: another
    server's clock may be far behind.

    A missing marker may be made anew from the store only if append has passed everything that was
    produced under the marker before it: since this incarnation began, and within half an expiry.
    """

    def __init__(
        self,
        incarnations: IncarnationReader,
        reader: LogReader,
        events: EventReader,
        clock: Clock,
        *,
        group: str,
        topic: str,
        expiry: float,
    ) -> None:
        """`expiry`: that of the markers, in seconds; `group`: append's, which takes `topic`."""
        self._incarnations, self._reader, self._events = incarnations, reader, events
        self._clock, self._expiry = clock, expiry
        self.parked: Collection[str] = frozenset()
        self._source = group, topic
        self._appended_until: dict[int, Incarnation] = {}
        self._targets: dict[int, Target] = {}
        self._committed: dict[int, int] = {}
        self._look: Look | None = None
        self._resets = 0
        self._asked_at = clock.steady()
        self.want_update: Callable[[], None] = lambda: None
        """Called when a question was answered by no, or the first one came after a rest."""
        self.on_update: Callable[[], None] = lambda: None

    @property
    def update_seconds(self) -> float:
        """The seconds until the next update, unless one is wanted sooner."""
        if (self._clock.steady() - self._asked_at).total_seconds() < REST_SECONDS:
            return UPDATE_SECONDS
        return max(UPDATE_SECONDS, min(REST_UPDATE_SECONDS, self._expiry * MAX_REST_SHARE))

    async def incarnation(self) -> Incarnation:
        """The incarnation and time last seen; after a rest or half an expiry, the present ones."""
        rested = self.update_seconds > UPDATE_SECONDS
        self._asked_at = self._clock.steady()
        if rested:
            self.want_update()
        look = self._look
        if rested or look is None or self._is_outdated(look):
            return await self.refresh_incarnation()
        return look.incarnation

    def _is_outdated(self, look: Look) -> bool:
        """Check that half an expiry has passed for this process, whatever Redis' clock says: it may
        have been set back since."""
        return (self._clock.steady() - look.answered_at).total_seconds() >= self._expiry / 2

    async def refresh_incarnation(self, *, anew: bool = False) -> Incarnation:
        """Read the present incarnation and time; which one is the first, again only if `anew`."""
        await self._incarnations.find_first(anew=anew)
        asked_at = self._clock.steady()
        incarnation = await self._incarnations.read()
        look = Look(incarnation, asked_at, self._clock.steady())
        if self._look and not _follows(look, self._look):
            self._targets.clear()
            self._appended_until.clear()
            self._resets += 1
        self._look = look
        return incarnation

    def marker_time(self, moment: datetime) -> float:
        """The markers' time at a moment of the steady clock, or a little before it, by the last
        look."""
        assert self._look
        passed = (moment - self._look.answered_at).total_seconds()
        return self._look.incarnation.now + passed

    async def update(self) -> None:
        """Read first the time, then the log's ends, then how far append has committed, then the
        aggregates that it parks."""
        incarnation = await self.refresh_incarnation(anew=True)
        resets, watermarks = self._resets, await self._reader.watermarks(self._source[1])
        if resets == self._resets:
            for partition, limit in watermarks.items():
                self._targets.setdefault(partition, Target(incarnation, limit.end))
        self._committed = await self._reader.committed(*self._source)
        self.parked = await self._events.parked()
        for partition, target in list(self._targets.items()):
            if self._committed.get(partition, 0) >= target.end:
                self._appended_until[partition] = target.incarnation
                del self._targets[partition]
        self.on_update()

    def is_caught_up(self, partition: int, incarnation: Incarnation) -> bool:
        """Check that the store may be trusted, seen from a moment of an incarnation."""
        appended = self._appended_until.get(partition)
        if not appended or appended.id != incarnation.id:
            return self._noted(False)
        needed = max(incarnation.began, incarnation.now - self._expiry / 2)
        return self._noted(appended.now >= needed)

    def is_young(self, incarnation: Incarnation) -> bool:
        """Check whether a marker that is made now is tentative."""
        age = incarnation.now - incarnation.began
        return not incarnation.is_first and age < self._expiry

    def is_behind(self, partition: int) -> bool:
        """Check that append is not known to have caught up, by the last look at the clock."""
        look = self._look
        return look is not None and not self.is_caught_up(partition, look.incarnation)

    def has_appended(self, partition: int, offset: int) -> bool:
        """Check that append has committed past an offset."""
        return self._noted(self._committed.get(partition, 0) > offset)

    def _noted(self, answer: bool) -> bool:
        if not answer:
            self.want_update()
        return answer


def _follows(look: Look, earlier: Look) -> bool:
    """Check that both are looks at one clock, which has gone on between them as time has."""
    passed = (look.asked_at - earlier.answered_at).total_seconds()
    least = passed - max(MAX_DRIFT_SECONDS, passed * MAX_DRIFT)
    counted = look.incarnation.now - earlier.incarnation.now
    return look.incarnation.id == earlier.incarnation.id and counted >= least
