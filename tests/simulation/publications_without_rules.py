"""The publication of documents with one rule taken out each."""

from collections.abc import Iterable, Sequence
from typing import Any

from eventfleet.buses.confirmations import Confirmations
from eventfleet.buses.event import DocumentEvent
from eventfleet.buses.publication import OPERATORS_ERRORS, Failures, Publication
from eventfleet.stores.contracts.dead_letters import RedriveRequest
from eventfleet.stores.contracts.outbox import BusNote
from eventfleet.topics.event import EventRecord
from eventfleet.topics.parked import ParkedAggregate
from tests.simulation.publication_bus import Group, SimulatedBus


class TrustsMemory(Publication):
    """Without: parked events are looked up in the store after a page is read."""

    async def _leave_parked(self, events: Sequence[EventRecord]) -> list[EventRecord]:
        known = self._parking.aggregates
        behind = [each for each in events if each.aggregate_id in known]
        if behind:
            await self._outbox.park([each.key for each in behind])
        return [each for each in events if each.aggregate_id not in known]


class ParksAlone(Publication):
    """Without: the events behind one that fails are parked with it."""

    async def _park(self, events: Sequence[EventRecord], failed: Failures) -> None:
        first = [event for event, _ in failed.values()]
        await super()._park(first, failed)

    async def publish(self, events: Sequence[EventRecord]) -> None:
        ready = await self._leave_parked(events)
        failed: Failures = {}
        mapped = []
        for event in ready:
            try:
                mapped.append((event, self._delivery.map(event)))
            except Exception as error:
                failed.setdefault(event.aggregate_id, (event, error))
        for event, published in mapped:
            try:
                place = await self._delivery.send(published)
            except OPERATORS_ERRORS:
                raise
            except Exception as error:
                failed[event.aggregate_id] = (event, error)
            else:
                await self._outbox.settle([event.key], place)
        await self._park(ready, failed)


class SettlesFirst(Publication):
    """Without: an event is settled once it is published."""

    async def publish(self, events: Sequence[EventRecord]) -> None:
        await self._outbox.settle([event.key for event in events])
        await super().publish(events)


class SettlesParkedFirst(Publication):
    """Without: so is a parked one."""

    async def _redrive_event(self, event: EventRecord, request: RedriveRequest) -> bool:
        await self._outbox.settle_parked(event.key)
        return await super()._redrive_event(event, request)


class ForgetsInterrupted(Publication):
    """Without: what an interrupted publisher has parked is found."""

    async def _adopt(self, parked: Iterable[str]) -> None:
        pass


class EndsAtOnce(Publication):
    """Without: a parking ends once none of its events is parked."""

    async def _redrive(
        self, parked: ParkedAggregate, request: RedriveRequest, hold_lease: Any
    ) -> None:
        [event] = await self._outbox.parked(parked.aggregate_id, 1)
        if await self._redrive_event(event, request):
            self._parking.end(parked.aggregate_id, parked.last)
        await self._save()


class RedrivesAnyOrder(Publication):
    """Without: a redrive begins with what is pending below the parked events."""

    async def _redrive(
        self, parked: ParkedAggregate, request: RedriveRequest, hold_lease: Any
    ) -> None:
        outbox, self._outbox = self._outbox, PassesOverPending(self._outbox)  # type: ignore
        try:
            await super()._redrive(parked, request, hold_lease)
        finally:
            self._outbox = outbox


class PassesOverPending:
    def __init__(self, outbox: Any) -> None:
        self._outbox = outbox

    async def park_pending(self, aggregate_id: str) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._outbox, name)


class PublishesBlindly(SimulatedBus):
    """Without: nothing is published in another incarnation than the known one."""

    async def publish_in(self, incarnation: str, events: Sequence[DocumentEvent]) -> int:
        return await super().publish_in(self.server.incarnation, events)


class BeginsAtTheEnd(SimulatedBus):
    """Without: a group that was lost begins at the start."""

    def begins_at_the_start(self, name: str, known: set[str]) -> bool:
        return False


class ConfirmsWhatWasRead(SimulatedBus):
    """Without: an event is confirmed once it was handled."""

    def handled_to(self, group: Group) -> int:
        return group.next - 1


class NeverPublishesAgain(Confirmations):
    """Without: what was not confirmed is published again."""

    async def open(self) -> None:
        noted = await self._outbox.bus_note(self._name) or BusNote("")
        present = await self._bus.incarnation(noted.incarnation)
        self._note = BusNote(present, noted.groups)
        await self._outbox.note_bus(self._name, self._note)

    async def reclaim(self) -> bool:
        return False


class ReclaimsOnce(Confirmations):
    """Without: what a late publisher settles in an earlier incarnation is found."""

    async def reclaim(self) -> bool:
        return False


class NotesFirst(Confirmations):
    """Without: an incarnation is noted once all is pending again; and what is late is found."""

    async def open(self) -> None:
        noted = await self._outbox.bus_note(self._name) or BusNote("")
        present = await self._bus.incarnation(noted.incarnation)
        await self._outbox.note_bus(self._name, BusNote(present, noted.groups))
        self._note, self._seen = BusNote(present, noted.groups), set()
        if noted.incarnation != present:
            await self._outbox.publish_again(present)

    async def reclaim(self) -> bool:
        return False


class WaitsForNobody(Confirmations):
    """Without: the groups of the incarnation before are waited for."""

    async def open(self) -> None:
        await super().open()
        self._note = BusNote(self._note.incarnation)
