"""Orders of a shop, from placing to delivery, cancellation or return.

An asynchronous domain: its commands are checked against the latest event's type.
"""

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta
from msgspec.structs import replace

from eventfleet.model.command_rules import START, Emits
from eventfleet.model.domain import Domain, Route
from eventfleet.model.payloads import Command, Event, State
from eventfleet.model.views import ProjectedEvent, Row, Totals, View
from eventfleet.snapshot_rules import after, every, on

Cents = Annotated[int, Meta(ge=0, le=2**53)]
PositiveCents = Annotated[int, Meta(ge=1, le=2**53)]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z")]
Parcels = Annotated[int, Meta(ge=1, le=10_000)]
Reason = Annotated[str, Meta(max_length=500)]


# Events (and upcasters)


class Placed(Event):
    customer: Name
    total: PositiveCents
    currency: Currency


class Paid(Event):
    amount: PositiveCents


class Packed(Event):
    parcels: Parcels


class Shipped(Event):
    carrier: Name


class Delivered(Event):
    pass


class Cancelled(Event):
    reason: Reason = ""


class Returned(Event):
    refund: Cents


def placed_with_currency(data: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 knew euros only."""
    return {"currency": "EUR", **data}


# State and evolve


class Order(State):
    status: str = "new"
    customer: str = ""
    total: int = 0
    currency: str = ""
    paid: int = 0
    refunded: int = 0
    parcels: int = 0
    carrier: str = ""


def evolve(order: Order, event: Event) -> Order:
    match event:
        case Placed(customer=customer, total=total, currency=currency):
            return replace(
                order, status="placed", customer=customer, total=total, currency=currency
            )
        case Paid(amount=amount):
            return replace(order, status="paid", paid=order.paid + amount)
        case Packed(parcels=parcels):
            return replace(order, status="packed", parcels=parcels)
        case Shipped(carrier=carrier):
            return replace(order, status="shipped", carrier=carrier)
        case Delivered():
            return replace(order, status="delivered")
        case Cancelled():
            return replace(order, status="cancelled")
        case Returned(refund=refund):
            return replace(order, status="returned", refunded=order.refunded + refund)
    raise TypeError(f"no rule for {type(event).__name__}")


# Commands


class Place(Command):
    customer: Name
    total: PositiveCents
    currency: Currency


class Pay(Command):
    amount: PositiveCents


class Pack(Command):
    parcels: Parcels


class Ship(Command):
    carrier: Name


class Deliver(Command):
    pass


class Cancel(Command):
    reason: Reason = ""


class Return(Command):
    refund: Cents


commands = [
    Emits(Place, Placed, after=[START]),
    Emits(Pay, Paid, after=[Placed]),
    Emits(Pack, Packed, after=[Paid]),
    Emits(Ship, Shipped, after=[Packed]),
    Emits(Deliver, Delivered, after=[Shipped]),
    Emits(Cancel, Cancelled, after=[Placed, Paid]),
    Emits(Return, Returned, after=[Delivered]),
]

# Snapshot rule

snapshot = every(5) | after(minutes=10) | on(Delivered, Cancelled, Returned)

# Routes

routes = [
    Route("shipping.requests", types=[Packed]),
    Route("finance.ledger", types=[Paid, Returned]),
]

# Views

STATUSES: dict[type[Event], str] = {
    **{Paid: "paid", Packed: "packed", Shipped: "shipped", Delivered: "delivered"},
    **{Cancelled: "cancelled", Returned: "returned"},
}


class OrderRow(Row):
    """`day`: the day on which the order was placed, in UTC. `total` in cents."""

    customer: str
    currency: str
    total: int
    day: str
    changed_at: datetime
    status: str = "placed"


def project_order(row: OrderRow | None, event: ProjectedEvent) -> OrderRow | None:
    if isinstance(event.data, Placed):
        placed, day = event.data, event.time.date().isoformat()
        return OrderRow(
            customer=placed.customer,
            currency=placed.currency,
            total=placed.total,
            day=day,
            changed_at=event.time,
        )
    return row and replace(row, status=STATUSES[type(event.data)], changed_at=event.time)


class OrdersOfDay(Row):
    """The orders of one day, status and currency, and the sum of their totals in cents."""

    day: str
    status: str
    currency: str
    orders: int = 0
    total: int = 0


by_day: Totals[OrderRow, OrdersOfDay] = Totals(
    "orders_by_day",
    row=OrdersOfDay,
    by=["day", "status", "currency"],
    group=lambda order: OrdersOfDay(day=order.day, status=order.status, currency=order.currency),
    add=lambda day, order: replace(day, orders=day.orders + 1, total=day.total + order.total),
    remove=lambda day, order: replace(day, orders=day.orders - 1, total=day.total - order.total),
    merge=lambda one, other: replace(
        one, orders=one.orders + other.orders, total=one.total + other.total
    ),
)

by_order = View(
    "orders",
    row=OrderRow,
    project=project_order,
    indexes=[["customer"], ["status", "changed_at"]],
    totals=[by_day],
)

# The Domain

orders = Domain(
    "orders",
    state=Order,
    evolve=evolve,
    events=[Placed, Paid, Packed, Shipped, Delivered, Cancelled, Returned],
    upcasters={Placed: [placed_with_currency]},
    commands=commands,
    snapshot=snapshot,
    routes=routes,
    views=[by_order],
)
