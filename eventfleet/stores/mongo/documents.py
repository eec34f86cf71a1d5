"""An event as a MongoDB document, and back. The domain is the collection's."""

from functools import lru_cache
from typing import Any

from eventfleet.topics.event import EventRecord, Position

Document = dict[str, Any]

REQUIRED_FIELDS = ("aggregate_id", "version", "type", "time", "schema_version", "data")
OPTIONAL_FIELDS = (
    *("prev", "correlation_id", "causation_id", "actor", "traceparent", "reply_to"),
    "fingerprint",
)


def placed(event: EventRecord) -> Document:
    """The document of an event that has its position."""
    document = _document(event)
    before, _, offset = (event.position or "").rpartition("-")
    document["epoch"], document["partition"] = _source(before)
    document["offset"] = int(offset)
    return document


def unplaced(event: EventRecord, partition: int) -> Document:
    """The document of an event without a position, in the partition that will place it."""
    return _document(event) | {"partition": partition, "unplaced": partition}


def position_fields(position: Position) -> Document:
    """The fields that a position is."""
    return position._asdict()


def to_event(domain: str, document: Document) -> EventRecord:
    """The event in a document."""
    fields = {name: document[name] for name in REQUIRED_FIELDS}
    fields.update((name, document[name]) for name in OPTIONAL_FIELDS if name in document)
    if "offset" in document:
        fields["position"] = f"{document['epoch']}-{document['partition']}-{document['offset']}"
    return EventRecord(id=document["_id"], domain=domain, **fields)


@lru_cache(maxsize=1024)
def _source(before: str) -> tuple[int, int]:
    """Epoch and partition, of which a store has few, in the first part of a position."""
    epoch, partition = before.split("-")
    return int(epoch), int(partition)


def _document(event: EventRecord) -> Document:
    """Spelt out, as every event stored goes through it: a loop over the optional ones costs more
    than all the rest."""
    document: Document = {
        "_id": event.id,
        "aggregate_id": event.aggregate_id,
        "version": event.version,
        "type": event.type,
        "time": event.time,
        "schema_version": event.schema_version,
        "data": event.data,
    }
    if event.prev is not None:
        document["prev"] = event.prev
    if event.correlation_id is not None:
        document["correlation_id"] = event.correlation_id
    if event.causation_id is not None:
        document["causation_id"] = event.causation_id
    if event.actor is not None:
        document["actor"] = event.actor
    if event.traceparent is not None:
        document["traceparent"] = event.traceparent
    if event.reply_to is not None:
        document["reply_to"] = event.reply_to
    if event.fingerprint is not None:
        document["fingerprint"] = event.fingerprint
    return document
