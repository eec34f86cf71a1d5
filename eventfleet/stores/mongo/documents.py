"""Encodes events as MongoDB documents, and back. A document's domain is that of its collection.

`_id` is the event's key: a collection that is sharded by `aggregate_id` keeps `_id` unique in each
shard alone, and all events of an aggregate lie in one.
"""

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from eventfleet.topics.event import EventKey, EventRecord, Position

Document = dict[str, Any]

KEY_SEPARATOR = "\0"
"""Between aggregate id and event id: neither can contain it, so no two keys are joined alike."""

PARKED_EPOCH, PARKED_OFFSET = "parked_epoch", "parked_offset"
"""Where append has refused an event; those that it parks alone have these."""

REPLY_TO = "reply_to"
PLACED = {"unplaced": "", REPLY_TO: ""}
"""The fields that an event loses when it is placed."""

REQUIRED_FIELDS = ("aggregate_id", "version", "type", "time", "schema_version", "data")
OPTIONAL_FIELDS = (
    *("prev", "correlation_id", "causation_id", "actor", "traceparent"),
    *("fingerprint", "discarded", REPLY_TO),
)


def document_id(key: EventKey) -> str:
    """Return the `_id` of an event's document."""
    return f"{key.aggregate_id}{KEY_SEPARATOR}{key.event_id}"


def event_id(document_id: str) -> str:
    """Return the event's id from its document's `_id`."""
    return document_id.rpartition(KEY_SEPARATOR)[2]


def key_filter(keys: Collection[EventKey]) -> Document:
    """Return the condition for the documents of these keys, which names their shards too.

    `_id` comes first: some servers choose the index of the first condition.
    """
    return {
        "_id": {"$in": [document_id(key) for key in keys]},
        "aggregate_id": {"$in": list({key.aggregate_id for key in keys})},
    }


def placed_document(event: EventRecord) -> Document:
    """Encode an event that has its position."""
    document = _document(event)
    source, _, offset = (event.position or "").rpartition("-")
    document["epoch"], document["partition"] = _split_source(source)
    document["offset"] = int(offset)
    return document


def unplaced_document(event: EventRecord, partition: int) -> Document:
    """Encode an event without a position, with the partition that will place it.

    Until then it has the address of who waits for it, for the record that it is placed by.
    """
    address = {} if event.reply_to is None else {REPLY_TO: event.reply_to}
    return _document(event) | address | {"partition": partition, "unplaced": partition}


def parked_document(event: EventRecord, position: Position) -> Document:
    """Encode an event that append can't place at a position."""
    return unplaced_document(event, position.partition) | parked_fields(position)


def parked_fields(position: Position) -> Document:
    """Return the position at which append has refused to place a parked event last."""
    return {PARKED_EPOCH: position.epoch, PARKED_OFFSET: position.offset}


def is_parked(document: Mapping[str, Any]) -> bool:
    """Return whether append parks the event of a document."""
    return document.get(PARKED_OFFSET) is not None


def parked_before(event: EventRecord, position: Position) -> list[Document]:
    """Return the conditions for an event that is parked, and was not refused at or past a position:
    one of them holds, and none after the change that it guards.

    By two fields, as bounds on a document are compared differently by different servers; and not by
    `$or`, since some servers scan for it instead of looking `_id` up.
    """
    epoch, _, offset = position
    key = {"_id": document_id(event.key), "aggregate_id": event.aggregate_id}
    earlier = [key | {PARKED_EPOCH: {"$lt": epoch}}] if epoch else []
    return [*earlier, key | {PARKED_EPOCH: epoch, PARKED_OFFSET: {"$lt": offset}}]


def position_fields(position: Position) -> Document:
    """Return a position as the fields of a document."""
    return position._asdict()


def to_event(domain: str, document: Document) -> EventRecord:
    """Decode a document."""
    fields = {name: document[name] for name in REQUIRED_FIELDS}
    fields.update((name, document[name]) for name in OPTIONAL_FIELDS if name in document)
    if "offset" in document:
        fields["position"] = f"{document['epoch']}-{document['partition']}-{document['offset']}"
        fields.pop(REPLY_TO, None)  # earlier releases kept it
    return EventRecord(id=event_id(document["_id"]), domain=domain, **fields)


@lru_cache(maxsize=1024)
def _split_source(source: str) -> tuple[int, int]:
    """Parse epoch and partition, the first part of a position: a store has few of them."""
    epoch, partition = source.split("-")
    return int(epoch), int(partition)


def _document(event: EventRecord) -> Document:
    """Encode what placed and unplaced events have in common.

    Spelt out, as every stored event passes here: a loop over the optional fields costs more than
    all the rest.
    """
    document: Document = {
        "_id": f"{event.aggregate_id}{KEY_SEPARATOR}{event.id}",
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
    if event.fingerprint is not None:
        document["fingerprint"] = event.fingerprint
    if event.discarded:
        document["discarded"] = True
    return document
