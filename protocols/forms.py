"""Commands read in one step, where reading one is checking the event that it becomes.

Of other commands, and of those at fault, the long way says what they become, or the reason.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from domains.commands import Emits, command_class
from domains.declaration import Domain
from domains.fields import storable
from protocols.intents import event_id, fits, too_large
from protocols.pending import Intent
from topics.codec import SMALL, as_written_here, encode
from topics.event import CloudEvent, EventRecord, Identifier, Instant, in_milliseconds
from topics.record import new_tuple


class Envelope(CloudEvent, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
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


class Form(NamedTuple):
    """What the commands of one name become, and how their payload is read."""

    type: str
    schema_version: int
    allowed: frozenset[str] | None
    read: Callable[[msgspec.Raw], Any]


class Forms:
    """Of those commands of a domain whose payload, once read, needs no further look.

    There are none in a synchronous domain, where commands become requests.
    """

    def __init__(self, domain: Domain[Any]) -> None:
        self._domain = domain.name
        commands = () if domain.synchronous else domain.commands
        rules = [rule for rule in commands if isinstance(rule, Emits)]
        self._of = {rule.name: form for rule in rules if (form := _form(domain, rule))}

    def intent(self, value: bytes | None) -> tuple[Envelope, Intent] | None:
        """None for what needs a closer look."""
        if value is None or len(value) > SMALL:
            return None
        command = as_written_here(value, _read)
        if command is None or command.domain != self._domain or not in_milliseconds(command.time):
            return None
        form = self._of.get(command.type)
        return form and _asked(command, form)


def _form(domain: Domain[Any], rule: Emits) -> Form | None:
    kind = command_class(rule)
    if kind is None or not (rule.alike and storable(kind) and fits(rule.type)):
        return None
    read = msgspec.json.Decoder(kind).decode
    return Form(rule.type, domain.newest(rule.type), rule.allowed, read)


def _asked(command: Envelope, form: Form) -> tuple[Envelope, Intent] | None:
    try:
        data = form.read(command.data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    event = EventRecord(
        id=event_id(command.domain, command.aggregate_id, command.id),
        type=form.type,
        domain=command.domain,
        aggregate_id=command.aggregate_id,
        time=command.time,
        data=data,
        schema_version=form.schema_version,
        correlation_id=command.correlation_id or command.id,
        causation_id=command.causation_id or command.id,
        actor=command.actor,
        traceparent=command.traceparent,
        reply_to=command.reply_to,
    )
    value = encode(event)
    if too_large(value):
        return None
    return command, new_tuple(Intent, (event, form.allowed, value, False))


_read = msgspec.json.Decoder(Envelope).decode
