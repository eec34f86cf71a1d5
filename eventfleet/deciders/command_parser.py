"""What a command asks for: an Intent in an asynchronous domain, a Request in a synchronous one."""

from hashlib import sha256
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from eventfleet.deciders.pending_command import ProposedEvent
from eventfleet.deciders.proposed_events import event_id, fits, propose_decoded_event
from eventfleet.model.command_rules import Emits
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Command, Data, Event
from eventfleet.topics.codec import convert, decode, encode
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import MAX_EVENT_BYTES, EventRecord

FINGERPRINT = 16
"""Hexadecimal digits: two commands with one id are a mistake, not an attack."""


class StateCommand(NamedTuple):
    """A command of a synchronous domain.

    `event` is what all its events have in common, with the id of the first; without a `payload`
    to decide on it is the command's only event, but for its version.
    """

    event: EventRecord
    command_id: str
    payload: Command | None


ParsedCommand = ProposedEvent | StateCommand


def parse_command(domain: Domain[Any], command: EventRecord) -> ParsedCommand:
    """As `parse_decoded_command`, of a command whose envelope nobody has checked."""
    return parse_decoded_command(domain, decode(encode(command)))


def parse_decoded_command(
    domain: Domain[Any], command: EventRecord, new: bool = False
) -> ParsedCommand:
    """What a command, in its envelope, asks for; `new` where its id was made for it. InvalidRecord
    names the field."""
    if domain.synchronous:
        return parse_state_command(domain, command)
    return propose_decoded_event(domain, command, new)


def parse_state_command(domain: Domain[Any], command: EventRecord) -> StateCommand:
    """What is asked of a synchronous domain."""
    if command.domain != domain.name:
        raise InvalidRecord("source", f"is {command.domain!r}, not {domain.name!r}")
    rule = domain.rule(command.type)
    if not isinstance(rule, Emits):
        payload = convert(command.data, rule, at="data")
        return StateCommand(_shared(command, payload), command.id, payload)
    event, data = _shared(command, command.data), domain.event_data(rule, command.data)
    event = replace(
        event, type=rule.type, data=data, schema_version=domain.latest_schema_version(rule.type)
    )
    return StateCommand(validate_event(domain, event), command.id, None)


def _shared(command: EventRecord, payload: Command | Data) -> EventRecord:
    """What a command's events have in common, with the id of the first."""
    return replace(
        command,
        id=event_id(command.domain, command.aggregate_id, command.id),
        data={},
        schema_version=1,
        version=0,
        position=None,
        prev=None,
        correlation_id=command.correlation_id or command.id,
        causation_id=command.causation_id or command.id,
        fingerprint=fingerprint(command.type, payload),
    )


def fingerprint(command: str, payload: Command | Data) -> str:
    """Of a command's name and payload, whatever the order of its keys."""
    asked = msgspec.json.encode([command, payload], order="sorted")
    return sha256(asked).hexdigest()[:FINGERPRINT]


def make_events(
    domain: Domain[Any], request: StateCommand, payloads: list[Event], version: int
) -> list[EventRecord]:
    """The events that a command became, after `version`. InvalidRecord for one that none can store.

    Who waits for them waits for the last one, which alone says so.
    """
    last = len(payloads) - 1
    return [
        _nth(domain, request, index, payload, version + 1 + index, index == last)
        for index, payload in enumerate(payloads)
    ]


def _nth(
    domain: Domain[Any], request: StateCommand, index: int, payload: Event, version: int, last: bool
) -> EventRecord:
    kind, first = type(payload).__name__, request.event
    own_id = first.id
    if index:
        own_id = event_id(domain.name, first.aggregate_id, request.command_id, index)
    event = replace(
        first,
        id=own_id,
        type=kind,
        data=msgspec.to_builtins(payload),
        schema_version=domain.latest_schema_version(kind),
        version=version,
        reply_to=first.reply_to if last else None,
    )
    return validate_event(domain, event)


def validate_event(domain: Domain[Any], event: EventRecord) -> EventRecord:
    """The event as each later stage will read it: constraints, size and what stores can keep."""
    value = encode(event)
    if len(value) > MAX_EVENT_BYTES:
        raise InvalidRecord(
            "data", f"has {len(value)} bytes as an event, more than {MAX_EVENT_BYTES}"
        )
    if not (domain.always_storable(event) and fits(event.type)):
        event = decode(value)
    domain.check(event)
    return event
