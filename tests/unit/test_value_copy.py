"""Copies of values: nothing mutable is shared, and nothing immutable is copied."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from eventfleet import State
from eventfleet.domains.bank import Account
from eventfleet.model.value_copy import copy_value, has_shared_defaults


class Leaf(State):
    name: str = ""
    at: datetime | None = None


class Leaves(State):
    leaves: tuple[Leaf, ...] = ()
    by_name: frozenset[str] = frozenset()


class Open(msgspec.Struct):
    name: str = ""


@dataclass
class Plain:
    items: list[int] = field(default_factory=list)


class Mutable(State):
    numbers: list[int] = []  # noqa: RUF012
    by_name: dict[str, Leaf] = {}  # noqa: RUF012
    deep: dict[str, list[int]] = {}  # noqa: RUF012
    free: Any = None
    plain: Plain = msgspec.field(default_factory=Plain)
    opened: Open = msgspec.field(default_factory=Open)
    inner: "Mutable | None" = None


@pytest.mark.parametrize("value", [Account(owner="ann"), Leaves(leaves=(Leaf(),)), "text", 1.0])
def test_an_immutable_value_is_handed_out_as_it_is(value: Any) -> None:
    assert copy_value(value) is value


def test_a_copy_is_the_same_and_shares_nothing_mutable() -> None:
    inner = Mutable(numbers=[1], free={"a": [1]}, deep={"x": [1]})
    value = Mutable(
        numbers=[1],
        by_name={"a": Leaf(at=datetime(2026, 1, 1, tzinfo=UTC))},
        deep={"x": [1]},
        free=[{"y": {2}}, (3, [4])],
        plain=Plain([1]),
        opened=Open("a"),
        inner=inner,
    )
    copied = copy_value(value)
    assert copied == value
    assert copied.by_name["a"] is value.by_name["a"]
    copied.numbers.append(2)
    copied.deep["x"].append(2)
    copied.free[0]["y"].add(3)
    copied.free[1][1].append(5)
    copied.plain.items.append(2)
    copied.opened.name = "b"
    copied.inner.free["a"].append(2)
    copied.inner.numbers.append(2)
    assert value.inner == Mutable(numbers=[1], free={"a": [1]}, deep={"x": [1]})
    assert (value.numbers, value.deep, value.free) == ([1], {"x": [1]}, [{"y": {2}}, (3, [4])])
    assert (value.plain, value.opened) == (Plain([1]), Open("a"))


class SharedDefault(State):
    plain: Any = Plain()


class Outer(State):
    inner: SharedDefault = SharedDefault()


def test_a_default_that_is_shared_is_found() -> None:
    assert has_shared_defaults(SharedDefault)
    assert has_shared_defaults(Outer)
    assert not has_shared_defaults(Mutable)
    assert not has_shared_defaults(Leaves)
