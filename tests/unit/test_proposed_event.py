"""From a command to its event."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid5

import pytest
from msgspec.structs import replace

from eventfleet.deciders.proposed_event import propose_event
from eventfleet.domains.orders import orders
from eventfleet.model.command_rules import Emits
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import State
from eventfleet.topics.codec import decode, encode
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EVENT_IDS, MAX_EVENT_BYTES, MAX_ID_CHARS, EventRecord, event_id

NOW = datetime(2025, 1, 1, tzinfo=UTC)
FREE = Domain("free", state=State, evolve=lambda s, e: s, commands=[Emits("Say", "Said")])


def command(name: str = "Pay", domain: str = "orders", **named: Any) -> EventRecord:
    wanted: dict[str, Any] = {"id": "c", "aggregate_id": "a", "data": {"amount": 5}, "time": NOW}
    return EventRecord(type=name, domain=domain, **(wanted | named))


def test_the_same_command_is_the_same_event_and_any_other_is_another() -> None:
    known = event_id("orders", "a", "c")
    assert known == event_id("orders", "a", "c") == propose_event(orders, command()).event.id
    others = [
        event_id("order", "a", "c"),
        event_id("orders", "b", "c"),
        event_id("orders", "a", "d"),
        event_id("orders", "a", "c", 1),
        event_id("orders", "ac", ""),
    ]
    assert len({known, *others}) == 6


def test_event_ids_stay_what_they_are_from_release_to_release() -> None:
    assert event_id("orders", "order-1", "c-1") == "7165fcd5-d542-5388-b6d8-aedd13cace28"


@pytest.mark.parametrize("name", ["c", "große 주문 🧾", "x" * MAX_ID_CHARS, "", "\x01\0"])
def test_event_ids_are_uuids_of_the_fifth_version(name: str) -> None:
    for index in range(20):
        whole = "\0".join(("orders", name, f"c{index}", str(index)))
        known = event_id("orders", name, f"c{index}", index)
        assert known == str(uuid5(EVENT_IDS, whole))


def test_an_intents_bytes_are_its_events() -> None:
    late = NOW.astimezone(timezone(timedelta(hours=2))).replace(microsecond=1999)
    for asked in (command(), command("Cancel", data={}), command(time=late)):
        event, _, value, *_ = propose_event(orders, asked)
        assert decode(value) == event


def test_the_event_has_the_rules_type_and_the_newest_schema_and_names_its_command() -> None:
    data = {"customer": "ann", "total": 1, "currency": "EUR"}
    asked = command("Place", data=data, actor="ann", reply_to="me", traceparent="t")
    event, allowed, *_ = propose_event(orders, asked)
    assert (event.type, event.schema_version, event.data) == ("Placed", 2, data)
    assert (event.causation_id, event.correlation_id) == ("c", "c")
    assert (event.actor, event.reply_to, event.traceparent) == ("ann", "me", "t")
    assert (event.version, event.position, event.prev) == (0, None, None)
    assert event.time == NOW
    assert allowed == frozenset({""})


def test_a_commands_own_correlation_is_kept_and_what_only_append_gives_is_not() -> None:
    asked = command(correlation_id="k", version=7, position="0-0-1", prev="x", schema_version=9)
    event, *_ = propose_event(orders, asked)
    assert (event.correlation_id, event.causation_id) == ("k", "c")
    assert (event.version, event.position, event.prev, event.schema_version) == (0, None, None, 1)


def test_times_are_cut_to_whole_milliseconds() -> None:
    event, *_ = propose_event(orders, command(time=NOW.replace(microsecond=1999)))
    assert event.time == NOW.replace(microsecond=1000)


def test_defaults_of_the_command_are_in_the_event() -> None:
    assert propose_event(orders, command("Cancel", data={})).event.data == {"reason": ""}


def test_a_schema_free_command_keeps_its_payload() -> None:
    event, allowed, *_ = propose_event(FREE, command("Say", "free", data={"any": [1, {"x": None}]}))
    assert (event.type, event.data, allowed) == ("Said", {"any": [1, {"x": None}]}, None)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (command(domain="others"), "source"),
        (command("Bribe"), "type"),
        (command(data={"amount": 0}), "data.amount"),
        (command(data={"amount": "5"}), "data.amount"),
        (command(data={}), "data.amount"),
        (command(data={"amount": 5, "tip": 1}), "data.tip"),
        (command(aggregate_id=""), "subject"),
        (command(aggregate_id="x" * (MAX_ID_CHARS + 1)), "subject"),
        (command(aggregate_id="a\0b"), "subject"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_fields_name(asked: EventRecord, field: str) -> None:
    with pytest.raises(InvalidRecord) as refused:
        propose_event(orders, asked)
    assert refused.value.field == field


def test_an_accepted_event_is_readable_after_any_other() -> None:
    """The longest that is taken still fits when the marker has said which event it follows."""
    longest = 0
    for size in range(MAX_EVENT_BYTES - 3000, MAX_EVENT_BYTES, 50):
        asked = command("Say", "free", data={"word": "x" * size})
        try:
            event, *_ = propose_event(FREE, asked)
        except InvalidRecord:
            break
        longest = size
        decode(encode(replace(event, prev="\x01" * MAX_ID_CHARS)))
    assert 0 < longest < MAX_EVENT_BYTES - 100
