"""The sample of orders: commands, judged here by what a shop knows."""

from collections import Counter, defaultdict
from itertools import pairwise

from eventfleet.cli.sample_orders import ORDER_COUNT, sample_orders
from eventfleet.deciders.proposed_event import propose_event
from eventfleet.domains.orders import orders
from eventfleet.topics.codec import decode
from eventfleet.topics.event import EventRecord
from tests.order_oracle import TABLE, judge


def commands_of_all() -> list[EventRecord]:
    return [ready.event for ready in sample_orders()]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first = [ready.value for ready in sample_orders(50, seed=7)]
    assert first == [ready.value for ready in sample_orders(50, seed=7)]
    assert not set(first) & {ready.value for ready in sample_orders(50, seed=8)}


def test_the_domain_can_read_every_command_as_it_is_on_the_wire() -> None:
    for ready in sample_orders():
        command = decode(ready.value)
        assert command == ready.event
        propose_event(orders, command)


def test_some_thousand_orders() -> None:
    assert 2000 <= len({command.aggregate_id for command in commands_of_all()}) == ORDER_COUNT


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
    ends = Counter(judge(commands_of_all()).latest.values())
    assert ends.keys() == set(TABLE.values())
    assert min(ends.values()) >= 5
    assert ends["Delivered"] > ORDER_COUNT / 2


def test_some_commands_are_forbidden_and_some_are_sent_twice() -> None:
    judged = judge(commands_of_all())
    for kind in ("Pay after Cancelled", "Pay after Paid", "Pack after Placed"):
        assert judged.rejected[kind] >= 10
    assert judged.rejected["Cancel after Shipped"] >= 10
    assert judged.repeated >= 10
    assert judged.types.total() > 10 * (judged.rejected.total() + judged.repeated)
