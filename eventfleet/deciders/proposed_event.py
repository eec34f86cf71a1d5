"""ProposedEvent: the one event that a command of an asynchronous domain may become."""

from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from eventfleet.model.command_rules import Emits
from eventfleet.model.domain import Domain
from eventfleet.topics.codec import decode, decode_command, encode
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import MAX_EVENT_BYTES, CommandRecord, EventRecord, event_of_command
from eventfleet.topics.values import MAX_ID_CHARS

MAX_PREV_BYTES = len(b',"prev":""') + 6 * MAX_ID_CHARS
"""On the wire, each character escaped; the marker gives `prev` later."""


class ProposedEvent(NamedTuple):
    """The event that a command becomes if it is accepted.

    `event` has no `prev` yet; its payload is plain, or of the command's class. `allowed` are the
    event types that it may follow (None: any), `value` the event's bytes. `new`: the command's id
    was made for it, so that nobody can have sent it before. Past a `deadline` of its own, of the
    decider's steady clock, its caller has been answered: nothing is noted or produced then.
    """

    event: EventRecord
    allowed: frozenset[str] | None
    value: bytes
    new: bool = False
    deadline: datetime | None = None

    def is_late(self, now: datetime) -> bool:
        return self.deadline is not None and self.deadline <= now


def propose_event(domain: Domain[Any], command: EventRecord, new: bool = False) -> ProposedEvent:
    """Propose the event of a command whose envelope is not checked yet."""
    return propose_decoded_event(domain, decode_command(encode(command)), new)


def propose_decoded_event(
    domain: Domain[Any], command: CommandRecord, new: bool = False
) -> ProposedEvent:
    """Propose the event of a command, given in its envelope. InvalidRecord names the field."""
    if command.domain != domain.name:
        raise InvalidRecord("source", f"is {command.domain!r}, not {domain.name!r}")
    rule = domain.rule(command.type)
    if not isinstance(rule, Emits):
        raise TypeError(f"{domain.name} is synchronous: {command.type} is decided on the state")
    data, schema = domain.event_data(rule, command.data), domain.latest_schema_version(rule.type)
    event = event_of_command(command, rule.type, data, schema)
    value = encode(event)
    if is_too_large(value):
        raise InvalidRecord("value", f"has {len(value)} bytes, with its prev more than the limit")
    if event.data != command.data or not is_readable_type(rule.type):
        event = decode(value)
    if not rule.same_schema:
        domain.check(event)
    return ProposedEvent(event, rule.allowed, value, new)


def is_too_large(value: bytes) -> bool:
    """Check whether an event's bytes could exceed the limit once they have its `prev`."""
    return len(value) + MAX_PREV_BYTES > MAX_EVENT_BYTES


@lru_cache(maxsize=1024)
def is_readable_type(name: str) -> bool:
    """Check that the codec reads an event of this type back, whatever a domain declares."""
    return len(name) <= MAX_ID_CHARS and "\0" not in name
