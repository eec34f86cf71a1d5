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
from eventfleet.model.declaration import Route
from eventfleet.model.domain import Domain
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
    status: str
    items: dict[str, CartItem]
    changed_at: datetime


def project_cart(row: CartRow | None, event: ProjectedEvent) -> CartRow:
    cart = Cart(status=row.status, items=row.items) if row else Cart()
    cart = evolve(cart, event.data)
    return CartRow(status=cart.status, items=cart.items, changed_at=event.time)


class CartCount(Row):
    """How many carts are in a status, and how many items they hold."""

    status: str
    carts: int = 0
    items: int = 0


def count_items(cart: CartRow) -> int:
    return sum(item.quantity for item in cart.items.values())


def plus(count: CartCount, carts: int, items: int) -> CartCount:
    return replace(count, carts=count.carts + carts, items=count.items + items)


carts_by_status: Totals[CartRow, CartCount] = Totals(
    "carts_by_status",
    row=CartCount,
    by=["status"],
    group=lambda cart: CartCount(status=cart.status),
    add=lambda count, cart: plus(count, 1, count_items(cart)),
    remove=lambda count, cart: plus(count, -1, -count_items(cart)),
    merge=lambda one, other: plus(one, other.carts, other.items),
)

carts = View(
    "carts",
    row=CartRow,
    project=project_cart,
    indexes=[["status", "changed_at"]],
    totals=[carts_by_status],
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
