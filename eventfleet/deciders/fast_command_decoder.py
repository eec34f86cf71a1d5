"""FastCommandDecoder: commands decoded and parsed in one step, without an EventRecord between.

It takes commands whose payload needs no check but that of its class. Any other command, and any
invalid one, goes through `decode_command` and `parse_decoded_command`, which give the reason.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from eventfleet.deciders.command_parser import ParsedCommand
from eventfleet.deciders.proposed_event import ProposedEvent, is_readable_type, is_too_large
from eventfleet.deciders.state_command import StateCommand, fingerprint
from eventfleet.model.command_rules import CommandRule, Emits, command_class, command_name
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Command
from eventfleet.model.type_checks import is_storable
from eventfleet.topics.codec import SMALL_EVENT_BYTES, decode_canonical, encode
from eventfleet.topics.event import UndecodedCommand, event_of_command, is_in_milliseconds
from eventfleet.topics.record import make_tuple


class ProposedEventDecoder(NamedTuple):
    """Decodes the commands of one name to the event that they become."""

    type: str
    schema_version: int
    allowed: frozenset[str] | None
    decode: Callable[[msgspec.Raw], Any]

    def parse(self, command: UndecodedCommand, new: bool) -> ProposedEvent | None:
        if command.expected_version is not None:
            return None
        event = event_of_command(command, self.type, self.decode(command.data), self.schema_version)
        value = encode(event)
        if is_too_large(value):
            return None
        return make_tuple(ProposedEvent, (event, self.allowed, value, new, None))


class StateCommandDecoder(NamedTuple):
    """Decodes the commands of one name in a synchronous domain."""

    decode: Callable[[msgspec.Raw], Command]
    takes_context: bool

    def parse(self, command: UndecodedCommand, new: bool) -> StateCommand:
        payload = self.decode(command.data)
        actor = (command.actor,) if self.takes_context else ()
        content = fingerprint(command.type, payload, *actor)
        event = event_of_command(command, command.type, {}, 1, content)
        fields = event, command.id, payload, command.expected_version, None
        return make_tuple(StateCommand, fields)


class FastCommandDecoder:
    """Decodes the commands of one domain; each command's own decoder is made once."""

    def __init__(self, domain: Domain[Any]) -> None:
        self._domain = domain.name
        decoders = ((command_name(rule), _decoder(domain, rule)) for rule in domain.commands)
        self._decoders = {name: decoder for name, decoder in decoders if decoder}

    def read(
        self, value: bytes | None, new: bool = False
    ) -> tuple[UndecodedCommand, ParsedCommand] | None:
        """The envelope and the parsed command; None where the full checks must say what is wrong.

        `new`: the command's id was made for it, so that nobody can have sent it before.
        """
        if value is None or not self._decoders or len(value) > SMALL_EVENT_BYTES:
            return None
        try:
            command = decode_canonical(value, _read_envelope)
            if (
                command is None
                or command.domain != self._domain
                or not is_in_milliseconds(command.time)
                or _LONG_NUMBER.search(command.data)
            ):
                return None
            decoder = self._decoders.get(command.type)
            parsed = decoder and decoder.parse(command, new)
        except Exception:  # a payload's own class may raise anything
            return None
        return (command, parsed) if parsed else None


def _decoder(
    domain: Domain[Any], rule: CommandRule
) -> ProposedEventDecoder | StateCommandDecoder | None:
    kind = command_class(rule)
    if kind is None or not is_storable(kind, bounded=True):
        return None
    decode = msgspec.json.Decoder(kind).decode
    if not isinstance(rule, Emits):
        return StateCommandDecoder(decode, domain.takes_context)
    if domain.synchronous or not (rule.same_schema and is_readable_type(rule.type)):
        return None
    return ProposedEventDecoder(
        rule.type, domain.latest_schema_version(rule.type), rule.allowed, decode
    )


_LONG_NUMBER = re.compile(rb"[0-9]{19}")
"""Any other integer has less than 64 bits."""
_read_envelope = msgspec.json.Decoder(UndecodedCommand).decode
