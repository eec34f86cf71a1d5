"""The event of a command: what it has of the command's envelope."""

from typing import Any

import msgspec

from eventfleet.deciders.event_id import event_id
from eventfleet.topics.event import (
    CloudEvent,
    CommandRecord,
    EventRecord,
    ExpectedVersion,
    Identifier,
    Instant,
)


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
