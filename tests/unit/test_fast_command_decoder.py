"""Commands read in one step: they become what the long way makes of them, or go that way."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta
from msgspec.structs import replace

from eventfleet.deciders.command_parser import parse_command
from eventfleet.deciders.fast_command_decoder import FastCommandDecoder
from eventfleet.deciders.proposed_event import ProposedEvent, propose_event
from eventfleet.domains.bank import bank
from eventfleet.domains.orders import orders
from eventfleet.model.command_rules import Emits
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Command, Event, State
from eventfleet.topics.codec import encode
from eventfleet.topics.event import CommandRecord, EventRecord, ExpectedVersion

TIME = datetime(2025, 1, 1, 12, 30, 0, 7000, tzinfo=UTC)
FORMS = FastCommandDecoder(orders)
PAY = EventRecord(
    id="c", type="Pay", domain="orders", aggregate_id="a", time=TIME, data={"amount": 5}
)

texts = st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30)
payloads = st.sampled_from(
    [
        ("Place", {"customer": "ann", "total": 2**53, "currency": "EUR"}),
        ("Pay", {"amount": 5}),
        ("Cancel", {}),
        ("Cancel", {"reason": 'a "quoted" one, 주문'}),
        ("Deliver", {}),
    ]
)


envelopes = st.fixed_dictionaries(
    {
        "correlation_id": texts,
        "causation_id": texts,
        "actor": texts,
        "traceparent": texts,
        "reply_to": texts,
    }
)


@given(payloads, envelopes, st.booleans())
def test_a_command_becomes_what_the_long_way_makes_of_it(
    payload: tuple[str, dict[str, Any]], about: dict[str, str | None], new: bool
) -> None:
    command = replace(PAY, type=payload[0], data=payload[1], **about)
    read = FORMS.read(encode(command), new)
    assert read
    envelope, proposed = read
    assert isinstance(proposed, ProposedEvent)
    plain = replace(proposed.event, data=msgspec.to_builtins(proposed.event.data))
    assert proposed._replace(event=plain) == propose_event(orders, command, new)
    assert (envelope.id, envelope.type, envelope.aggregate_id) == ("c", payload[0], "a")
    assert (envelope.reply_to, envelope.correlation_id) == (
        about["reply_to"],
        about["correlation_id"],
    )


@given(
    st.sampled_from(
        [
            ("Open", {"owner": "ann", "currency": "EUR"}),
            ("Open", {"overdraft_limit": 5, "owner": "ann", "currency": "EUR"}),
            ("Deposit", {"amount": 10**18 - 1}),
            ("Freeze", {}),
            ("Freeze", {"reason": 'a "quoted" one, \uc8fc\ubb38'}),
        ]
    ),
    envelopes,
    st.none() | st.integers(0, 2**63 - 1) | st.just("*"),
)
def test_so_does_one_of_a_synchronous_domain(
    payload: tuple[str, dict[str, Any]],
    about: dict[str, str | None],
    expected: ExpectedVersion | None,
) -> None:
    command = CommandRecord(
        id="c",
        type=payload[0],
        domain="bank",
        aggregate_id="a",
        time=TIME,
        data=payload[1],
        expected_version=expected,
        **about,
    )
    read = FastCommandDecoder(bank).read(encode(command))
    assert read
    assert read[1] == parse_command(bank, command)


VALUE = encode(PAY)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        VALUE[:-1],
        VALUE.replace(b'{"amount":5}', b'{"amount":0}'),
        VALUE.replace(b'{"amount":5}', b'{"amount":5.0}'),
        VALUE.replace(b'{"amount":5}', b'{"amount":5,"note":1}'),
        VALUE.replace(b'{"amount":5}', b"[5]"),
        VALUE.replace(b'"subject":"a"', b'"subject":""'),
        VALUE.replace(b'"subject":"a"', b'"subject":"\\u0000"'),
        VALUE.replace(b'"subject":"a"', b'"subject":"\xff"'),
        VALUE.replace(b'"id":"c"', b'"id":"%b"' % (b"c" * 256)),
        VALUE.replace(b"Pay", b"Bribe"),
        VALUE.replace(b"orders", b"others"),
        VALUE.replace(b".007", b".0071"),
        VALUE.replace(b"Z", b"+01:00"),
        VALUE.replace(b'"subject":"a"', b'"subject":"a","color":"red"'),
        VALUE.replace(b'"1.0"', b'"0.3"'),
        VALUE.replace(b'"a"', b'"a","actor":"%b"' % (b"x" * 300_000)),
    ],
)
def test_what_is_unusual_or_at_fault_goes_the_long_way(value: bytes | None) -> None:
    assert FORMS.read(VALUE)
    assert value != VALUE
    assert FORMS.read(value) is None


class Put(Command):
    amount: Annotated[int, Meta(ge=0, le=9)]


class Putted(Event):
    amount: Annotated[int, Meta(ge=0, le=9)]


class Stricter(Event):
    amount: Annotated[int, Meta(ge=0, le=8)]


class Checked(Event):
    amount: Annotated[int, Meta(ge=0, le=9)]

    def __post_init__(self) -> None:
        raise ValueError("never")


class Boundless(Command):
    amount: int


class BoundlessPut(Event):
    amount: int


class Open(Command):
    more: dict[str, Any]


class Opened(Event):
    more: dict[str, Any]


@pytest.mark.parametrize(
    "rule",
    [
        Emits(Put, Stricter),
        Emits(Put, Checked),
        Emits(Open, Opened),
    ],
)
def test_a_payload_that_may_not_fit_its_event_or_a_store_goes_the_long_way(rule: Emits) -> None:
    assert not isinstance(rule.event, str)
    domain = Domain(
        "orders", state=State, evolve=lambda s, e: s, events=[rule.event], commands=[rule]
    )
    data: dict[str, Any] = {"more": {}} if rule.name == "Open" else {"amount": 9}
    command = encode(replace(PAY, type=rule.name, data=data))
    assert FastCommandDecoder(domain).read(command) is None


@given(st.integers() | st.sampled_from([10**18 - 1, 10**18, -(10**18), 2**63]), st.booleans())
def test_of_integers_without_bounds_those_of_nineteen_digits_go_the_long_way(
    amount: int, synchronous: bool
) -> None:
    rule = Boundless if synchronous else Emits(Boundless, BoundlessPut)
    decide: Any = (lambda state, command: []) if synchronous else None
    named: dict[str, Any] = {"state": State, "evolve": lambda s, e: s, "events": [BoundlessPut]}
    domain = Domain("orders", commands=[rule], decide=decide, **named)
    command = CommandRecord(
        id="c",
        type="Boundless",
        domain="orders",
        aggregate_id="a",
        time=TIME,
        data={"amount": amount},
    )
    read = FastCommandDecoder(domain).read(encode(command))
    assert (read is None) == (abs(amount) >= 10**18)
    if read:
        parsed = parse_command(domain, command)
        assert encode(read[1].event) == encode(parsed.event)
        assert getattr(read[1], "payload", None) == getattr(parsed, "payload", None)


def test_a_synchronous_domains_commands_without_a_validator_go_the_long_way() -> None:
    rule, decided = Emits(Put, Putted), Boundless
    named: dict[str, Any] = {"state": State, "evolve": lambda s, e: s, "events": [Putted]}
    command = encode(replace(PAY, type="Put"))
    assert FastCommandDecoder(Domain("orders", commands=[rule], **named)).read(command)
    synchronous = Domain("orders", commands=[rule, decided], decide=lambda s, c: [], **named)
    assert FastCommandDecoder(synchronous).read(command) is None


class Book(Command):
    at: datetime


class Booked(Event):
    at: datetime


@pytest.mark.parametrize(
    "text", ["2025-01-01T02:00:00+02:00", "2025-01-01t02:00:00.1234567z", "2025-01-01 02:00:00"]
)
def test_a_time_is_what_the_long_way_makes_of_it_however_it_is_spelt(text: str) -> None:
    named: dict[str, Any] = {"state": State, "evolve": lambda s, e: s, "events": [Booked]}
    domain = Domain("orders", commands=[Emits(Book, Booked)], **named)
    command = replace(PAY, type="Book", data={"at": text})
    read = FastCommandDecoder(domain).read(encode(command))
    assert read
    assert isinstance(read[1], ProposedEvent)
    event = replace(read[1].event, data=msgspec.to_builtins(read[1].event.data))
    assert read[1]._replace(event=event) == propose_event(domain, command, False)
