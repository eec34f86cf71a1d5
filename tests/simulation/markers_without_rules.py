"""The marker protocol with one rule taken out each."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from random import Random
from typing import Any

from msgspec.structs import replace as with_changes

from eventfleet.deciders.decider import Answer, Permit
from eventfleet.deciders.incarnation_reader import IncarnationReader
from eventfleet.deciders.lag_guard import LagGuard, Look
from eventfleet.deciders.marker_decider import MarkerDecider
from eventfleet.deciders.pending_command import PendingCommand, rejection
from eventfleet.deciders.proposed_event import ProposedEvent
from eventfleet.roles.append_parking import AppendParking
from eventfleet.roles.append_plan import AppendItem, Plan, head_of
from eventfleet.roles.command import CommandRole
from eventfleet.stores.contracts import (
    Head,
    Incarnation,
    MarkOwner,
    MarkRequest,
    MarkResult,
    MarkStatus,
    Note,
    RefuseParked,
    Write,
)
from eventfleet.stores.marker_timeouts import MarkerTimeouts
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.markers import Marker, MemoryRedis, RedisData
from eventfleet.topics.event import EventKey, EventRecord
from eventfleet.topics.record import ProducerRecord


class KeepsNobodyWaiting(MemoryRedis):
    """Without: another's pending note must be finished first."""

    def _check_and_note(
        self, key: Any, marker: Marker, request: MarkRequest, timeouts: MarkerTimeouts, now: float
    ) -> MarkResult:
        if marker.note and marker.note.event_id != request.event_id:
            marker = replace(marker, note=None)
        return super()._check_and_note(key, marker, request, timeouts, now)


class ClearsWhateverStands(MemoryRedis):
    """Without: a note is cleared only by who names it exactly."""

    def confirm(
        self, domain: str, note: Note, incarnation: Incarnation, timeouts: MarkerTimeouts
    ) -> bool:
        marker = self.data.markers.get((domain, note.aggregate_id))
        if marker and marker.note:
            note = note._replace(event_id=marker.note.event_id, prev=marker.note.prev)
        return super().confirm(domain, note, incarnation, timeouts)


class LetsNotesExpire(MemoryRedis):
    """Without: a marker does not expire while a note stands."""

    def _check_and_note(
        self, key: Any, marker: Marker, request: MarkRequest, timeouts: MarkerTimeouts, now: float
    ) -> MarkResult:
        marked = super()._check_and_note(key, marker, request, timeouts, now)
        after = self.data.markers[key]
        if after.note and after != marker:
            self.data.markers[key] = replace(after, expires_at=now + timeouts.expiry)
        return marked


class RejectsAtRandom(MemoryRedis):
    """Without: only what the rule forbids is rejected."""

    _dice = Random(0)

    def _check_and_note(
        self, key: Any, marker: Marker, request: MarkRequest, timeouts: MarkerTimeouts, now: float
    ) -> MarkResult:
        if not marker.note and request.allowed is not None and self._dice.random() < 0.02:
            return MarkResult(MarkStatus.REJECTED, type=marker.type)
        return super()._check_and_note(key, marker, request, timeouts, now)


class RejectsByOldMarkers(MemoryRedis):
    """Without: the marker that rejects is that of the latest event."""

    def _check_and_note(
        self, key: Any, marker: Marker, request: MarkRequest, timeouts: MarkerTimeouts, now: float
    ) -> MarkResult:
        before = self._before.get(key, marker.type)
        if not marker.note and request.allowed is not None and before not in request.allowed:
            return MarkResult(MarkStatus.REJECTED, type=before)
        self._before[key] = marker.type
        return super()._check_and_note(key, marker, request, timeouts, now)

    @cached_property
    def _before(self) -> dict[Any, str]:
        return {}


class TrustsTheStore(LagGuard):
    """Without: the store is asked only when append is surely past what matters."""

    def is_caught_up(self, partition: int, incarnation: Incarnation) -> bool:
        return True


class TakesOldLooks(MemoryRedis):
    """Without: what was seen before the marker was born, or long ago, does not count."""

    def mark(self, domain: str, request: MarkRequest, timeouts: MarkerTimeouts) -> MarkResult:
        now = request.incarnation._replace(now=self._time())
        return super().mark(domain, request._replace(incarnation=now), timeouts)


class KeepsOldLooks(LagGuard):
    """Without: a look is taken again after half an expiry by the service's own clock."""

    def _is_outdated(self, look: Look) -> bool:
        return False


class ForgetsIds(MemoryRedis):
    """Without: the ids of this life's events are remembered."""

    def _is_done(self, domain: str, event_id: str, incarnation: Incarnation, now: float) -> bool:
        return False


class LivesOn(MemoryRedis):
    """Without: another run of the server is another life."""

    def restart(self, dump: RedisData | None = None) -> None:
        super().restart(dump)
        self._run -= 1


class IsAlwaysSure(MemoryRedis):
    """Without: in a young life append has the last word."""

    def _new_marker(self, request: MarkRequest, timeouts: MarkerTimeouts, now: float) -> Marker:
        return replace(super()._new_marker(request, timeouts, now), tentative=False)


class TrustsItsOwnFirst(IncarnationReader):
    """Without: the registry is read again after the write of the first incarnation."""

    async def _register(self) -> str:
        first = await self._determine()
        await self._registry.register_first_incarnation(first)
        return first


class RegistersLater(IncarnationReader):
    """Without: the first incarnation is registered before anything is marked."""

    _looks = 0

    async def find_first(self, *, anew: bool = False) -> None:
        self._looks += 1
        if self._looks > 8:
            await super().find_first(anew=anew)


class LeavesNewOnesUnlooked(MarkerDecider):
    """Without: the id of a new command is looked up from its first mark on."""

    _new: frozenset[str] = frozenset()

    async def decide(
        self, commands: Sequence[ProposedEvent], deadline: datetime, answer: Answer, *permit: Any
    ) -> None:
        self._new |= {proposed.event.id for proposed in commands if proposed.new}
        await super().decide(commands, deadline, answer, *permit)

    async def _unstored(self, ready: Sequence[PendingCommand]) -> Sequence[PendingCommand]:
        unknown = await super()._unstored([p for p in ready if p.event.id not in self._new])
        return [*unknown, *(p for p in ready if p.event.id in self._new)]


class ProducesLate(MarkerDecider):
    """Without: a note that the deadline has overtaken is not produced."""

    def _in_time(self, pending: Sequence[PendingCommand]) -> list[PendingCommand]:
        return [*pending]


class TrustsRejections(MarkerDecider):
    """Without: a rejection by a marker made anew is compared with the store."""

    async def _verify_rejections(
        self, doubtful: Sequence[PendingCommand], incarnation: Incarnation
    ) -> None:
        for command in doubtful:
            marked = command.marked
            command.answer(rejection(command.event.type, command.allowed, marked.type))


# Parking


class KnowsNoParked(LagGuard):
    """Without: a command on a parked aggregate is refused before it is marked."""

    async def update(self) -> None:
        await super().update()
        self.parked = frozenset()


class SeesPlacedOnly(MarkerDecider):
    """Without: for a decider a parked event is stored, and may be the latest one."""

    def __init__(self, store: Any, *others: Any, **named: Any) -> None:
        super().__init__(PlacedEvents(store), *others, **named)  # type: ignore[arg-type]


class PlacedEvents:
    """A store as its readers see it."""

    def __init__(self, store: Any) -> None:
        self._store = store

    async def find(self, keys: Collection[EventKey]) -> dict[EventKey, EventRecord]:
        found = await self._store.find(keys)
        return {key: event for key, event in found.items() if event.position}

    async def heads(self, aggregate_ids: Collection[str]) -> dict[str, Head]:
        heads: dict[str, Head] = await self._store.heads(aggregate_ids)
        for key in [key for key, head in heads.items() if head.parked]:
            del heads[key]
            async for event in self._store.read(key):
                heads[key] = head_of(event)
        return heads


class ParksBeforeItSupersedes(Plan):
    """Without: what an event follows is looked at before what it holds."""

    def _add_new(self, item: AppendItem) -> None:
        if item.fault:
            version = self._head(item.event.aggregate_id).version + 1
            self._park(item, with_changes(item.event, version=version))
        else:
            super()._add_new(item)


class RemovesDiscarded(MemoryEvents):
    """Without: a discarded event keeps its place in the chain."""

    async def mark_discarded(self, key: EventKey, *, parked: bool = False) -> None:
        await self._yield_point()
        if key in self._refused:
            event, stream = self._by_key.pop(key), self._streams[key.aggregate_id]
            del self._refused[key], self._unplaced_in[key], stream[event.version]
            if not stream:
                del self._streams[key.aggregate_id]


class PlacesBehindParked(Plan):
    """Without: what comes behind a parked event is parked too."""

    def _add_new(self, item: AppendItem) -> None:
        head = self._head(item.event.aggregate_id)
        self.heads[item.event.aggregate_id] = head._replace(parked=False)
        super()._add_new(item)


class PlacesInAnyOrder(Plan):
    """Without: the first parked event of an aggregate is placed first."""

    def _add_parked(self, item: AppendItem, known: EventRecord) -> None:
        head = self._head(known.aggregate_id)
        if item.redriven:
            self.heads[known.aggregate_id] = head._replace(placed=known.version - 1)
        super()._add_parked(item, known)


class PassesOver(Plan):
    """Without: a redriven event that is not placed is refused at its offset."""

    def _write(self, write: Write) -> None:
        if not isinstance(write, RefuseParked):
            super()._write(write)


class Unlisted(AppendParking):
    """Without: what is parked is listed before the offset moves."""

    async def save(self) -> list[ProducerRecord]:
        self._parked.changed.clear()
        return await super().save()


class AsksForNoOwner(CommandRole):
    """Without: whoever decides a command is the owner of its partition when it marks."""

    async def _check_owner(self) -> None:
        """Whoever it is."""


class MarksForAnyOwner(MemoryRedis):
    """Without: a mark of an owner after whom another was noted is refused."""

    def _is_noted(self, domain: str, owner: MarkOwner, incarnation: Incarnation) -> bool:
        return True


class AsksBeforeItIsNoted(MarkerDecider):
    """Without: the registry is asked for the owner after its note beside the markers."""

    async def _note_owner(self, permit: Permit, incarnation: Incarnation) -> None:
        await permit()
        await super()._note_owner(replace(permit, check=_agree), incarnation)


async def _agree() -> None:
    """Whoever it is."""
