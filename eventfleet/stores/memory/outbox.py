"""The outbox, in memory."""

from collections.abc import Collection

from eventfleet.model.value_copy import copy_value
from eventfleet.stores.contracts.outbox import BusNote, BusPlace
from eventfleet.stores.leases import Leases
from eventfleet.stores.memory.yield_point import YieldPoint, no_yield
from eventfleet.topics.event import EventKey, EventRecord


class MemoryOutbox:
    """Outbox in memory; the store that it belongs to makes events `unsettled`."""

    def __init__(self, yield_point: YieldPoint = no_yield) -> None:
        self._yield_point = yield_point
        self.unsettled: dict[bool, dict[EventKey, EventRecord]] = {False: {}, True: {}}
        """The pending events: those to write only, and those to publish."""
        self._parked: dict[EventKey, EventRecord] = {}
        self._published: dict[EventKey, tuple[EventRecord, BusPlace]] = {}
        self._bus_notes: dict[str, BusNote] = {}
        self._leases = Leases()

    async def prepare(self) -> None:
        await self._yield_point()

    async def pending(self, limit: int, *, to_publish: bool) -> list[EventRecord]:
        await self._yield_point()
        events = self.unsettled[to_publish].values()
        ids = list(dict.fromkeys(each.aggregate_id for each in events))[:limit]
        found = [each for each in events if each.aggregate_id in ids]
        return [copy_value(each) for each in sorted(found, key=_place)[:limit]]

    async def settle(self, keys: Collection[EventKey], place: BusPlace | None = None) -> None:
        await self._yield_point()
        for key in keys:
            self._settle(self._take_pending(key), place)

    async def park(self, keys: Collection[EventKey]) -> None:
        await self._yield_point()
        for key in keys:
            if event := self._take_pending(key):
                self._parked[key] = event

    async def park_pending(self, aggregate_id: str) -> None:
        keys = [*self.unsettled[True], *self.unsettled[False]]
        await self.park([key for key in keys if key.aggregate_id == aggregate_id])

    async def parked_aggregates(self, among: Collection[str] | None = None) -> set[str]:
        await self._yield_point()
        found = {key.aggregate_id for key in self._parked}
        return found if among is None else found & {*among}

    async def parked(self, aggregate_id: str, limit: int) -> list[EventRecord]:
        await self._yield_point()
        found = [each for each in self._parked.values() if each.aggregate_id == aggregate_id]
        return [copy_value(each) for each in sorted(found, key=_place)[:limit]]

    async def settle_parked(self, key: EventKey, place: BusPlace | None = None) -> None:
        await self._yield_point()
        self._settle(self._parked.pop(key, None), place)

    async def confirm(self, place: BusPlace) -> None:
        await self._yield_point()
        for key, (_, at) in [*self._published.items()]:
            if at.incarnation == place.incarnation and at.offset <= place.offset:
                del self._published[key]

    async def publish_again(self, incarnation: str) -> bool:
        await self._yield_point()
        again = [e for e, at in self._published.values() if at.incarnation != incarnation]
        for event in again:
            del self._published[event.key]
        self.unsettled[True] = {event.key: event for event in again} | self.unsettled[True]
        return bool(again)

    async def bus_note(self, name: str) -> BusNote | None:
        await self._yield_point()
        return self._bus_notes.get(name)

    async def note_bus(self, name: str, note: BusNote) -> None:
        await self._yield_point()
        self._bus_notes[name] = note

    async def hold_lease(self, name: str, owner: str, seconds: float) -> bool:
        await self._yield_point()
        return self._leases.hold(name, owner, seconds)

    async def release_lease(self, name: str, owner: str) -> None:
        await self._yield_point()
        self._leases.release(name, owner)

    def _take_pending(self, key: EventKey) -> EventRecord | None:
        return self.unsettled[True].pop(key, None) or self.unsettled[False].pop(key, None)

    def _settle(self, event: EventRecord | None, place: BusPlace | None) -> None:
        if event and place:
            self._published[event.key] = (event, place)


def _place(event: EventRecord) -> tuple[str, int]:
    return event.aggregate_id, event.version
