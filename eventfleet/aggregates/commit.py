"""The events of a commit: what one save of an aggregate stores."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from eventfleet.aggregates.aggregate import Aggregate
from eventfleet.aggregates.command_envelope import CommandEnvelope
from eventfleet.deciders.state_command import StateCommand, fingerprint, make_events
from eventfleet.model.payloads import Data
from eventfleet.topics.codec import decode, encode
from eventfleet.topics.event import EventKey, EventRecord, event_id
from eventfleet.topics.names import wire_name

CARRIED_METADATA = ("actor", "correlation_id", "causation_id", "traceparent")
"""The keys of a command's metadata that its events carry."""


def make_commit_events(
    aggregate: Aggregate[Any], command: CommandEnvelope[Any] | None, now: datetime
) -> list[EventRecord]:
    """Make the events of the uncommitted changes. InvalidRecord: no store can keep one."""
    domain, changes = aggregate.domain, [*aggregate.uncommitted_changes]
    command_id = command.id if command else aggregate.commit_id
    shared = EventRecord(
        id=event_id(domain.name, aggregate.id, command_id),
        type=wire_name(type(changes[0])),
        domain=domain.name,
        aggregate_id=aggregate.id,
        time=now,
        data={},
        **(_command_attributes(command) if command else {}),
    )
    checked = StateCommand(decode(encode(shared)), command_id, None)
    return make_events(domain, checked, changes, aggregate.expected_version)


def commit_event_key(domain: str, aggregate_id: str, command_id: str, index: int) -> EventKey:
    """Return the key of a commit's n-th event; without a command, by the aggregate's commit id."""
    return EventKey(aggregate_id, event_id(domain, aggregate_id, command_id, index))


def are_same(stored: Sequence[EventRecord], events: Sequence[EventRecord]) -> bool:
    """Return whether these events were stored, not others of the same command."""
    return [*map(_content, stored)] == [*map(_content, events)]


def _command_attributes(command: CommandEnvelope[Any]) -> dict[str, Any]:
    """Return the attributes of events that say which command made them."""
    cause = {"correlation_id": command.id, "causation_id": command.id}
    carried = {
        name: command.metadata[name] for name in CARRIED_METADATA if name in command.metadata
    }
    return cause | carried | {"fingerprint": fingerprint(command.name, command.payload)}


def _content(event: EventRecord) -> tuple[str, int, str, Data]:
    return event.id, event.version, event.type, event.data
