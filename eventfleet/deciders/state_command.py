"""StateCommand: a command of a synchronous domain, and the events that it becomes."""

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from eventfleet.deciders.expected_version import is_expected, version_conflict
from eventfleet.deciders.failures import decide_failed
from eventfleet.deciders.outcomes import Outcome, Rejected
from eventfleet.model.command_rules import CommandContext, Decides, Emits, Rejection
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Command, Data, Event
from eventfleet.model.value_copy import copy_value
from eventfleet.states.live_state import LiveState
from eventfleet.topics.codec import convert_payload, decode, encode, require_finite_numbers
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import (
    MAX_EVENT_BYTES,
    CommandRecord,
    EventRecord,
    ExpectedVersion,
    event_id,
    event_of_command,
)

MAX_SEEN_COMMANDS = 100
FINGERPRINT_DIGITS = 16
"""Hexadecimal: two commands with one id are a mistake, not an attack."""


class StateCommand(NamedTuple):
    """A command that is decided on the latest state.

    `event` is what all its events have in common, with the id of the first; without a `payload`
    to decide on it is the command's only event, but for its version. With an `expected_version` it
    holds for an aggregate of this version only. Past a `deadline` of its own, of the decider's
    steady clock, its caller has been answered: nothing is put then.
    """

    event: EventRecord
    command_id: str
    payload: Command | None
    expected_version: ExpectedVersion | None = None
    deadline: datetime | None = None

    def is_late(self, now: datetime) -> bool:
        return self.deadline is not None and self.deadline <= now


def parse_state_command(domain: Domain[Any], command: CommandRecord) -> StateCommand:
    """Parse a command of a synchronous domain from its envelope. InvalidRecord names the field."""
    if command.domain != domain.name:
        raise InvalidRecord("source", f"is {command.domain!r}, not {domain.name!r}")
    rule, expected = domain.rule(command.type), command.expected_version
    if not isinstance(rule, Emits):
        kind = rule.command if isinstance(rule, Decides) else rule
        payload = convert_payload(command.data, kind)
        content = fingerprint(command.type, payload, *_actor(domain, command))
        event = event_of_command(command, command.type, {}, 1, content)
        return StateCommand(event, command.id, payload, expected)
    data, schema = domain.event_data(rule, command.data), domain.latest_schema_version(rule.type)
    content = fingerprint(command.type, command.data)
    event = event_of_command(command, rule.type, data, schema, content)
    return StateCommand(validate_event(domain, event), command.id, None, expected)


def _actor(domain: Domain[Any], command: CommandRecord) -> tuple[str | None, ...]:
    return (command.actor,) if domain.takes_context else ()


def fingerprint(command: str, payload: Command | Data, *actor: str | None) -> str:
    """The hash of a command's name and payload, whatever the order of its keys; and of its actor,
    where `decide` gets to know it.

    An expected version is no part of it: it says when a command applies, not what it is. So who
    sends a command again, on a version read since, learns that it was accepted the first time.
    """
    parts = [command, payload, *actor]
    try:
        content = msgspec.json.encode(parts, order="sorted")
    except TypeError:  # it sorts texts only, and some dict's keys are none
        content = msgspec.json.encode(msgspec.to_builtins(parts, str_keys=True), order="sorted")
    return sha256(content).hexdigest()[:FINGERPRINT_DIGITS]


def seen_event_ids(domain: Domain[Any], command: StateCommand) -> dict[str, str]:
    """The ids of the earlier commands that the decision sees, by the ids of their first events.

    Errors of `sees` pass through. TypeError, ValueError: it returned no collection of ids, or more
    than MAX_SEEN_COMMANDS.
    """
    payload, aggregate_id = command.payload, command.event.aggregate_id
    sees = domain.sees.get(type(payload))
    if sees is None:
        return {}
    ids = sees(payload)
    if isinstance(ids, str) or not all(isinstance(each, str) for each in ids):
        raise TypeError(f"`sees` returned {ids!r}, which is no collection of command ids")
    if len(ids) > MAX_SEEN_COMMANDS:
        raise ValueError(f"`sees` returned {len(ids)} ids; the limit is {MAX_SEEN_COMMANDS}")
    return {event_id(domain.name, aggregate_id, each): each for each in ids}


def make_context(
    domain: Domain[Any], command: StateCommand, seen: Mapping[str, EventRecord]
) -> CommandContext:
    """The context of a decision; `seen` are the events that it sees, by the ids of their commands.
    InvalidRecord for one that does not fit the domain."""
    payloads = {command_id: domain.payload(event) for command_id, event in seen.items()}
    event = command.event
    return CommandContext(event.aggregate_id, command.command_id, event.time, event.actor, payloads)


def make_events(
    domain: Domain[Any], command: StateCommand, payloads: list[Event], version: int
) -> list[EventRecord]:
    """Make the events that follow `version`. InvalidRecord for one that no store can keep.

    Only the last event carries `reply_to`: a caller who waits for all of them waits for that one.
    """
    first, last = command.event, len(payloads) - 1
    events = []
    for index, payload in enumerate(payloads):
        kind, schema_version = domain.types_by_class[type(payload)]
        own_id = first.id
        if index:
            own_id = event_id(domain.name, first.aggregate_id, command.command_id, index)
        event = replace(
            first,
            id=own_id,
            type=kind,
            data=msgspec.to_builtins(payload, str_keys=True),
            schema_version=schema_version,
            version=version + 1 + index,
            reply_to=first.reply_to if index == last else None,
        )
        if not domain.always_storable(event):
            require_finite_numbers(payload)
        events.append(validate_event(domain, event))
    return events


def validate_event(domain: Domain[Any], event: EventRecord) -> EventRecord:
    """The event as each later stage reads it. InvalidRecord: constraints, size, or a value that no
    store can keep."""
    value = encode(event)
    if len(value) > MAX_EVENT_BYTES:
        raise InvalidRecord(
            "data", f"has {len(value)} bytes as an event, more than {MAX_EVENT_BYTES}"
        )
    if not domain.always_storable(event):
        event = decode(value)
    domain.payload(event)
    return event


# Decide


class NewEvents(msgspec.Struct):
    """The events that a command makes, and the state after them where a state was needed."""

    events: list[EventRecord]
    live: LiveState | None


def decide_events(
    domain: Domain[Any],
    command: StateCommand,
    live: LiveState | None,
    version: int,
    seen: Mapping[str, EventRecord],
) -> NewEvents | Outcome:
    """Return the events from `version` on of a command that passes, or its outcome.

    A command with a payload is decided on the state `live`; `seen` are the events that it sees.
    """
    expected = command.expected_version
    if expected is not None and not is_expected(version - 1, expected):
        return version_conflict(domain.name, command.event.aggregate_id, expected, version - 1)
    if command.payload is None:
        return NewEvents([replace(command.event, version=version)], live)
    assert live
    try:
        context = make_context(domain, command, seen) if domain.takes_context else None
        # On a state and a payload of its own: it may be decided again on the same.
        answer = domain.decide_events(copy_value(live.state), copy_value(command.payload), context)
        if isinstance(answer, Rejection):
            return Rejected(answer.reason)
        events, after = make_events(domain, command, answer, version - 1), live.copy()
        for event in events:
            after.fold(domain, event)
        return NewEvents(events, after)
    except Exception as error:
        return undecidable(domain, command, error)


def undecidable(domain: Domain[Any], command: StateCommand, error: Exception) -> Outcome:
    """Return the outcome of a command on which the domain's code raised."""
    name = f"{type(command.payload).__name__} {command.command_id}"
    return decide_failed(name, domain.name, command.event.aggregate_id, error)
