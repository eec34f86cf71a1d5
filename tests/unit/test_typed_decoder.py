"""Stored events read in one step are those that are read in two."""

from datetime import UTC, datetime
from typing import Annotated, Any

import pytest
from msgspec import Meta
from msgspec.structs import replace

from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Event, State
from eventfleet.model.typed_decoder import FOLD_FIELDS, make_typed_decoder
from eventfleet.snapshot_rules import size
from eventfleet.topics.codec import decode_stored, encode
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EventRecord


class Opened(Event):
    owner: Annotated[str, Meta(min_length=1)]
    since: datetime | None = None
    tags: dict[str, list[float]] = {}  # noqa: RUF012


class Closed(Event):
    pass


class Picky(Event):
    n: int

    def __post_init__(self) -> None:
        if self.n < 0:
            raise LookupError("negative")


class Account(State):
    pass


def a_domain(**named: Any) -> Domain[Account]:
    wanted: dict[str, Any] = {"events": [Opened, Closed, Picky], "upcasters": {Closed: [dict]}}
    return Domain("bank", state=Account, evolve=lambda state, _: state, **(wanted | named))


DOMAIN = a_domain()
EVENT = EventRecord(
    id="e-1",
    type="Opened",
    domain="bank",
    aggregate_id="a-1",
    time=datetime(2025, 1, 1, 12, 30, 0, 5000, UTC),
    data={"owner": "ann", "since": "2020-01-01T00:00:00Z", "tags": {"é\n": [1, 2.5, -1e300]}},
    version=3,
    position="0-1-2",
)
FULL = dict.fromkeys(("prev", "correlation_id", "causation_id", "actor", "reply_to"), "x")

KNOWN = [
    EVENT,
    replace(EVENT, **FULL, traceparent="00-1"),
    replace(EVENT, type="Closed", schema_version=2, data={}),
    replace(EVENT, type="Picky", data={"n": 2**62}),
]


@pytest.mark.parametrize("event", KNOWN, ids=lambda event: event.type)
def test_a_payload_is_read_as_its_own_type(event: EventRecord) -> None:
    read = make_typed_decoder(DOMAIN)(encode(event))
    assert read.data == DOMAIN.payload(event)
    assert isinstance(read.data, Event)
    for name in ("id", "type", "aggregate_id", "time", "version", "reply_to"):
        assert getattr(read, name) == getattr(event, name)


@pytest.mark.parametrize("event", KNOWN, ids=lambda event: event.type)
def test_an_event_has_the_fields_that_are_asked_for(event: EventRecord) -> None:
    fields = FOLD_FIELDS | {"position", "actor"}
    read: Any = make_typed_decoder(DOMAIN, fields)(encode(event))
    assert read.data == DOMAIN.payload(event)
    for name in fields - {"data"}:
        assert getattr(read, name) == getattr(event, name)
    assert not hasattr(read, "prev")
    assert not hasattr(make_typed_decoder(DOMAIN)(encode(event)), "position")


OTHERS = [
    replace(EVENT, type="Closed", data={}),
    replace(EVENT, type="Closed", schema_version=3, data={}),
    replace(EVENT, type="Unheard"),
    replace(EVENT, data={"owner": ""}),
    replace(EVENT, data={"owner": "ann", "more": 1}),
    replace(EVENT, type="Picky", data={"n": -1}),
]


@pytest.mark.parametrize("event", OTHERS, ids=lambda event: event.type)
def test_what_is_old_unknown_or_does_not_fit_is_read_as_before(event: EventRecord) -> None:
    assert make_typed_decoder(DOMAIN)(encode(event)) == event


WRITTEN = encode(EVENT)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (b'"specversion":"1.0",', b""),
        (b'"1.0"', b'"0.3"'),
        (b'"type":"Opened",', b""),
        (b'"id":"e-1",', b""),
        (b'"e-1"', b'""'),
        (b'"ann"', b'"\xff"'),
        (b'"ann"', b'"\\ud800"'),
        (b'"ann"', b"ann"),
        (b"005", b"xxx"),
        (b"Z", b""),
        (b'"version":3', b'"version":-3'),
        (b"}", b""),
        (WRITTEN, b""),
        (WRITTEN, b"[]"),
    ],
)
def test_what_is_unreadable_is_told_as_before(good: bytes, bad: bytes) -> None:
    value = WRITTEN.replace(good, bad)
    assert value != WRITTEN
    with pytest.raises(InvalidRecord) as expected:
        decode_stored(value)
    with pytest.raises(InvalidRecord) as found:
        make_typed_decoder(DOMAIN)(value)
    assert str(found.value) == str(expected.value)


def test_a_record_without_a_value_is_unreadable() -> None:
    with pytest.raises(InvalidRecord, match="value: is absent"):
        make_typed_decoder(DOMAIN)(None)


@pytest.mark.parametrize(
    "domain",
    [
        a_domain(snapshot=size(100)),
        a_domain(events=[Opened], upcasters={}),
        a_domain(events=[], upcasters={}),
    ],
    ids=["size", "one type", "no types"],
)
def test_other_domains_get_payloads_as_they_are(domain: Domain[Account]) -> None:
    assert make_typed_decoder(domain)(WRITTEN) == EVENT
    with pytest.raises(InvalidRecord):
        make_typed_decoder(domain)(WRITTEN.replace(b'"type":"Opened",', b""))
