"""The life of an order: given events, then state."""

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.inspect import StructType
from msgspec.inspect import type_info as inspected

from eventfleet import Command, Event, InvalidRecord, SinceSnapshot, replay
from eventfleet.domains.orders import (
    Cancel,
    Cancelled,
    Deliver,
    Delivered,
    Order,
    Pack,
    Packed,
    Paid,
    Pay,
    Place,
    Placed,
    Return,
    Returned,
    Ship,
    Shipped,
    evolve,
    orders,
)
from eventfleet.testing import given
from tests.order_oracle import TABLE
from tests.unit.event_records import record

PLACED = Placed(customer="ann", total=1999, currency="EUR")
PAID = Paid(amount=1999)
AS_PLACED: dict[str, Any] = {"customer": "ann", "total": 1999, "currency": "EUR"}

LIVES: list[tuple[list[Event], Order]] = [
    ([], Order()),
    ([PLACED], Order(status="placed", **AS_PLACED)),
    ([PLACED, Paid(amount=1999)], Order(status="paid", paid=1999, **AS_PLACED)),
    (
        [PLACED, Paid(amount=1000), Paid(amount=999)],
        Order(status="paid", paid=1999, **AS_PLACED),
    ),
    (
        [PLACED, Paid(amount=1999), Packed(parcels=2)],
        Order(status="packed", paid=1999, parcels=2, **AS_PLACED),
    ),
    (
        [PLACED, Paid(amount=1999), Packed(parcels=2), Shipped(carrier="post")],
        Order(status="shipped", paid=1999, parcels=2, carrier="post", **AS_PLACED),
    ),
    (
        [PLACED, Paid(amount=1999), Packed(parcels=1), Shipped(carrier="post"), Delivered()],
        Order(status="delivered", paid=1999, parcels=1, carrier="post", **AS_PLACED),
    ),
    (
        [
            PLACED,
            Paid(amount=1999),
            Packed(parcels=1),
            Shipped(carrier="post"),
            Delivered(),
            Returned(refund=1500),
            Returned(refund=499),
        ],
        Order(
            status="returned", paid=1999, refunded=1999, parcels=1, carrier="post", **AS_PLACED
        ),
    ),
    ([PLACED, Cancelled()], Order(status="cancelled", **AS_PLACED)),
    (
        [PLACED, Paid(amount=1999), Cancelled(reason="late")],
        Order(status="cancelled", paid=1999, **AS_PLACED),
    ),
]  # fmt: skip


def type_info(kind: type[Event | Command]) -> StructType:
    found = inspected(kind)
    assert isinstance(found, StructType)
    return found


@pytest.mark.parametrize(("events", "then"), LIVES)
def test_an_order_is_what_has_happened_to_it(events: list[Event], then: Order) -> None:
    assert replay(evolve, Order(), events) == then
    assert orders.load_state(orders.dump_state(then)) == then


def test_every_event_of_the_domain_has_a_place_in_a_life() -> None:
    assert {type(event) for events, _ in LIVES for event in events} == {*orders.events}


def test_an_event_without_a_rule_is_a_fault() -> None:
    class Lost(Event):
        pass

    with pytest.raises(TypeError, match="no rule for Lost"):
        evolve(Order(), Lost())


@pytest.mark.parametrize(
    ("kind", "data", "field"),
    [
        ("Placed", {**AS_PLACED, "customer": ""}, "data.customer"),
        ("Placed", {**AS_PLACED, "customer": "x" * 201}, "data.customer"),
        ("Placed", {**AS_PLACED, "total": 0}, "data.total"),
        ("Placed", {**AS_PLACED, "total": 2**53 + 1}, "data.total"),
        ("Placed", {**AS_PLACED, "total": 19.99}, "data.total"),
        ("Placed", {**AS_PLACED, "currency": "euro"}, "data.currency"),
        ("Placed", {**AS_PLACED, "currency": "EUR\n"}, "data.currency"),
        ("Paid", {"amount": 0}, "data.amount"),
        ("Packed", {"parcels": 10_001}, "data.parcels"),
        ("Shipped", {"carrier": ""}, "data.carrier"),
        ("Delivered", {"to": "ann"}, "data.to"),
        ("Cancelled", {"reason": "x" * 501}, "data.reason"),
        ("Returned", {"refund": -1}, "data.refund"),
    ],
)
def test_a_payload_out_of_its_bounds_is_unreadable(
    kind: str, data: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRecord) as caught:
        orders.check(record(kind, data, orders.latest_schema_version(kind)))
    assert caught.value.field == field


def test_orders_placed_before_there_were_currencies_are_in_euros() -> None:
    old = record("Placed", {"customer": "ann", "total": 1999}, schema_version=1)
    assert orders.payload(old) == PLACED
    assert orders.fold(Order(), old) == Order(status="placed", **AS_PLACED)
    assert old.data == {"customer": "ann", "total": 1999}


def test_the_new_schema_needs_a_currency() -> None:
    new = record("Placed", {"customer": "ann", "total": 1999}, schema_version=2)
    with pytest.raises(InvalidRecord, match=r"data\.currency: is missing"):
        orders.payload(new)


@pytest.mark.parametrize("latest", ["", *(kind.__name__ for kind in orders.events)])
def test_a_command_is_allowed_after_just_the_events_of_the_table(latest: str) -> None:
    for rule in orders.commands:
        assert rule.allowed is not None
        after = rule.type if latest in rule.allowed else None
        assert after == TABLE.get((latest, rule.name))


LIFE: list[tuple[Command, Event]] = [
    (Place(**AS_PLACED), PLACED),
    (Pay(amount=1999), Paid(amount=1999)),
    (Pack(parcels=2), Packed(parcels=2)),
    (Ship(carrier="post"), Shipped(carrier="post")),
    (Deliver(), Delivered()),
    (Return(refund=1999), Returned(refund=1999)),
]
CANCEL = (Cancel(reason="late"), Cancelled(reason="late"))


def test_an_order_is_placed_paid_packed_shipped_delivered_and_returned() -> None:
    story: Any = given(orders)
    for command, event in LIFE:
        story = story.when(command).then(event)
    story.state(status="returned", carrier="post", refunded=1999)


@pytest.mark.parametrize("done", range(len(LIFE) + 2))
def test_what_an_order_does_not_allow_is_rejected_with_its_latest_event(done: int) -> None:
    """After each step of a life, and after a cancellation, all commands but those of the table."""
    cancelled = done > len(LIFE)
    past = [LIFE[0], CANCEL] if cancelled else LIFE[:done]
    latest = type(past[-1][1]).__name__ if past else ""
    for command, event in [*LIFE, CANCEL]:
        kind = type(event).__name__
        answered = given(orders, *(event for _, event in past)).when(command)
        if (latest, type(command).__name__) in TABLE:
            answered.then(event)
        else:
            present = f", not {latest}" if latest else ", and there is no event"
            answered.rejected(f"{kind} may follow ").rejected(present)


def test_a_status_does_not_say_how_it_came_about() -> None:
    """Where only the row is kept, nobody knows whether the cancelled order had been paid."""
    unpaid, paid = (given(orders, *events).when(CANCEL[0]) for events in ([PLACED], [PLACED, PAID]))
    assert unpaid.row("orders", status="cancelled") == paid.row("orders")
    assert [each.type for each in paid._events] == ["Placed", "Paid", "Cancelled"]


def test_every_command_becomes_an_event_of_the_same_fields() -> None:
    assert {rule.event for rule in orders.commands} == {*orders.events}
    for rule in orders.commands:
        assert not isinstance(rule.command, str)
        assert not isinstance(rule.event, str)
        assert type_info(rule.command).fields == type_info(rule.event).fields


def test_an_order_is_snapshotted_when_it_ends_or_has_changed_five_times_or_is_old() -> None:
    assert orders.snapshot
    now = datetime(2024, 1, 1, 0, 10, tzinfo=UTC)

    def due(events: int, kind: str, minute: int) -> bool:
        time = datetime(2024, 1, 1, 0, minute, tzinfo=UTC)
        assert orders.snapshot
        return orders.snapshot.due(SinceSnapshot(events, 0, time, now, frozenset({kind}), 10))

    assert not due(4, "Shipped", 1)
    assert due(5, "Shipped", 1)
    assert due(4, "Shipped", 0)
    assert all(due(1, kind, 1) for kind in ("Delivered", "Cancelled", "Returned"))


def test_packed_orders_go_to_shipping_and_money_to_finance() -> None:
    assert {route.to: route.names for route in orders.routes} == {
        "shipping.requests": {"Packed"},
        "finance.ledger": {"Paid", "Returned"},
    }
