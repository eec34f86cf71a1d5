"""Markers, in memory: a server that several clients share, and the client."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import count
from typing import NamedTuple

from eventfleet.stores.contracts import (
    CurrentMarker,
    Incarnation,
    MarkOwner,
    MarkRequest,
    MarkResult,
    MarkStatus,
    Note,
)
from eventfleet.stores.marker_timeouts import MarkerTimeouts
from eventfleet.stores.memory.yield_point import YieldPoint, no_yield
from eventfleet.topics.event import EventKey

TICK_SECONDS = 1e-6
NEVER = float("inf")
LOOKED_AT = 2
"""Markers, and ids, at each mark."""


class PendingNote(NamedTuple):
    """A noted event, and when it was noted."""

    event_id: str
    prev: str
    value: bytes
    noted_at: float


@dataclass(frozen=True)
class Marker:
    """The latest event of one aggregate, and the note of the event on its way."""

    type: str
    last_event_id: str
    incarnation: str
    created_at: float
    tentative: bool
    expires_at: float
    note: PendingNote | None = None


@dataclass
class RedisData:
    """The data set of a server. `sentinel`: the incarnation's id, run and beginning; `owners`: of
    each domain's partitions, with the incarnation's id."""

    sentinel: tuple[str, int, float] | None = None
    markers: OrderedDict[tuple[str, str], Marker] = field(default_factory=OrderedDict)
    done: OrderedDict[tuple[str, str], tuple[str, float]] = field(default_factory=OrderedDict)
    owners: dict[tuple[str, int], tuple[str, str]] = field(default_factory=dict)


class MemoryRedis:
    """A server that all its clients share. `now` is its clock, in seconds, which may step back.

    Each call is one step that nothing can interrupt. While the clock stands still or goes forward,
    a call is at least a microsecond after the one before.
    """

    def __init__(self, now: Callable[[], float], name: str = "") -> None:
        """`name`: in the ids of its incarnations, where another server's must differ."""
        self._now, self._clock, self._last = now, float("-inf"), float("-inf")
        self._name = name
        self._ids, self._run = count(1), 1
        self.data = RedisData()

    # Operation of the server

    def flush(self) -> None:
        self.data = RedisData()

    def dump(self) -> RedisData:
        return deepcopy(self.data)

    def restart(self, dump: RedisData | None = None) -> None:
        """Begin another run, on an old dump or empty."""
        self._run += 1
        self.data = deepcopy(dump) if dump else RedisData()

    # Clients' requests

    def incarnation(self) -> Incarnation:
        now = self._time()
        if not self.data.sentinel or self.data.sentinel[1] != self._run:
            self.data.sentinel = f"{self._name}{self._run}:{next(self._ids)}", self._run, now
        name, _, began = self.data.sentinel
        return Incarnation(name, began, now)

    def is_current(self, incarnation: Incarnation) -> bool:
        """Return whether this is the present incarnation of the server and its data."""
        sentinel = self.data.sentinel
        return sentinel is not None and sentinel[:2] == (incarnation.id, self._run)

    def read(self, domain: str, aggregate_id: str) -> CurrentMarker | None:
        sentinel, now = self.data.sentinel, self._time()
        marker = self.data.markers.get((domain, aggregate_id))
        if not (marker and sentinel and sentinel[:2] == (marker.incarnation, self._run)):
            return None
        if marker.expires_at <= now:
            return None
        prev = marker.note.prev if marker.note else ""
        return CurrentMarker(marker.type, marker.last_event_id, marker.note is not None, prev)

    def note_owner(self, domain: str, owner: MarkOwner, incarnation: Incarnation) -> None:
        self.data.owners[domain, owner.partition] = incarnation.id, owner.id

    def mark(self, domain: str, request: MarkRequest, timeouts: MarkerTimeouts) -> MarkResult:
        now, key = self._time(), (domain, request.aggregate_id)
        age = now - request.incarnation.now
        if not self.is_current(request.incarnation) or not 0 <= age <= timeouts.expiry / 2:
            return MarkResult(MarkStatus.AGAIN)
        if request.owner and not self._is_noted(domain, request.owner, request.incarnation):
            return MarkResult(MarkStatus.DISOWNED)
        if now >= request.deadline:
            return MarkResult(MarkStatus.LATE)
        marker = self._marker(key, request.incarnation, now)
        if marker and request.incarnation.now <= marker.created_at:
            return MarkResult(MarkStatus.AGAIN)
        if not marker:
            if not request.basis:
                return MarkResult(MarkStatus.MISSING)
            marker = self.data.markers[key] = self._new_marker(request, timeouts, now)
        return self._check_and_note(key, marker, request, timeouts, now)

    def confirm(
        self, domain: str, note: Note, incarnation: Incarnation, timeouts: MarkerTimeouts
    ) -> bool:
        now = self._time()
        marker = self._noted_marker(domain, note, incarnation, now)
        if not marker:
            return self._is_done(domain, note.event_id, incarnation, now)
        expires_at = now + timeouts.expiry
        key = domain, note.aggregate_id
        self.data.markers[key] = replace(marker, note=None, tentative=False, expires_at=expires_at)
        self.data.done[domain, note.event_id] = incarnation.id, now + timeouts.memory
        return True

    def withdraw(self, domain: str, note: Note, incarnation: Incarnation) -> None:
        if self._noted_marker(domain, note, incarnation, self._time()):
            del self.data.markers[domain, note.aggregate_id]
            self.data.done.pop((domain, note.event_id), None)

    def drop(self, domain: str, key: EventKey, incarnation: Incarnation) -> None:
        place = domain, key.aggregate_id
        marker = self.is_current(incarnation) and self._marker(place, incarnation, self._time())
        if marker and not marker.note and marker.last_event_id == key.event_id:
            del self.data.markers[place]

    def _new_marker(self, request: MarkRequest, timeouts: MarkerTimeouts, now: float) -> Marker:
        assert request.basis
        assert self.data.sentinel
        incarnation, _, began = self.data.sentinel
        return Marker(
            *request.basis,
            incarnation,
            created_at=now,
            tentative=not request.incarnation.is_first and now - began < timeouts.expiry,
            expires_at=now + timeouts.expiry,
        )

    def _check_and_note(
        self,
        key: tuple[str, str],
        marker: Marker,
        request: MarkRequest,
        timeouts: MarkerTimeouts,
        now: float,
    ) -> MarkResult:
        note = marker.note
        if note and note.event_id == request.event_id:
            return MarkResult(MarkStatus.MINE, *note[:3], marker.tentative)
        if self._is_done(key[0], request.event_id, request.incarnation, now):
            return MarkResult(MarkStatus.DONE)
        if note and now - note.noted_at < timeouts.lease:
            return MarkResult(MarkStatus.BUSY)
        if note:
            return MarkResult(MarkStatus.STALE, *note[:3], marker.tentative)
        if request.allowed is not None and marker.type not in request.allowed:
            last, tentative = marker.last_event_id, marker.tentative
            return MarkResult(MarkStatus.REJECTED, last, tentative=tentative, type=marker.type)
        note = PendingNote(request.event_id, marker.last_event_id, request.value, now)
        self._forget_expired(now)
        self.data.markers[key] = replace(
            marker, type=request.type, last_event_id=request.event_id, note=note, expires_at=NEVER
        )
        self.data.done[key[0], request.event_id] = request.incarnation.id, now + timeouts.memory
        return MarkResult(MarkStatus.OK, *note[:3], marker.tentative)

    def _marker(self, key: tuple[str, str], incarnation: Incarnation, now: float) -> Marker | None:
        marker = self.data.markers.get(key)
        return (
            marker
            if marker and marker.incarnation == incarnation.id and marker.expires_at > now
            else None
        )

    def _noted_marker(
        self, domain: str, note: Note, incarnation: Incarnation, now: float
    ) -> Marker | None:
        """Return the marker if this note stands in this incarnation, exactly so."""
        marker = self.is_current(incarnation) and self._marker(
            (domain, note.aggregate_id), incarnation, now
        )
        exactly = marker and marker.note and marker.note[:2] == (note.event_id, note.prev)
        return marker if marker and exactly else None

    def _is_noted(self, domain: str, owner: MarkOwner, incarnation: Incarnation) -> bool:
        return self.data.owners.get((domain, owner.partition)) == (incarnation.id, owner.id)

    def _is_done(self, domain: str, event_id: str, incarnation: Incarnation, now: float) -> bool:
        name, expires_at = self.data.done.get((domain, event_id), ("", 0.0))
        return self.is_current(incarnation) and name == incarnation.id and expires_at > now

    def _forget_expired(self, now: float) -> None:
        """Look at the markers and ids that were looked at longest ago: at more than a mark adds."""
        markers, done = self.data.markers, self.data.done
        for _ in range(min(LOOKED_AT, len(markers))):
            key, marker = markers.popitem(last=False)
            if marker.note or marker.expires_at > now:
                markers[key] = marker
        for _ in range(min(LOOKED_AT, len(done))):
            event, known = done.popitem(last=False)
            if known[1] > now:
                done[event] = known

    def _time(self) -> float:
        clock, before = self._now(), self._clock
        self._clock = clock
        self._last = clock if clock < before else max(clock, self._last + TICK_SECONDS)
        return self._last


class MemoryMarkers:
    """Markers of one domain, in memory."""

    def __init__(
        self,
        server: MemoryRedis,
        domain: str,
        timeouts: MarkerTimeouts,
        yield_point: YieldPoint = no_yield,
    ) -> None:
        self._server, self._domain, self._timeouts = server, domain, timeouts
        self._yield_point = yield_point

    async def prepare(self) -> None:
        await self._yield_point()

    async def check_writable(self) -> None:
        await self._yield_point()

    async def incarnation(self) -> Incarnation:
        await self._yield_point()
        return self._server.incarnation()

    async def read(self, aggregate_ids: Sequence[str]) -> dict[str, CurrentMarker]:
        await self._yield_point()
        found = {key: self._server.read(self._domain, key) for key in aggregate_ids}
        return {key: marker for key, marker in found.items() if marker}

    async def note_owner(self, owner: MarkOwner, incarnation: Incarnation) -> None:
        await self._yield_point()
        self._server.note_owner(self._domain, owner, incarnation)
        await self._yield_point()

    async def mark(self, requests: Sequence[MarkRequest]) -> list[MarkResult]:
        results = []
        for request in requests:
            await self._yield_point()
            results.append(self._server.mark(self._domain, request, self._timeouts))
        await self._yield_point()
        return results

    async def confirm(self, notes: Sequence[Note], incarnation: Incarnation) -> list[bool]:
        cleared = []
        for note in notes:
            await self._yield_point()
            cleared.append(self._server.confirm(self._domain, note, incarnation, self._timeouts))
        await self._yield_point()
        return cleared

    async def withdraw(self, notes: Sequence[Note], incarnation: Incarnation) -> None:
        for note in notes:
            await self._yield_point()
            self._server.withdraw(self._domain, note, incarnation)
        await self._yield_point()

    async def drop(self, keys: Sequence[EventKey], incarnation: Incarnation) -> None:
        for key in keys:
            await self._yield_point()
            self._server.drop(self._domain, key, incarnation)
        await self._yield_point()

    async def close(self) -> None:
        """There is nothing to release."""
