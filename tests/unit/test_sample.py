"""The sample of orders: commands, judged here by what a shop knows."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise

from domains.orders import orders
from protocols.intents import intent_of
from topics.codec import decode
from topics.event import EventRecord
from workers.sample import ORDERS, sample

# What each command makes of an order in which state.
SHOP = {
    ("", "Place"): "Placed",
    ("Placed", "Pay"): "Paid",
    ("Paid", "Pack"): "Packed",
    ("Packed", "Ship"): "Shipped",
    ("Shipped", "Deliver"): "Delivered",
    ("Placed", "Cancel"): "Cancelled",
    ("Paid", "Cancel"): "Cancelled",
    ("Delivered", "Return"): "Returned",
}


def commands_of_all() -> list[EventRecord]:
    return [ready.event for ready in sample()]


def judged(commands: Iterable[EventRecord]) -> tuple[dict[str, str], Counter[str]]:
    """How each order ends, and what became of the commands: one after the other, by the table."""
    states: dict[str, str] = {}
    accepted: set[str] = set()
    outcomes: Counter[str] = Counter()
    for command in commands:
        state = states.get(command.aggregate_id, "")
        if command.id in accepted:
            outcomes["repeated"] += 1
        elif after := SHOP.get((state, command.type)):
            states[command.aggregate_id] = after
            accepted.add(command.id)
            outcomes["accepted"] += 1
        else:
            outcomes[f"{command.type} after {state}"] += 1
    return states, outcomes


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first = [ready.value for ready in sample(50, seed=7)]
    assert first == [ready.value for ready in sample(50, seed=7)]
    assert not set(first) & {ready.value for ready in sample(50, seed=8)}


def test_the_domain_can_read_every_command_as_it_is_on_the_wire() -> None:
    for ready in sample():
        command = decode(ready.value)
        assert command == ready.event
        intent_of(orders, command)


def test_some_thousand_orders() -> None:
    assert 2000 <= len({command.aggregate_id for command in commands_of_all()}) == ORDERS


def test_commands_come_by_time_with_orders_interleaved() -> None:
    commands = commands_of_all()
    times = [command.time for command in commands]
    assert times == sorted(times)
    pairs = Counter(one.aggregate_id == next_.aggregate_id for one, next_ in pairwise(commands))
    assert pairs[False] > 20 * pairs[True]


def test_commands_of_one_id_are_one_command() -> None:
    same = defaultdict(list)
    for command in commands_of_all():
        same[command.id].append((command.aggregate_id, command.type, command.data))
    assert Counter(map(len, same.values())).keys() == {1, 2}
    assert all(first == each for first, *more in same.values() for each in more)


def test_orders_end_in_every_way_and_some_are_under_way() -> None:
    states, _ = judged(commands_of_all())
    ends = Counter(states.values())
    assert ends.keys() == set(SHOP.values())
    assert min(ends.values()) >= 5
    assert ends["Delivered"] > ORDERS / 2


def test_some_commands_are_forbidden_and_some_are_sent_twice() -> None:
    _, outcomes = judged(commands_of_all())
    for kind in ("repeated", "Pay after Cancelled", "Pay after Paid", "Cancel after Shipped"):
        assert outcomes[kind] >= 10
    assert outcomes["Pack after Placed"] >= 10
    assert outcomes["accepted"] > 0.9 * outcomes.total()
