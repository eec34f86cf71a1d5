"""Serializer: a bus's bytes of an event. The default writes CloudEvents 1.0."""

from datetime import datetime
from typing import Any, Literal, Protocol

import msgspec

from eventfleet.buses.event import DocumentEvent
from eventfleet.topics.codec import to_invalid_record
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.values import DECODE_ERRORS


class Serializer(Protocol):
    """Encodes events for a bus, and decodes them."""

    def encode(self, event: DocumentEvent) -> bytes:
        """Encode an event."""

    def decode(self, value: bytes) -> DocumentEvent:
        """Decode an event. InvalidRecord names the field and the reason."""


def decode_if_readable(serializer: Serializer, value: bytes) -> DocumentEvent | None:
    """Decode an event; None: the serializer can't read it."""
    try:
        return serializer.decode(value)
    except InvalidRecord:
        return None


class DocumentEnvelope(msgspec.Struct, kw_only=True, tag_field="specversion", tag="1.0"):
    """A CloudEvents envelope: `source` is the aggregate's type, `subject` its id."""

    id: str
    type: str
    source: str
    subject: str
    time: datetime
    version: int
    datacontenttype: Literal["application/json"] = "application/json"
    data: dict[str, Any]


class CloudEventsSerializer:
    """Serializer of CloudEvents 1.0 in structured JSON mode."""

    def encode(self, event: DocumentEvent) -> bytes:
        return msgspec.json.encode(
            DocumentEnvelope(
                id=event.id,
                type=event.event_type,
                source=event.aggregate_type,
                subject=event.aggregate_id,
                time=event.timestamp,
                version=event.version,
                data=event.data,
            )
        )

    def decode(self, value: bytes) -> DocumentEvent:
        try:
            envelope = msgspec.json.decode(value, type=DocumentEnvelope)
        except msgspec.ValidationError as error:
            raise to_invalid_record(error) from None
        except DECODE_ERRORS as error:
            raise InvalidRecord("value", f"is not JSON: {error}") from None
        return DocumentEvent(
            id=envelope.id,
            event_type=envelope.type,
            aggregate_id=envelope.subject,
            aggregate_type=envelope.source,
            version=envelope.version,
            timestamp=envelope.time,
            data=envelope.data,
        )
