"""The views of the sample domains: rows and totals after a story, and none of it counted twice."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import reduce
from typing import Any

import pytest
from msgspec.structs import replace

from eventfleet.domains.bank import bank
from eventfleet.domains.cart import (
    CartAbandoned,
    CartCheckedOut,
    CartOpened,
    CartRow,
    ItemAdded,
    ItemRemoved,
    QuantityChanged,
    cart,
)
from eventfleet.domains.chat import chat
from eventfleet.domains.game import (
    Entered,
    Escaped,
    FoeSlain,
    GameRow,
    HeroSlain,
    ItemTaken,
    Walked,
    game,
)
from eventfleet.domains.orders import Delivered, OrderRow, Packed, Paid, Placed, Shipped, orders
from eventfleet.domains.trading import (
    Bought,
    CashDeposited,
    PriceMarked,
    Sold,
    TradedSecurity,
    trading,
)
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Event
from eventfleet.model.view_rows import as_stored, check_row
from eventfleet.model.views import Row, Totals
from eventfleet.testing import given

AT = datetime(2026, 1, 1, tzinfo=UTC)
"""The time of every event that the kit makes."""


class Story:
    """The rows and totals of a domain's view after the events of some aggregates."""

    def __init__(self, domain: Domain[Any], *aggregates: Sequence[Event]) -> None:
        [self.view] = [view for view in domain.views if view.totals]
        self.rows: dict[tuple[int, str], Row] = {}
        self._totals: dict[str, dict[str, Any]] = {each.name: {} for each in self.view.totals}
        for number, events in enumerate(aggregates):
            for event in given(domain, *events)._events:
                typed = replace(event, data=domain.payload(event))
                self._apply(number, typed)

    def _apply(self, number: int, event: Any) -> None:
        key = self.view.key(event)
        if key is None:
            return
        before = self.rows.pop((number, key), None)
        after = self.view.project(before, event)
        if after is not None:
            self.rows[number, key] = as_stored(check_row(after)[1])
        for totals in self.view.totals:
            self._count(totals, totals.remove, before)
            self._count(totals, totals.add, after)

    def _count(self, totals: Totals[Any, Any], change: Any, row: Row | None) -> None:
        if row is not None and (empty := totals.group(row)) is not None:
            groups = self._totals[totals.name]
            key = str([getattr(empty, name) for name in totals.by])
            groups[key] = check_row(change(groups.get(key, empty), row))[1]

    def totals(self) -> list[Row]:
        """The groups of the view's totals that are not empty."""
        [totals] = self.view.totals
        found = self._totals[totals.name].values()
        return [each for each in found if getattr(each, COUNTS[totals.name])]


COUNTS = {
    "orders_by_day": "orders",
    "turnover": "units",
    "carts_by_status": "carts",
    "games_by_status": "games",
    "deposits": "accounts",
    "rooms_by_activity": "rooms",
}

PLACED = Placed(customer="ann", total=1999, currency="EUR")


def shown(row: Any, *fields: str) -> list[Any]:
    return [getattr(row, field) for field in fields]


def test_orders_are_counted_by_their_day_and_status() -> None:
    way = [Paid(amount=1999), Packed(parcels=1), Shipped(carrier="post"), Delivered()]
    story = Story(orders, [PLACED], [PLACED, *way], [PLACED, *way[:1]], [PLACED, *way[:1]])
    row = story.rows[1, ""]
    assert isinstance(row, OrderRow)
    assert shown(row, "customer", "status", "day", "changed_at") == [
        *("ann", "delivered", "2026-01-01", AT),
    ]
    found = {each.status: (each.orders, each.total) for each in story.totals()}  # type: ignore[attr-defined]
    assert found == {"placed": (1, 1999), "delivered": (1, 1999), "paid": (2, 3998)}


def test_turnover_sums_what_all_accounts_trade_of_a_security() -> None:
    cash = CashDeposited(amount=1_000_000)
    bought = Bought(symbol="ACME", quantity=10, price=500, fee=9)
    sold = Sold(symbol="ACME", quantity=4, price=600)
    other = Bought(symbol="OTHER", quantity=1, price=100)
    marked = PriceMarked(symbol="ACME", price=700)
    story = Story(trading, [cash, bought, sold, marked], [cash, bought, other])
    row = story.rows[0, "ACME"]
    assert isinstance(row, TradedSecurity)
    assert shown(row, "bought", "paid", "sold", "received") == [10, 5000, 4, 2400]
    found = {each.symbol: (each.accounts, each.units, each.cents) for each in story.totals()}  # type: ignore[attr-defined]
    assert found == {"ACME": (2, 24, 12_400), "OTHER": (1, 1, 100)}


def test_carts_are_counted_by_status_with_what_is_in_them() -> None:
    opened = [CartOpened(session="s"), ItemAdded(sku="tea", quantity=2, price=450)]
    changed = [QuantityChanged(sku="tea", quantity=5), QuantityChanged(sku="cup", quantity=9)]
    removed = [ItemAdded(sku="cup", quantity=1, price=99), ItemRemoved(sku="cup")]
    out = CartCheckedOut(order="o-1", items={"tea": 1}, total=450)
    abandoned = CartAbandoned(idle_minutes=30)
    story = Story(cart, [*opened, *changed, *removed], [*opened, abandoned], [*opened, out])
    row = story.rows[0, ""]
    assert isinstance(row, CartRow)
    assert shown(row, "status", "items") == ["open", {"tea": 5}]
    found = {each.status: (each.carts, each.units) for each in story.totals()}  # type: ignore[attr-defined]
    assert found == {"open": (1, 5), "abandoned": (1, 2), "checked out": (1, 1)}


def test_games_are_counted_by_how_they_ended() -> None:
    begun = [Entered(hero="ann"), Walked(to="north"), ItemTaken(item="treasure")]
    escaped = [*begun, FoeSlain(), ItemTaken(item="sword"), Escaped(treasures=1)]
    story = Story(game, begun, escaped, [*begun, HeroSlain()])
    row = story.rows[1, ""]
    assert isinstance(row, GameRow)
    assert shown(row, "hero", "status", "steps", "foes_slain", "treasures") == [
        *("ann", "escaped", 1, 1, 1),
    ]
    found = {each.status: (each.games, each.treasures) for each in story.totals()}  # type: ignore[attr-defined]
    assert found == {"inside": (1, 1), "escaped": (1, 1), "slain": (1, 0)}


@pytest.mark.parametrize(
    "domain", [bank, cart, chat, game, orders, trading], ids=lambda domain: domain.name
)
def test_parts_are_merged_by_adding_what_they_count(domain: Domain[Any]) -> None:
    [totals] = [each for view in domain.views for each in view.totals]
    counted = [
        field
        for field in totals.row.__struct_fields__
        if field not in totals.by and totals.row.__annotations__[field] is int
    ]
    group = dict.fromkeys(totals.by, "x")
    parts = [totals.row(**group, **dict.fromkeys(counted, n)) for n in (1, 2, 3)]
    whole = reduce(totals.merge, parts)
    assert whole == totals.row(**group, **dict.fromkeys(counted, 6))
