"""The names of snapshot rules in the metrics."""

from datetime import timedelta

import pytest

from eventfleet.snapshot_rules import Rule, SinceSnapshot, after, every, on, size
from eventfleet.snapshot_rules.causes import cause, rule_name
from tests.simulation.in_memory_servers import START

TEN = every(10)
OLD = after(minutes=10)
CLOSED = on("Closed")


class Odd(Rule):
    """A rule of a domain's own."""

    def holds(self, since: SinceSnapshot) -> bool:
        return since.version % 2 == 1


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        (TEN, "every"),
        (OLD, "after"),
        (CLOSED, "on"),
        (size(5), "size"),
        (Odd(), "Odd"),
        (TEN & ~OLD, "every & ~after"),
        ((TEN | OLD) & CLOSED, "(every | after) & on"),
        (~(TEN | OLD), "~(every | after)"),
    ],
)
def test_a_rule_is_named_without_its_numbers(rule: Rule, name: str) -> None:
    assert rule_name(rule) == name


@pytest.mark.parametrize(
    ("rule", "version", "minutes", "types", "name"),
    [
        (TEN | OLD, 10, 0, (), "every"),
        (TEN | OLD, 1, 10, (), "after"),
        (TEN | OLD, 10, 10, (), "every"),
        (TEN | OLD | CLOSED, 1, 0, ("Closed",), "on"),
        (TEN & CLOSED | OLD, 10, 0, ("Closed",), "every & on"),
        (Odd(), 1, 0, (), "Odd"),
    ],
)
def test_the_cause_is_the_side_that_holds(
    rule: Rule, version: int, minutes: int, types: tuple[str, ...], name: str
) -> None:
    now = START + timedelta(minutes=minutes)
    since = SinceSnapshot(version, 0, START, now, frozenset(types), 0)
    assert rule.due(since)
    assert cause(rule, since) == name
