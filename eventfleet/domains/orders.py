"""Orders of a shop, from placing to delivery, cancellation or return.

An asynchronous domain: its commands are checked against the latest event's type.
"""

from datetime import date, datetime
from typing import Annotated, Any

from msgspec import Meta
from msgspec.structs import replace

from eventfleet.model.command_rules import START, Emits
from eventfleet.model.declaration import Route
from eventfleet.model.domain import Domain
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


class OrderRow(Row):
    """`day`: of its placing, in UTC."""

    customer: str
    total: int
    currency: str
    day: date
    changed_at: datetime
    status: str = "placed"


def project_order(row: OrderRow | None, event: ProjectedEvent) -> OrderRow | None:
    if isinstance(event.data, Placed):
        return placed_order(event.data, event.time)
    status = evolve(Order(), event.data).status  # it follows from the event alone
    return row and replace(row, status=status, changed_at=event.time)


def placed_order(placed: Placed, at: datetime) -> OrderRow:
    return OrderRow(
        customer=placed.customer,
        total=placed.total,
        currency=placed.currency,
        day=at.date(),
        changed_at=at,
    )


class OrdersOfDay(Row):
    """The orders of a day that are in a status, by the currency of their `total` in cents."""

    day: date
    status: str
    currency: str
    orders: int = 0
    total: int = 0


def plus(day: OrdersOfDay, orders: int, total: int) -> OrdersOfDay:
    return replace(day, orders=day.orders + orders, total=day.total + total)


orders_by_day: Totals[OrderRow, OrdersOfDay] = Totals(
    "orders_by_day",
    row=OrdersOfDay,
    by=["day", "status", "currency"],
    group=lambda row: OrdersOfDay(day=row.day, status=row.status, currency=row.currency),
    add=lambda day, order: plus(day, 1, order.total),
    remove=lambda day, order: plus(day, -1, -order.total),
    merge=lambda one, other: plus(one, other.orders, other.total),
)

order_rows = View(
    "orders",
    row=OrderRow,
    project=project_order,
    indexes=[["status", "day"], ["customer"]],
    totals=[orders_by_day],
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
    views=[order_rows],
)
