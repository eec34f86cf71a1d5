"""Serializer: a bus's bytes of an event. The default writes CloudEvents 1.0."""

from typing import Any, Literal, Protocol

import msgspec

from eventfleet.buses.event import DocumentEvent
from eventfleet.topics.codec import check_identifiers, convert, parse, parse_encoded
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import Instant, truncate_to_milliseconds
from eventfleet.topics.values import NESTED_TOO_DEEP, fit_numbers, require_finite


class Serializer(Protocol):
    """Encodes events for a bus, and decodes them."""

    def encode(self, event: DocumentEvent) -> bytes:
        """Encode an event. InvalidRecord names the field and the reason."""

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
    time: Instant
    version: int
    datacontenttype: Literal["application/json"] = "application/json"
    data: dict[str, Any]


class CloudEventsSerializer:
    """Serializer of CloudEvents 1.0 in structured JSON mode."""

    def encode(self, event: DocumentEvent) -> bytes:
        envelope = DocumentEnvelope(
            id=event.id,
            type=event.event_type,
            source=event.aggregate_type,
            subject=event.aggregate_id,
            time=event.timestamp,
            version=event.version,
            data=event.data,
        )
        check_identifiers(envelope.id, envelope.type, envelope.subject)
        try:
            value = msgspec.json.encode(envelope)
        except RecursionError:
            raise InvalidRecord("data", NESTED_TOO_DEEP) from None
        except (TypeError, ValueError) as error:
            raise InvalidRecord("data", f"is not JSON: {error}") from None
        parse_encoded(value)
        require_finite(envelope.data, "data")
        return value

    def decode(self, value: bytes) -> DocumentEvent:
        envelope = convert(parse(value), DocumentEnvelope)
        check_identifiers(envelope.id, envelope.type, envelope.subject)
        return DocumentEvent(
            id=envelope.id,
            event_type=envelope.type,
            aggregate_id=envelope.subject,
            aggregate_type=envelope.source,
            version=envelope.version,
            timestamp=truncate_to_milliseconds(envelope.time),
            data=fit_numbers(envelope.data, Any, "data"),
        )
