"""The event of a command: what it has of the command's envelope, and its id.

The id is derived from the command's, so that a repeated command is the same event.
"""

from typing import Any
from uuid import UUID

import msgspec

from eventfleet.topics.derived_id import derived_id
from eventfleet.topics.event import (
    CloudEvent,
    CommandRecord,
    EventRecord,
    ExpectedVersion,
    Identifier,
    Instant,
)

EVENT_IDS = UUID("6f1c7c52-4f3e-5d0c-9a57-2f6f0f2f7a11")
_NAMESPACE = EVENT_IDS.bytes


class UndecodedCommand(CloudEvent, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A command whose payload is not decoded yet; further attributes are not taken."""

    id: Identifier
    type: str
    domain: str
    aggregate_id: Identifier
    time: Instant
    data: msgspec.Raw
    correlation_id: str | None = None
    causation_id: str | None = None
    actor: str | None = None
    traceparent: str | None = None
    reply_to: str | None = None
    expected_version: ExpectedVersion | None = None


def event_of_command(
    command: UndecodedCommand | CommandRecord,
    kind: str,
    data: Any,
    schema_version: int = 1,
    fingerprint: str | None = None,
) -> EventRecord:
    """Make the event of a command, of several the first. Its causation is the command; so is its
    correlation, unless the command has another."""
    return EventRecord(
        id=event_id(command.domain, command.aggregate_id, command.id),
        type=kind,
        domain=command.domain,
        aggregate_id=command.aggregate_id,
        time=command.time,
        data=data,
        schema_version=schema_version,
        correlation_id=command.correlation_id or command.id,
        causation_id=command.causation_id or command.id,
        actor=command.actor,
        traceparent=command.traceparent,
        reply_to=command.reply_to,
        fingerprint=fingerprint,
    )


def event_id(domain: str, aggregate_id: str, command_id: str, index: int = 0) -> str:
    """Return the id of a command's event, the first unless `index` says another.

    It is the UUIDv5 of its arguments in EVENT_IDS.
    """
    return derived_id(_NAMESPACE, f"{domain}\0{aggregate_id}\0{command_id}\0{index}")
