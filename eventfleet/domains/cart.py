"""Shopping carts, from the first session to check-out, also when a session is lost or given up.

An asynchronous domain: a click must be answered fast, from several devices at once, and costs
nothing if it is wrong. So a command is checked against the cart's status alone, which the latest
event's type tells. What it says about an item is settled by `evolve`: a change or removal of an
item that the cart does not hold changes nothing. A check-out names the items that the customer has
agreed to, and these are the cart's from then on.
"""

from datetime import datetime
from typing import Annotated

from msgspec import Meta
from msgspec.structs import replace

from eventfleet.model.command_rules import START, Emits
from eventfleet.model.domain import Domain, Route
from eventfleet.model.payloads import Command, Event, State
from eventfleet.model.views import ProjectedEvent, Row, Totals, View
from eventfleet.snapshot_rules import after, every, on

PositiveCents = Annotated[int, Meta(ge=1, le=2**53)]
Quantity = Annotated[int, Meta(ge=1, le=1000)]
Sku = Annotated[str, Meta(min_length=1, max_length=64)]
Quantities = Annotated[dict[Sku, Quantity], Meta(min_length=1, max_length=200)]
Id = Annotated[str, Meta(min_length=1, max_length=200)]
Minutes = Annotated[int, Meta(ge=1, le=2**31)]


# Events (and upcasters)


class CartOpened(Event):
    session: Id


class ItemAdded(Event):
    """`price` is for one unit, as it was shown."""

    sku: Sku
    quantity: Quantity
    price: PositiveCents


class QuantityChanged(Event):
    sku: Sku
    quantity: Quantity


class ItemRemoved(Event):
    sku: Sku


class CartAbandoned(Event):
    idle_minutes: Minutes


class CartResumed(Event):
    session: Id


class CartCheckedOut(Event):
    """`order`: the order that the cart becomes. The customer has agreed to `items` and `total`."""

    order: Id
    items: Quantities
    total: PositiveCents


# State and evolve


class CartItem(State):
    quantity: int = 0
    price: int = 0


class Cart(State):
    """`session`: the one that has the cart now. `items`: by SKU."""

    status: str = "new"
    session: str = ""
    items: dict[str, CartItem] = {}  # noqa: RUF012 (msgspec copies it)
    order: str = ""


def evolve(cart: Cart, event: Event) -> Cart:
    match event:
        case CartOpened(session=session) | CartResumed(session=session):
            return replace(cart, status="open", session=session)
        case ItemAdded(sku=sku, quantity=quantity, price=price):
            held = cart.items[sku].quantity if sku in cart.items else 0
            item = CartItem(quantity=held + quantity, price=price)
            return replace(cart, items=cart.items | {sku: item})
        case QuantityChanged(sku=sku, quantity=quantity):
            if sku not in cart.items:
                return cart
            item = replace(cart.items[sku], quantity=quantity)
            return replace(cart, items=cart.items | {sku: item})
        case ItemRemoved(sku=sku):
            left = {name: item for name, item in cart.items.items() if name != sku}
            return replace(cart, items=left)
        case CartAbandoned():
            return replace(cart, status="abandoned")
        case CartCheckedOut(order=order, items=agreed):
            return replace(with_quantities(cart, agreed), status="checked out", order=order)
    raise TypeError(f"no rule for {type(event).__name__}")


def with_quantities(cart: Cart, quantities: dict[str, int]) -> Cart:
    """Return the cart with these items only, at the prices that it knows."""
    items = {
        sku: replace(cart.items.get(sku, CartItem()), quantity=quantity)
        for sku, quantity in quantities.items()
    }
    return replace(cart, items=items)


# Commands


class OpenCart(Command):
    session: Id


class AddItem(Command):
    sku: Sku
    quantity: Quantity
    price: PositiveCents


class ChangeQuantity(Command):
    sku: Sku
    quantity: Quantity


class RemoveItem(Command):
    sku: Sku


class AbandonCart(Command):
    """Sent by a timer of the shop; items stay in the cart."""

    idle_minutes: Minutes


class ResumeCart(Command):
    """Hands the cart to a new session, after the former one was lost or the cart abandoned."""

    session: Id


class CheckOut(Command):
    order: Id
    items: Quantities
    total: PositiveCents


# The latest events of an open cart, and of one that may be checked out.
FILLED: list[type[Event]] = [ItemAdded, QuantityChanged, ItemRemoved, CartResumed]
OPEN: list[type[Event]] = [CartOpened, *FILLED]

commands = [
    Emits(OpenCart, CartOpened, after=[START]),
    Emits(AddItem, ItemAdded, after=OPEN),
    Emits(ChangeQuantity, QuantityChanged, after=OPEN),
    Emits(RemoveItem, ItemRemoved, after=OPEN),
    Emits(AbandonCart, CartAbandoned, after=OPEN),
    Emits(ResumeCart, CartResumed, after=[*OPEN, CartAbandoned]),
    Emits(CheckOut, CartCheckedOut, after=FILLED),
]

# Snapshot rule

snapshot = every(20) | after(minutes=30) | on(CartAbandoned, CartCheckedOut)

# Routes

routes = [
    Route("shop.reminders", types=[CartAbandoned]),
    Route("shop.checkouts", types=[CartCheckedOut]),
]

# Views


class CartRow(Row):
    """`items`: units by SKU."""

    changed_at: datetime
    status: str = "open"
    items: dict[str, int] = {}  # noqa: RUF012 (msgspec copies it)

    @property
    def units(self) -> int:
        return sum(self.items.values())


def project_cart(row: CartRow | None, event: ProjectedEvent) -> CartRow:
    row = replace(row or CartRow(changed_at=event.time), changed_at=event.time)
    match event.data:
        case ItemAdded(sku=sku, quantity=quantity):
            return replace(row, items=row.items | {sku: row.items.get(sku, 0) + quantity})
        case QuantityChanged(sku=sku, quantity=quantity) if sku in row.items:
            return replace(row, items=row.items | {sku: quantity})
        case ItemRemoved(sku=removed):
            left = {sku: number for sku, number in row.items.items() if sku != removed}
            return replace(row, items=left)
        case CartAbandoned():
            return replace(row, status="abandoned")
        case CartResumed():
            return replace(row, status="open")
        case CartCheckedOut(items=agreed):
            return replace(row, status="checked out", items=dict(agreed))
    return row


class CartsOfStatus(Row):
    """The carts of one status, and the units in them."""

    status: str
    carts: int = 0
    units: int = 0


by_status: Totals[CartRow, CartsOfStatus] = Totals(
    "carts_by_status",
    row=CartsOfStatus,
    by=["status"],
    group=lambda row: CartsOfStatus(status=row.status),
    add=lambda all, row: replace(all, carts=all.carts + 1, units=all.units + row.units),
    remove=lambda all, row: replace(all, carts=all.carts - 1, units=all.units - row.units),
    merge=lambda one, other: replace(
        one, carts=one.carts + other.carts, units=one.units + other.units
    ),
)

carts = View(
    "carts",
    row=CartRow,
    project=project_cart,
    indexes=[["status", "changed_at"]],
    totals=[by_status],
)

# The Domain

cart = Domain(
    "cart",
    state=Cart,
    evolve=evolve,
    events=[
        *(CartOpened, ItemAdded, QuantityChanged, ItemRemoved),
        *(CartAbandoned, CartResumed, CartCheckedOut),
    ],
    commands=commands,
    snapshot=snapshot,
    routes=routes,
    views=[carts],
)
