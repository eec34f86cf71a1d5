"""Markers in memory: a server that several clients share, and the client."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import count
from typing import NamedTuple

from eventfleet.stores.contracts import Incarnation, MarkRequest, MarkResult, MarkStatus, Note
from eventfleet.stores.marker_timeouts import MarkerTimeouts
from eventfleet.stores.memory.yield_point import YieldPoint, no_yield

TICK_SECONDS = 1e-6
FOREVER = float("inf")


class PendingNote(NamedTuple):
    """An event on its way."""

    event_id: str
    prev: str
    value: bytes
    at: float


@dataclass(frozen=True)
class Marker:
    """The latest event of one aggregate. `until`: when it expires."""

    type: str
    last: str
    incarnation: str
    born: float
    tentative: bool
    until: float
    note: PendingNote | None = None


@dataclass
class RedisData:
    """All that a dump holds. The sentinel is the life's id, the server's run, and the beginning."""

    sentinel: tuple[str, int, float] | None = None
    markers: dict[tuple[str, str], Marker] = field(default_factory=dict)
    done: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict)


class MemoryRedis:
    """What all clients of one server share. `now` is its clock, in seconds.

    Each call is one step that nothing can interrupt, a microsecond at least after the one before.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self._last = now, float("-inf")
        self._ids, self._run = count(1), 1
        self.data = RedisData()

    # What happens to a server

    def flush(self) -> None:
        self.data = RedisData()

    def dump(self) -> RedisData:
        return deepcopy(self.data)

    def restart(self, dump: RedisData | None = None) -> None:
        """Another run, on an old dump or empty."""
        self._run += 1
        self.data = deepcopy(dump) if dump else RedisData()

    # What a client asks of it

    def incarnation(self) -> Incarnation:
        now = self._time()
        if not self.data.sentinel or self.data.sentinel[1] != self._run:
            self.data.sentinel = f"{self._run}:{next(self._ids)}", self._run, now
        name, _, began = self.data.sentinel
        return Incarnation(name, began, now)

    def present(self, incarnation: Incarnation) -> bool:
        """Whether this life is that of the server and its data."""
        sentinel = self.data.sentinel
        return sentinel is not None and sentinel[:2] == (incarnation.id, self._run)

    def mark(self, domain: str, mark: MarkRequest, terms: MarkerTimeouts) -> MarkResult:
        now, key = self._time(), (domain, mark.aggregate_id)
        if not self.present(mark.incarnation) or now - mark.incarnation.now > terms.expiry / 2:
            return MarkResult(MarkStatus.AGAIN)
        marker = self._marker(key, mark.incarnation, now)
        if marker and mark.incarnation.now <= marker.born:
            return MarkResult(MarkStatus.AGAIN)
        if not marker:
            if not mark.basis:
                return MarkResult(MarkStatus.MISSING)
            marker = self.data.markers[key] = self._born(mark, terms, now)
        return self._decide(key, marker, mark, terms, now)

    def confirm(
        self, domain: str, note: Note, incarnation: Incarnation, terms: MarkerTimeouts
    ) -> bool:
        now = self._time()
        marker = self._mine(domain, note, incarnation, now)
        if not marker:
            return self._done(domain, note.event_id, incarnation, now)
        until = now + terms.expiry
        key = domain, note.aggregate_id
        self.data.markers[key] = replace(marker, note=None, tentative=False, until=until)
        self.data.done[domain, note.event_id] = incarnation.id, now + terms.memory
        return True

    def withdraw(self, domain: str, note: Note, incarnation: Incarnation) -> None:
        if self._mine(domain, note, incarnation, self._time()):
            del self.data.markers[domain, note.aggregate_id]
            self.data.done.pop((domain, note.event_id), None)

    def _born(self, mark: MarkRequest, terms: MarkerTimeouts, now: float) -> Marker:
        assert mark.basis
        assert self.data.sentinel
        incarnation, _, began = self.data.sentinel
        young = now - began < terms.expiry
        return Marker(*mark.basis, incarnation, born=now, tentative=young, until=now + terms.expiry)

    def _decide(
        self,
        key: tuple[str, str],
        marker: Marker,
        mark: MarkRequest,
        terms: MarkerTimeouts,
        now: float,
    ) -> MarkResult:
        note = marker.note
        if note and note.event_id == mark.event_id:
            return MarkResult(MarkStatus.MINE, *note[:3], marker.tentative)
        if self._done(key[0], mark.event_id, mark.incarnation, now):
            return MarkResult(MarkStatus.DONE)
        if note and now - note.at < terms.lease:
            return MarkResult(MarkStatus.BUSY)
        if note:
            return MarkResult(MarkStatus.STALE, *note[:3], marker.tentative)
        if mark.allowed is not None and marker.type not in mark.allowed:
            return MarkResult(MarkStatus.REJECTED, type=marker.type)
        note = PendingNote(mark.event_id, marker.last, mark.value, now)
        self.data.markers[key] = replace(
            marker, type=mark.type, last=mark.event_id, note=note, until=FOREVER
        )
        self.data.done[key[0], mark.event_id] = mark.incarnation.id, now + terms.memory
        return MarkResult(MarkStatus.OK, *note[:3], marker.tentative)

    def _marker(self, key: tuple[str, str], incarnation: Incarnation, now: float) -> Marker | None:
        marker = self.data.markers.get(key)
        return (
            marker
            if marker and marker.incarnation == incarnation.id and marker.until > now
            else None
        )

    def _mine(self, domain: str, note: Note, incarnation: Incarnation, now: float) -> Marker | None:
        """The marker, when this note stands in this life, exactly so."""
        marker = self.present(incarnation) and self._marker(
            (domain, note.aggregate_id), incarnation, now
        )
        exactly = marker and marker.note and marker.note[:2] == (note.event_id, note.prev)
        return marker if marker and exactly else None

    def _done(self, domain: str, event_id: str, incarnation: Incarnation, now: float) -> bool:
        name, until = self.data.done.get((domain, event_id), ("", 0.0))
        return self.present(incarnation) and name == incarnation.id and until > now

    def _time(self) -> float:
        self._last = max(self._now(), self._last + TICK_SECONDS)
        return self._last


class MemoryMarkers:
    """Markers of one domain."""

    def __init__(
        self,
        server: MemoryRedis,
        domain: str,
        terms: MarkerTimeouts,
        checkpoint: YieldPoint = no_yield,
    ) -> None:
        self._server, self._domain, self._terms = server, domain, terms
        self._checkpoint = checkpoint

    async def prepare(self) -> None:
        await self._checkpoint()

    async def incarnation(self) -> Incarnation:
        await self._checkpoint()
        return self._server.incarnation()

    async def mark(self, marks: Sequence[MarkRequest]) -> list[MarkResult]:
        marked = []
        for mark in marks:
            await self._checkpoint()
            marked.append(self._server.mark(self._domain, mark, self._terms))
        await self._checkpoint()
        return marked

    async def confirm(self, notes: Sequence[Note], incarnation: Incarnation) -> list[bool]:
        cleared = []
        for note in notes:
            await self._checkpoint()
            cleared.append(self._server.confirm(self._domain, note, incarnation, self._terms))
        await self._checkpoint()
        return cleared

    async def withdraw(self, notes: Sequence[Note], incarnation: Incarnation) -> None:
        for note in notes:
            await self._checkpoint()
            self._server.withdraw(self._domain, note, incarnation)
        await self._checkpoint()

    async def close(self) -> None:
        """There is nothing to let go."""
