"""The sample of orders."""

from collections import Counter, defaultdict
from functools import reduce
from itertools import pairwise

from domains.orders import Order, orders
from topics.codec import decode
from topics.event import EventRecord
from workers.sample import ORDERS, sample


def events_of_all() -> list[EventRecord]:
    return [ready.event for ready in sample()]


def by_order(events: list[EventRecord]) -> dict[str, list[EventRecord]]:
    found = defaultdict(list)
    for event in events:
        found[event.aggregate_id].append(event)
    return found


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first = [ready.value for ready in sample(50, seed=7)]
    assert first == [ready.value for ready in sample(50, seed=7)]
    assert not set(first) & {ready.value for ready in sample(50, seed=8)}


def test_every_event_is_accepted_by_the_domain_as_it_is_on_the_wire() -> None:
    for ready in sample():
        event = decode(ready.value)
        assert event == ready.event
        orders.check(event)


def test_some_thousand_orders_with_ids_of_their_own() -> None:
    events = events_of_all()
    assert 2000 <= len(by_order(events)) == ORDERS
    assert len({event.id for event in events}) == len(events)


def test_events_come_by_time_with_orders_interleaved() -> None:
    events = events_of_all()
    times = [event.time for event in events]
    assert times == sorted(times)
    neighbours = Counter(one.aggregate_id == next_.aggregate_id for one, next_ in pairwise(events))
    assert neighbours[False] > 20 * neighbours[True]


def test_each_order_goes_a_way_that_a_shop_knows() -> None:
    whole = ["Placed", "Paid", "Packed", "Shipped", "Delivered", "Returned"]
    for events in by_order(events_of_all()).values():
        types = [event.type for event in events]
        if types[-1] == "Cancelled":
            types.pop()
            assert len(types) < whole.index("Shipped")
        assert types == whole[: len(types)]


def test_orders_end_in_every_way_and_some_are_under_way() -> None:
    states = Counter(
        reduce(orders.fold, events, Order()).status for events in by_order(events_of_all()).values()
    )
    assert states.keys() == {
        *("placed", "paid", "packed", "shipped", "delivered", "cancelled", "returned")
    }
    assert min(states.values()) >= 5
    assert states["delivered"] > ORDERS / 2


def test_old_events_lack_the_currency_and_are_lifted_to_euros() -> None:
    placed = [event for event in events_of_all() if event.type == "Placed"]
    versions = Counter(event.schema_version for event in placed)
    assert versions.keys() == {1, 2}
    assert min(versions.values()) > ORDERS / 10
    for event in placed:
        assert ("currency" in event.data) == (event.schema_version == 2)
        if event.schema_version == 1:
            assert orders.lift(event).data["currency"] == "EUR"
