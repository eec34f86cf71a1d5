"""A shopping cart: what may follow what, what its items are, and how a session gets it back."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from msgspec import to_builtins

from eventfleet import Command, Event, SinceSnapshot, replay
from eventfleet.domains.cart import (
    AbandonCart,
    AddItem,
    Cart,
    CartAbandoned,
    CartCheckedOut,
    CartItem,
    CartOpened,
    CartResumed,
    ChangeQuantity,
    CheckOut,
    ItemAdded,
    ItemRemoved,
    OpenCart,
    QuantityChanged,
    RemoveItem,
    ResumeCart,
    cart,
    evolve,
)
from eventfleet.roles.relay import downstream
from eventfleet.testing import given
from tests.unit.event_records import record

OPENED = CartOpened(session="s-1")
TEA = ItemAdded(sku="tea", quantity=2, price=450)
ABANDONED = CartAbandoned(idle_minutes=45)
RESUMED = CartResumed(session="s-2")
CHECKED_OUT = CartCheckedOut(order="o-1", items={"tea": 2}, total=900)
LATEST: dict[str, list[Event]] = {
    "no event": [],
    "CartOpened": [OPENED],
    "ItemAdded": [OPENED, TEA],
    "QuantityChanged": [OPENED, TEA, QuantityChanged(sku="tea", quantity=3)],
    "ItemRemoved": [OPENED, TEA, ItemRemoved(sku="tea")],
    "CartResumed": [OPENED, TEA, RESUMED],
    "CartAbandoned": [OPENED, TEA, ABANDONED],
    "CartCheckedOut": [OPENED, TEA, CHECKED_OUT],
}
FILLED = {"ItemAdded", "QuantityChanged", "ItemRemoved", "CartResumed"}
RULES: list[tuple[Command, Event, set[str]]] = [
    (OpenCart(session="s-1"), OPENED, {"no event"}),
    (AddItem(sku="tea", quantity=2, price=450), TEA, FILLED | {"CartOpened"}),
    (
        ChangeQuantity(sku="tea", quantity=3),
        QuantityChanged(sku="tea", quantity=3),
        FILLED | {"CartOpened"},
    ),
    (RemoveItem(sku="tea"), ItemRemoved(sku="tea"), FILLED | {"CartOpened"}),
    (AbandonCart(idle_minutes=45), ABANDONED, FILLED | {"CartOpened"}),
    (ResumeCart(session="s-2"), RESUMED, FILLED | {"CartOpened", "CartAbandoned"}),
    (CheckOut(order="o-1", items={"tea": 2}, total=900), CHECKED_OUT, FILLED),
]


@pytest.mark.parametrize("latest", LATEST)
@pytest.mark.parametrize(("command", "event", "after"), RULES)
def test_a_command_becomes_its_event_after_just_the_events_of_the_table(
    command: Command, event: Event, after: set[str], latest: str
) -> None:
    answered = given(cart, *LATEST[latest]).when(command)
    if latest in after:
        answered.then(event)
    else:
        may_follow = ", ".join(sorted(after))
        present = "and there is" if latest == "no event" else "not"
        answered.rejected(f"{type(event).__name__} may follow {may_follow}, {present} {latest}")


def test_every_command_and_event_of_the_domain_is_in_the_table() -> None:
    assert [rule.name for rule in cart.commands] == [type(each).__name__ for each, _, _ in RULES]  # type: ignore[union-attr]
    assert {kind.__name__ for kind in cart.events} == {*LATEST} - {"no event"}
    assert cart.uses_marker
    assert not cart.synchronous


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (OpenCart(session=""), "data.session"),
        (AddItem(sku="tea", quantity=0, price=450), "data.quantity"),
        (AddItem(sku="tea", quantity=1, price=0), "data.price"),
        (AddItem(sku="x" * 65, quantity=1, price=1), "data.sku"),
        (ChangeQuantity(sku="tea", quantity=1001), "data.quantity"),
        (AbandonCart(idle_minutes=0), "data.idle_minutes"),
        (CheckOut(order="o-1", items={"tea": 2}, total=0), "data.total"),
        (CheckOut(order="o-1", items={}, total=900), "data.items"),
    ],
)
def test_a_command_out_of_its_bounds_is_no_command(command: Command, field: str) -> None:
    given(cart, OPENED, TEA).when(command).invalid(field)


# The state


def test_items_add_up_at_the_latest_price() -> None:
    more = given(cart, OPENED, TEA).when(AddItem(sku="tea", quantity=1, price=430))
    more.state(items={"tea": CartItem(quantity=3, price=430)})
    fewer = more.when(ChangeQuantity(sku="tea", quantity=1))
    fewer.state(items={"tea": CartItem(quantity=1, price=430)})
    fewer.when(RemoveItem(sku="tea")).state(items={}, status="open")


def test_an_item_that_the_cart_does_not_hold_is_not_changed() -> None:
    held = {"tea": CartItem(quantity=2, price=450)}
    story = given(cart, OPENED, TEA)
    story.when(ChangeQuantity(sku="cup", quantity=4)).state(items=held)
    story.when(RemoveItem(sku="cup")).state(items=held)


def test_what_is_checked_out_is_what_the_customer_has_agreed_to() -> None:
    """A device that had not seen the cup shows the tea alone, and the customer buys that."""
    cup = ItemAdded(sku="cup", quantity=1, price=900)
    bought = given(cart, OPENED, TEA, cup).when(
        CheckOut(order="o-1", items={"tea": 1, "pot": 1}, total=2450)
    )
    items = {"tea": CartItem(quantity=1, price=450), "pot": CartItem(quantity=1)}
    bought.state(status="checked out", order="o-1", items=items)


@pytest.mark.parametrize("lost", [[], [ABANDONED]], ids=["lost", "abandoned"])
def test_a_new_session_gets_the_cart_as_the_former_one_left_it(lost: list[Event]) -> None:
    found = given(cart, OPENED, TEA, *lost).when(ResumeCart(session="s-2"))
    found.state(status="open", session="s-2", items={"tea": CartItem(quantity=2, price=450)})
    bought = found.when(CheckOut(order="o-1", items={"tea": 2}, total=900))
    bought.state(status="checked out", order="o-1")


def test_a_cart_whose_events_are_lost_too_is_gone() -> None:
    """As where the session alone had the items: the next session finds nothing to go on with."""
    found = given(cart).when(ResumeCart(session="s-2"))
    found.rejected("and there is no event").state(status="new", items={})


# What the items are

skus = st.sampled_from(["tea", "cup", "pot"])
numbers = st.integers(1, 1000)
COMMANDS = st.one_of(
    st.builds(OpenCart, session=st.just("s-1")),
    st.builds(AddItem, sku=skus, quantity=numbers, price=numbers),
    st.builds(ChangeQuantity, sku=skus, quantity=numbers),
    st.builds(RemoveItem, sku=skus),
    st.builds(AbandonCart, idle_minutes=numbers),
    st.builds(ResumeCart, session=st.just("s-2")),
    st.builds(
        CheckOut,
        order=st.just("o-1"),
        items=st.dictionaries(skus, numbers, min_size=1),
        total=numbers,
    ),
)


def quantity_of(sku: str, events: list[Event]) -> int:
    """The quantity of one item, counted from its own events: none of the product's fold."""
    quantity = 0
    for event in events:
        match event:
            case ItemAdded(sku=name, quantity=more) if name == sku:
                quantity += more
            case QuantityChanged(sku=name, quantity=number) if name == sku and quantity:
                quantity = number
            case ItemRemoved(sku=name) if name == sku:
                quantity = 0
            case CartCheckedOut(items=agreed):
                quantity = agreed.get(sku, 0)
    return quantity


@drawn(st.lists(COMMANDS, max_size=30))
def test_a_cart_is_rebuilt_from_its_events_alone(commands: list[Command]) -> None:
    story: Any = given(cart)
    events: list[Event] = []
    for command in commands:
        story = story.when(command)
        events += story.outcome if isinstance(story.outcome, list) else []
    rebuilt = replay(evolve, Cart(), events)
    assert rebuilt == story.state()
    found = {sku: rebuilt.items.get(sku, CartItem()).quantity for sku in ("tea", "cup", "pot")}
    assert found == {sku: quantity_of(sku, events) for sku in found}


def test_an_event_without_a_rule_is_a_fault() -> None:
    class Lost(Event):
        pass

    with pytest.raises(TypeError, match="no rule for Lost"):
        evolve(Cart(), Lost())


# Its snapshots, and where its events go


def test_a_cart_is_snapshotted_when_it_is_left_or_has_changed_twenty_times_or_is_old() -> None:
    now = datetime(2024, 1, 1, 0, 30, tzinfo=UTC)

    def due(events: int, kind: str, minute: int) -> bool:
        time = datetime(2024, 1, 1, 0, minute, tzinfo=UTC)
        assert cart.snapshot
        return cart.snapshot.due(SinceSnapshot(events, 0, time, now, frozenset({kind}), 10))

    assert not due(19, "ItemAdded", 1)
    assert due(20, "ItemAdded", 1)
    assert due(1, "ItemAdded", 0)
    assert all(due(1, kind, 1) for kind in ("CartAbandoned", "CartCheckedOut"))


@pytest.mark.parametrize(
    ("event", "topics"),
    [(TEA, []), (ABANDONED, ["shop.reminders"]), (CHECKED_OUT, ["shop.checkouts"])],
)
def test_abandoned_carts_go_to_reminders_and_checked_out_ones_to_the_shop(
    event: Event, topics: list[str]
) -> None:
    stored = record(type(event).__name__, to_builtins(event))
    assert [outgoing.topic for outgoing in downstream(cart, stored)] == topics
