"""The views of the example domains: rows, totals, and what the role makes of them."""

from datetime import UTC, date, datetime
from random import Random
from typing import Any

import pytest
from msgspec import to_builtins

from eventfleet import Event, EventRecord
from eventfleet.domains.bank import (
    Closed,
    Deposited,
    Deposits,
    FeeCharged,
    Frozen,
    Opened,
    PaidOut,
    Unfrozen,
    Withdrawn,
    bank,
)
from eventfleet.domains.cart import (
    CartAbandoned,
    CartCheckedOut,
    CartCount,
    CartItem,
    CartOpened,
    CartResumed,
    ItemAdded,
    ItemRemoved,
    QuantityChanged,
    cart,
)
from eventfleet.domains.game import (
    AdventureRow,
    Entered,
    Escaped,
    FoeHit,
    FoeMet,
    FoeSlain,
    HeroHit,
    HeroRank,
    HeroSlain,
    ItemTaken,
    Walked,
    game,
)
from eventfleet.domains.orders import (
    Cancelled,
    Delivered,
    OrdersOfDay,
    Packed,
    Paid,
    Placed,
    Returned,
    Shipped,
    orders,
)
from eventfleet.domains.trading import (
    Bought,
    CashDeposited,
    CashWithdrawn,
    Holding,
    PositionRow,
    PriceMarked,
    Sold,
    trading,
)
from eventfleet.testing import given, totals
from tests.unit.view_fixture import Servers, made_live

MORNING = datetime(2024, 5, 1, 6, tzinfo=UTC)
NIGHT = datetime(2024, 5, 2, 23, 59, tzinfo=UTC)


def at(moment: datetime, event: Event, domain: Any) -> EventRecord:
    kind = type(event).__name__
    return EventRecord(
        id="e",
        type=kind,
        domain=domain.name,
        aggregate_id="a",
        time=moment,
        data=to_builtins(event),
        schema_version=domain.latest_schema_version(kind),
    )


# Bank account

ACCOUNT: list[Event] = [
    Opened(owner="ann", currency="EUR", overdraft_limit=50),
    Deposited(amount=200),
    Withdrawn(amount=20),
    FeeCharged(amount=1),
    Frozen(),
]


def test_an_account_has_its_balance_and_status() -> None:
    frozen = given(bank, *ACCOUNT)
    frozen.row("accounts", owner="ann", currency="EUR", balance=179, status="frozen")
    given(bank, *ACCOUNT, Unfrozen()).row("accounts", balance=179, status="open")
    paid_out = given(bank, *ACCOUNT, Unfrozen(), PaidOut(amount=179), Closed())
    paid_out.row("accounts", balance=0, status="closed")
    changed = given(bank, ACCOUNT[0], at(NIGHT, ACCOUNT[1], bank))
    changed.row("accounts", changed_at=NIGHT)


def test_deposits_are_summed_up_by_currency_and_status() -> None:
    opened = given(bank, ACCOUNT[0])
    assert totals("deposits", opened, given(bank, *ACCOUNT), opened, given(bank)) == [
        Deposits(currency="EUR", status="frozen", accounts=1, balance=179),
        Deposits(currency="EUR", status="open", accounts=2, balance=0),
    ]


# Orders and delivery

ORDER: list[Event] = [
    Placed(customer="ann", total=1999, currency="EUR"),
    Paid(amount=1999),
    Packed(parcels=1),
    Shipped(carrier="post"),
    Delivered(),
    Returned(refund=1999),
]
MAY_1 = date(2024, 5, 1)


@pytest.mark.parametrize("happened", range(1, len(ORDER) + 1))
def test_an_order_has_the_status_of_its_state(happened: int) -> None:
    order = given(orders, *ORDER[:happened])
    order.row("orders", customer="ann", total=1999, currency="EUR", status=order.state().status)


def test_an_order_keeps_the_day_of_its_placing() -> None:
    order = given(orders, at(MORNING, ORDER[0], orders), at(NIGHT, Cancelled(), orders))
    order.row("orders", status="cancelled", day=MAY_1, changed_at=NIGHT)
    assert given(orders).row("orders") is None


def test_orders_are_counted_by_day_status_and_currency() -> None:
    placed = given(orders, at(MORNING, ORDER[0], orders))
    paid = given(orders, at(MORNING, ORDER[0], orders), at(NIGHT, ORDER[1], orders))
    later = given(orders, at(NIGHT, Placed(customer="b", total=1, currency="CHF"), orders))
    assert totals("orders_by_day", placed, paid, placed, later) == [
        OrdersOfDay(day=MAY_1, status="paid", currency="EUR", orders=1, total=1999),
        OrdersOfDay(day=MAY_1, status="placed", currency="EUR", orders=2, total=3998),
        OrdersOfDay(day=date(2024, 5, 2), status="placed", currency="CHF", orders=1, total=1),
    ]


# Game log

FIGHT: list[Event] = [
    Entered(hero="ann"),
    ItemTaken(item="treasure"),
    FoeMet(name="goblin", health=6, strength=4),
    FoeHit(damage=6),
    FoeSlain(),
    Walked(to="north"),
]


def test_an_adventure_has_its_outcome() -> None:
    inside = given(game, *FIGHT)
    assert inside.row("adventures") == AdventureRow(hero="ann", slain=1)
    given(game, *FIGHT, Escaped(treasures=1)).row("adventures", status="escaped", treasures=1)
    slain = [FIGHT[2], HeroHit(damage=20), HeroSlain()]
    given(game, *FIGHT, *slain).row("adventures", status="slain", slain=1, treasures=0)


def test_heroes_are_ranked_by_the_treasures_they_escaped_with() -> None:
    inside, escaped = given(game, *FIGHT), given(game, *FIGHT, Escaped(treasures=2))
    bob = given(game, Entered(hero="bob"), Escaped(treasures=3))
    assert totals("ranking", escaped, inside, escaped, bob) == [
        HeroRank(hero="ann", adventures=3, treasures=4),
        HeroRank(hero="bob", adventures=1, treasures=3),
    ]


# Stock trading

TRADES: list[Event] = [
    CashDeposited(amount=1_000_000),
    Bought(symbol="ACME", quantity=10, price=100, fee=1),
    Bought(symbol="WIDE", quantity=5, price=7),
    PriceMarked(symbol="ACME", price=130),
    Sold(symbol="ACME", quantity=4, price=120),
    CashWithdrawn(amount=5),
    PriceMarked(symbol="NONE", price=130),
]


@pytest.mark.parametrize("happened", range(1, len(TRADES) + 1))
def test_an_account_has_a_row_for_each_position_of_its_state(happened: int) -> None:
    account = given(trading, *TRADES[:happened])
    positions = account.state().positions
    for symbol in ("ACME", "WIDE", "NONE"):
        held = positions.get(symbol)
        expected = held and PositionRow(symbol=symbol, **to_builtins(held))
        assert account.row("positions", symbol) == expected


def test_a_position_that_is_sold_has_no_row() -> None:
    sold = given(trading, *TRADES, Sold(symbol="ACME", quantity=6, price=90))
    assert sold.row("positions", "ACME") is None
    sold.row("positions", "WIDE", quantity=5)
    assert sold.row("positions") is None


def test_units_are_summed_up_by_security() -> None:
    account = given(trading, *TRADES)
    sold = given(trading, *TRADES, Sold(symbol="WIDE", quantity=5, price=9))
    assert totals("holdings", account, sold, account) == [
        Holding(symbol="ACME", accounts=3, quantity=18),
        Holding(symbol="WIDE", accounts=2, quantity=10),
    ]


# Shopping cart

CART: list[Event] = [
    CartOpened(session="s-1"),
    ItemAdded(sku="tea", quantity=2, price=450),
    ItemAdded(sku="cup", quantity=1, price=900),
    QuantityChanged(sku="tea", quantity=3),
    ItemRemoved(sku="cup"),
    CartAbandoned(idle_minutes=45),
    CartResumed(session="s-2"),
    CartCheckedOut(order="o-1", items={"tea": 1}, total=450),
]


@pytest.mark.parametrize("happened", range(1, len(CART) + 1))
def test_a_cart_has_the_items_and_status_of_its_state(happened: int) -> None:
    story = given(cart, *CART[:happened])
    story.row("carts", status=story.state().status, items=story.state().items)


def test_an_abandoned_cart_shows_what_was_left_and_since_when() -> None:
    left = given(cart, *CART[:5], at(NIGHT, CART[5], cart))
    tea = {"tea": CartItem(quantity=3, price=450)}
    left.row("carts", status="abandoned", items=tea, changed_at=NIGHT)


def test_carts_and_their_items_are_counted_by_status() -> None:
    open, left = given(cart, *CART[:3]), given(cart, *CART[:6])
    assert totals("carts_by_status", open, left, open) == [
        CartCount(status="abandoned", carts=1, items=3),
        CartCount(status="open", carts=2, items=6),
    ]


# On the role

STORIES: dict[str, tuple[Any, list[list[Event]]]] = {
    "bank": (bank, [ACCOUNT, ACCOUNT[:3]]),
    "orders": (orders, [ORDER, [*ORDER[:2], Cancelled()]]),
    "game": (game, [FIGHT, [*FIGHT, Escaped(treasures=2)]]),
    "trading": (trading, [TRADES, [*TRADES, Sold(symbol="WIDE", quantity=5, price=9)]]),
    "cart": (cart, [CART, CART[:6]]),
}


def interleaved(chance: Random, lives: list[list[Event]]) -> list[tuple[str, Event]]:
    """The events of some aggregates, those of each in their order."""
    turns = [number for number, life in enumerate(lives) for _ in life]
    chance.shuffle(turns)
    rests = [iter(life) for life in lives]
    return [(f"a{number}", next(rests[number])) for number in turns]


@pytest.mark.parametrize("name", STORIES)
async def test_the_role_keeps_the_rows_and_totals_that_the_events_give(name: str) -> None:
    domain, lives = STORIES[name]
    servers, chance = Servers(domain, partitions=2), Random(5)
    roles = [servers.role(partition, cached=2) for partition in range(2)]
    for role in roles:
        await role.open()
    await made_live(servers, *roles)
    for id, event in interleaved(chance, lives * 3):
        kind = type(event).__name__
        schema_version = domain.latest_schema_version(kind)
        await servers.append(id, event, schema_version=schema_version, data=to_builtins(event))
    for partition, role in enumerate(roles):
        end = len(servers.records(servers.topics.stored, partition))
        while (servers.offset(partition) or 0) < end:
            await servers.take(role, partition, limit=chance.randrange(1, 6))
    for view in domain.views:
        assert servers.rows(view)
        servers.check(view)
