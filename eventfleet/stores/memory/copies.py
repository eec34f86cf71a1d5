"""Copies at the border of the stores in memory: like servers, they share nothing with callers."""

from msgspec.structs import replace

from eventfleet.model.value_copy import copy_value
from eventfleet.topics.event import EventRecord


def copy_event(event: EventRecord) -> EventRecord:
    """Return an event whose payload is the caller's own."""
    return replace(event, data=copy_value(event.data))
