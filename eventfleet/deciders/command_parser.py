"""The command parser: a command's envelope becomes what a decider takes."""

from typing import Any

from msgspec.structs import replace

from eventfleet.deciders.proposed_event import ProposedEvent, propose_decoded_event
from eventfleet.deciders.state_command import StateCommand, parse_state_command
from eventfleet.model.command_rules import command_class
from eventfleet.model.domain import Domain
from eventfleet.topics.codec import decode_command, encode_digits
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EXPECTED_VERSION, CommandRecord, EventRecord
from eventfleet.topics.values import fit_numbers, has_decimals

ParsedCommand = ProposedEvent | StateCommand

NO_VERSION = (
    "is for synchronous domains; {} is asynchronous and decides on the latest event's type, before "
    "an event has a version. Send the command without it"
)


def parse_command(domain: Domain[Any], command: EventRecord) -> ParsedCommand:
    """Parse a command whose envelope is not checked yet."""
    return parse_decoded_command(domain, decode_command(encode_digits(command)))


def parse_decoded_command(
    domain: Domain[Any], command: CommandRecord, new: bool = False
) -> ParsedCommand:
    """Parse a command, given in its envelope. InvalidRecord names the field.

    `new`: the command's id was made for it, so that nobody can have sent it before.
    """
    if has_decimals(command.data):
        kind = command_class(domain.rule(command.type)) or Any
        command = replace(command, data=fit_numbers(command.data, kind, "data"))
    if domain.synchronous:
        return parse_state_command(domain, command)
    if command.expected_version is not None:
        raise InvalidRecord(EXPECTED_VERSION, NO_VERSION.format(domain.name))
    return propose_decoded_event(domain, command, new)
