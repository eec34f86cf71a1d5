"""From a command to the event that it is to become."""

from functools import lru_cache
from hashlib import sha1
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from eventfleet.deciders.pending_command import ProposedEvent
from eventfleet.model.command_rules import Emits
from eventfleet.model.domain import Domain
from eventfleet.topics.codec import decode, encode
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import MAX_EVENT_BYTES, MAX_ID_CHARS, EventRecord

LONGEST_PREV = len(b',"prev":""') + 6 * MAX_ID_CHARS
"""Bytes on the wire, each character escaped; the marker says only later which event is before."""

EVENT_IDS = UUID("6f1c7c52-4f3e-5d0c-9a57-2f6f0f2f7a11")
_SPACE = EVENT_IDS.bytes
_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}


def event_id(domain: str, aggregate_id: str, command_id: str, index: int = 0) -> str:
    """The id of a command's event: the same command is the same event (UUIDv5)."""
    name = f"{domain}\0{aggregate_id}\0{command_id}\0{index}"
    h = sha1(_SPACE + name.encode(), usedforsecurity=False).hexdigest()
    return f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:32]}"


def propose_event(domain: Domain[Any], command: EventRecord, new: bool = False) -> ProposedEvent:
    """As `propose_decoded_event`, of a command whose envelope nobody has checked."""
    return propose_decoded_event(domain, decode(encode(command)), new)


def propose_decoded_event(
    domain: Domain[Any], command: EventRecord, new: bool = False
) -> ProposedEvent:
    """What a command, in its envelope, asks for. InvalidRecord names the field.

    `id` is the command's, `type` its name, `data` its payload. The event's causation is the
    command; so is its correlation, unless the command says another.
    """
    if command.domain != domain.name:
        raise InvalidRecord("source", f"is {command.domain!r}, not {domain.name!r}")
    rule = domain.rule(command.type)
    if not isinstance(rule, Emits):
        raise TypeError(f"{domain.name} is synchronous: {rule.__name__} is no intent")
    event = replace(
        command,
        id=event_id(domain.name, command.aggregate_id, command.id),
        type=rule.type,
        data=domain.event_data(rule, command.data),
        schema_version=domain.latest_schema_version(rule.type),
        version=0,
        position=None,
        prev=None,
        correlation_id=command.correlation_id or command.id,
        causation_id=command.causation_id or command.id,
    )
    value = encode(event)
    if too_large(value):
        raise InvalidRecord("value", f"has {len(value)} bytes, with its prev more than the limit")
    if event.data != command.data or not fits(rule.type):
        event = decode(value)
    if not rule.same_schema:
        domain.check(event)
    return ProposedEvent(event, rule.allowed, value, new)


def too_large(value: bytes) -> bool:
    """Whether an event's bytes could be too many, once they have its `prev`."""
    return len(value) + LONGEST_PREV > MAX_EVENT_BYTES


@lru_cache(maxsize=1024)
def fits(name: str) -> bool:
    """Whether an event's type, as it is declared, would be read."""
    return len(name) <= MAX_ID_CHARS and "\0" not in name
