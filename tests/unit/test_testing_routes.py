"""The kit's steps for routes and snapshot rules."""

from dataclasses import replace as with_changes
from datetime import timedelta
from typing import Any

import pytest

from eventfleet import (
    Domain,
    Event,
    Route,
    Rule,
    SchemalessPayload,
    SinceSnapshot,
    State,
    after,
    every,
    on,
)
from eventfleet.testing import StoredEvent, given
from tests.unit.kit_failures import failure


class Paid(Event):
    amount: int


class Closed(Event):
    pass


def is_large(event: Any) -> bool:
    return bool(event.data.amount > 5)


bills = Domain(
    "bills",
    state=State,
    evolve=lambda bill, event: bill,
    events=[Paid, Closed],
    upcasters={Paid: [lambda data: {"amount": data["euros"] * 100}]},
    snapshot=every(3) | on(Closed) | after(hours=1),
    routes=[Route("all"), Route("large", types=[Paid], when=is_large)],
)
notes = Domain(
    "notes",
    state=State,
    evolve=lambda note, event: note,
    routes=[Route("long", when=lambda event: len(event.data.data["text"]) > 3)],
)


def test_a_condition_gets_payloads_of_their_classes_in_their_newest_schema() -> None:
    old = StoredEvent(Paid, {"euros": 1})
    bill = given(bills, Paid(amount=5), Paid(amount=6), Closed(), old)
    bill.routed("large", Paid(amount=6), Paid(amount=100))
    bill.routed("all", Paid(amount=5), Paid(amount=6), Closed(), Paid(amount=100))
    given(bills, Closed()).routed("large")


def test_a_condition_of_a_schema_free_domain_gets_schemaless_payloads() -> None:
    short, long = (SchemalessPayload("Noted", {"text": text}) for text in ("abc", "abcd"))
    given(notes, short, long).routed("long", long)


def test_other_events_on_a_route_are_shown() -> None:
    assert failure(lambda: given(bills, Paid(amount=6)).routed("large")) == [
        "given  Paid(amount=6)",
        "route to large (- expected, + found)",
        "+ Paid(amount=6)",
    ]
    shown = failure(lambda: given(bills).routed("nowhere"))
    assert shown[1] == "the domain's routes do not lead there (- expected, + found)"
    assert {"- all", "- large", "+ nowhere"} <= {*shown}


def test_what_a_condition_raises_passes_through() -> None:
    as_dict = with_changes(bills, routes=[Route("large", when=lambda event: event.data["amount"])])
    with pytest.raises(TypeError, match="'Paid' object is not subscriptable"):
        given(as_dict, Paid(amount=6)).routed("large")


def test_the_snapshot_rule_is_asked_after_each_event_and_later() -> None:
    paid = Paid(amount=1)
    given(bills, *[paid] * 7).snapshots(3, 6).snapshots(3, 6, 7, later=timedelta(hours=1))
    given(bills, paid, Closed(), paid, paid).snapshots(2)
    given(bills).snapshots(later=timedelta(days=1))
    assert failure(lambda: given(bills, Closed()).snapshots(2))[1:] == [
        "snapshots (- expected, + found)",
        "- version 2",
        "?         ^",
        "+ version 1",
        "?         ^",
    ]


def test_what_a_snapshot_rule_raises_passes_through() -> None:
    class Raising(Rule):
        def holds(self, since: SinceSnapshot) -> bool:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        given(with_changes(bills, snapshot=Raising()), Closed()).snapshots()
    with pytest.raises(TypeError, match="bills has no snapshot rule"):
        given(with_changes(bills, snapshot=None), Closed()).snapshots()
