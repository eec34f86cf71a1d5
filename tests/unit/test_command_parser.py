"""The events of synchronous commands, as each later stage will read them."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from eventfleet.deciders.command_parser import parse_command
from eventfleet.deciders.state_command import validate_event
from eventfleet.domains.bank import Deposited, Opened, bank
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Event, State
from eventfleet.topics.codec import decode, encode
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EventRecord

LONG = "a" * 1_000_000
TIME = datetime(2025, 1, 1, tzinfo=UTC)


class Counted(Event):
    of: dict[str, int]


class Measured(Event):
    value: float | int


class Booked(Event):
    at: datetime | None


counts: Domain[State] = Domain(
    "counts", state=State, evolve=lambda state, event: state, events=[Counted, Measured, Booked]
)


def made(domain: Domain[Any], payload: Event) -> EventRecord:
    return EventRecord(
        id="e-1",
        type=type(payload).__name__,
        domain=domain.name,
        aggregate_id="a",
        time=TIME,
        data=msgspec.to_builtins(payload),
        version=1,
    )


@pytest.mark.parametrize(
    ("domain", "payload", "alone"),
    [
        (bank, Opened(owner="a\0n\u00e9", currency="EUR"), True),
        (bank, Deposited(amount=2**63 - 1), True),
        (counts, Booked(at=TIME), True),
        (counts, Counted(of={"a": 1}), False),
        (counts, Measured(value=0.5), False),
    ],
)
def test_an_event_that_fits_is_what_is_read_of_it(
    domain: Domain[Any], payload: Event, alone: bool
) -> None:
    event = made(domain, payload)
    assert domain.always_storable(event) is alone
    assert validate_event(domain, event) == decode(encode(event))


@pytest.mark.parametrize(
    ("domain", "payload", "field"),
    [
        (bank, Deposited(amount=0), "data.amount"),
        (bank, Deposited(amount=2**63), "data.amount"),
        (bank, Opened(owner=LONG, currency="EUR"), "data"),
        (counts, Counted(of={"a\0b": 1}), "data.of"),
        (counts, Counted(of={"a": 2**63}), "data.of.a"),
        (counts, Measured(value=2**64), "data.value"),
    ],
)
def test_one_that_cant_be_stored_is_refused_with_the_fields_name(
    domain: Domain[Any], payload: Event, field: str
) -> None:
    with pytest.raises(InvalidRecord) as refused:
        validate_event(domain, made(domain, payload))
    assert refused.value.field == field


def test_a_fingerprint_is_that_of_what_is_asked_however_it_is_spelt() -> None:
    spelt: list[dict[str, Any]] = [
        {"owner": "ann", "currency": "EUR"},
        {"currency": "EUR", "owner": "ann"},
        {"currency": "EUR", "overdraft_limit": 0, "owner": "ann"},
    ]
    command = replace(made(bank, Deposited(amount=1)), type="Open", version=0)
    asked = [parse_command(bank, replace(command, data=data)) for data in spelt]
    asked.append(parse_command(bank, replace(command, data={**spelt[0], "owner": "bob"})))
    same, *others = [each.event.fingerprint for each in asked]
    assert [other == same for other in others] == [True, True, False]
