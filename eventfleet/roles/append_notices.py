"""AppendNotices: notifies those who wait for events of what append has done with their records."""

from collections.abc import Sequence
from contextlib import suppress

import msgspec
from msgspec.structs import replace

from eventfleet.roles.notices import StageNotifier
from eventfleet.roles.parking import Parking
from eventfleet.stores.contracts import Disposition, DispositionKind, EventStore, Stage
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.topics.event import EventRecord
from eventfleet.topics.record import LogRecord
from eventfleet.topics.values import DECODE_ERRORS

ROLE = "append"


def with_addresses(
    events: Sequence[EventRecord], awaited: Sequence[EventRecord]
) -> Sequence[EventRecord]:
    """Return stored events with the addresses of the callers who await them: no store has these."""
    addresses = {event.key: event.reply_to for event in awaited}
    if not addresses:
        return events
    return [replace(each, reply_to=addresses.get(each.key, each.reply_to)) for each in events]


class UnreadableEvent(msgspec.Struct, frozen=True, rename={"reply_to": "replyto"}):
    """The part of a record that a notice needs, whatever else is wrong with it."""

    reply_to: str | None = None


_decode = msgspec.json.Decoder(UnreadableEvent).decode


class AppendNotices:
    """The notices of one partition. A placed event has reached its stage; others never do so by
    themselves."""

    def __init__(
        self, notifier: StageNotifier, store: EventStore, parking: Parking, *, synchronous: bool
    ) -> None:
        self._notifier, self._store, self._parking = notifier, store, parking
        self._synchronous = synchronous

    async def notify(self, awaited: Sequence[EventRecord], emits: Sequence[EventRecord]) -> None:
        """Notify of awaited events, which are decided: just now, or before, if it is a repeat."""
        stored = {event.key: event for event in emits}
        if others := {event.key for event in awaited} - stored.keys():
            try:
                stored |= await self._store.find(others)
            except ServerUnavailable:
                awaited = [event for event in awaited if event.key in stored]
        placed = []
        for event in awaited:
            if disposition := self._disposition(event, stored.get(event.key)):
                self._notifier.notify(Stage.APPENDED, [event], disposition)
            else:
                placed.append(event)
        if placed:
            self._notifier.notify(Stage.APPENDED, placed)

    def _disposition(self, event: EventRecord, stored: EventRecord | None) -> Disposition | None:
        """Return what became of a decided event; None: queries see it."""
        if stored is None:
            return Disposition(DispositionKind.SUPERSEDED, ROLE)
        if not stored.position and not self._synchronous:
            parked = self._parking.aggregates.get(event.aggregate_id)
            return Disposition(DispositionKind.PARKED, ROLE, parked.reason if parked else "")
        return Disposition(DispositionKind.DISCARDED, ROLE) if stored.discarded else None

    def notify_unreadable(self, record: LogRecord, reason: str) -> None:
        """Notify whoever waits for the event of an unreadable record."""
        with suppress(*DECODE_ERRORS):
            awaited = _decode(record.value or b"")
            disposition = Disposition(DispositionKind.UNREADABLE, ROLE, reason)
            self._notifier.notify(Stage.APPENDED, [awaited], disposition)
