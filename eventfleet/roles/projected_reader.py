"""ProjectedReader: reads the events of a domain as its views take them."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from eventfleet.model.domain import Domain
from eventfleet.model.typed_decoder import FOLD_FIELDS, make_typed_decoder
from eventfleet.model.views import ProjectedEvent
from eventfleet.roles.build_parking import BuildParking
from eventfleet.roles.poison_events import RaisedOn
from eventfleet.roles.view_projector import ROLE
from eventfleet.topics.dead_letters import UNREADABLE, make_dead_letter
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EventRecord
from eventfleet.topics.record import LogRecord, ProducerRecord

PROJECTED_FIELDS = FOLD_FIELDS | {"position", "actor", "causation_id"}

_is_position = re.compile(r"[0-9]{1,18}-[0-9]{1,18}-[0-9]{1,18}").fullmatch


class ProjectedReader:
    """Reads events, but for those that are discarded."""

    def __init__(self, domain: Domain[Any], parking: BuildParking) -> None:
        self._domain, self._parking = domain, parking
        self._decode = make_typed_decoder(domain, PROJECTED_FIELDS)

    def read(
        self, records: Sequence[LogRecord], out: list[ProducerRecord]
    ) -> tuple[list[ProjectedEvent], list[RaisedOn]]:
        """Return the events that are to be applied, and those that upcasters raise on.

        `out` gets the dead letters of records that can't be read.
        """
        events: list[ProjectedEvent] = []
        unreadable: list[RaisedOn] = []
        # Locals: this loop runs for each event.
        decode, is_position, discards = self._decode, _is_position, self._parking.discards
        for record in records:
            try:
                event: Any = decode(record.value)
                if not is_position(event.position or ""):
                    raise InvalidRecord("position", f"is {event.position!r}, not one of append's")
            except InvalidRecord as error:
                what = UNREADABLE, str(error)
                out.append(make_dead_letter(self._domain.topics.dead_letters, ROLE, record, *what))
                continue
            if discards and (event.aggregate_id, event.version) in discards:
                continue
            # An event of a declared type was decoded with its payload. `isinstance` takes longer.
            if type(event) is EventRecord:
                event = None if event.discarded else self._upcast(event, unreadable)
                if event is None:
                    continue
            events.append(event)
        return events, unreadable

    def upcast_all(
        self, stored: Sequence[EventRecord]
    ) -> tuple[list[ProjectedEvent], list[RaisedOn]]:
        """Return stored events as `read` does."""
        discards, unreadable = self._parking.discards, list[RaisedOn]()
        events: list[ProjectedEvent] = [
            upcast
            for event in stored
            if not event.discarded
            and (event.aggregate_id, event.version) not in discards
            and (upcast := self._upcast(event, unreadable))
        ]
        return events, unreadable

    def _upcast(self, event: EventRecord, unreadable: list[RaisedOn]) -> EventRecord | None:
        """Return an event with its payload, upcast.

        None: an upcaster raised, or the domain as declared here does not read the event, so that it
        is among the unreadable ones.
        """
        try:
            return self.with_payload(event)
        except Exception as error:
            unreadable.append(RaisedOn(event, error))
            return None

    def with_payload(self, event: EventRecord) -> EventRecord:
        """Return an event with its payload, upcast; errors of the domain's code pass through."""
        payload: Any = self._domain.payload(event)
        return msgspec.structs.replace(event, data=payload)
