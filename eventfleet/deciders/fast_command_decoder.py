"""Commands read in one step, where a payload that fits its class needs no further look.

Of other commands, and of those at fault, the long way says what they become, or the reason.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from eventfleet.deciders.command_parser import ParsedCommand, StateCommand, fingerprint
from eventfleet.deciders.pending_command import ProposedEvent
from eventfleet.deciders.proposed_events import event_id, fits, too_large
from eventfleet.model.command_rules import CommandRule, Emits, command_class, command_name
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Command
from eventfleet.model.type_checks import is_storable
from eventfleet.topics.codec import SMALL_EVENT_BYTES, decode_canonical, encode
from eventfleet.topics.event import CloudEvent, EventRecord, Identifier, Instant, is_in_milliseconds
from eventfleet.topics.record import make_tuple


class CommandEnvelope(CloudEvent, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A command, its payload unread; one with further attributes goes the long way."""

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


class ProposedEventDecoder(NamedTuple):
    """What the commands of one name become, and how their payload is read."""

    type: str
    schema_version: int
    allowed: frozenset[str] | None
    read: Callable[[msgspec.Raw], Any]

    def asked(self, command: CommandEnvelope, new: bool) -> ProposedEvent | None:
        event = _event(command, self.type, self.read(command.data), self.schema_version)
        value = encode(event)
        if too_large(value):
            return None
        return make_tuple(ProposedEvent, (event, self.allowed, value, new))


class StateCommandDecoder(NamedTuple):
    """How the payload is read of the commands of one name, in a synchronous domain."""

    read: Callable[[msgspec.Raw], Command]

    def asked(self, command: CommandEnvelope, new: bool) -> StateCommand:
        payload = self.read(command.data)
        event = _event(command, command.type, {}, 1, fingerprint(command.type, payload))
        return make_tuple(StateCommand, (event, command.id, payload))


def _event(
    command: CommandEnvelope, kind: str, data: Any, schema_version: int, asked: str | None = None
) -> EventRecord:
    """What a command's event has of it; `asked`: the command's fingerprint."""
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
        fingerprint=asked,
    )


class FastCommandDecoder:
    """Of those commands of a domain whose payload, once read, needs no further look."""

    def __init__(self, domain: Domain[Any]) -> None:
        self._domain = domain.name
        forms = ((command_name(rule), _form(domain, rule)) for rule in domain.commands)
        self._of = {name: form for name, form in forms if form}

    def read(
        self, value: bytes | None, new: bool = False
    ) -> tuple[CommandEnvelope, ParsedCommand] | None:
        """The command and what it asks for, `new` where its id was made for it; None for what
        needs a closer look."""
        if value is None or len(value) > SMALL_EVENT_BYTES:
            return None
        command = decode_canonical(value, _read)
        if (
            command is None
            or command.domain != self._domain
            or not is_in_milliseconds(command.time)
        ):
            return None
        form = self._of.get(command.type)
        try:
            asked = form and form.asked(command, new)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return (command, asked) if asked else None


def _form(
    domain: Domain[Any], rule: CommandRule
) -> ProposedEventDecoder | StateCommandDecoder | None:
    kind = command_class(rule)
    if kind is None or not is_storable(kind):
        return None
    read = msgspec.json.Decoder(kind).decode
    if not isinstance(rule, Emits):
        return StateCommandDecoder(read)
    if domain.synchronous or not (rule.same_schema and fits(rule.type)):
        return None
    return ProposedEventDecoder(
        rule.type, domain.latest_schema_version(rule.type), rule.allowed, read
    )


_read = msgspec.json.Decoder(CommandEnvelope).decode
