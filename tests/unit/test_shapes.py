"""The shapes of payload classes, and their fingerprints."""

import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from itertools import count
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar

import msgspec
import pytest
from msgspec import Meta, Struct, defstruct

from eventfleet.model.shapes import fingerprint

T = TypeVar("T")


class Colour(Enum):
    RED = 1
    BLUE = 2


class Point(NamedTuple):
    x: int
    y: int = 0


class Options(TypedDict, total=False):
    fast: bool


@dataclass
class Box:
    width: int = 1
    labels: list[str] = field(default_factory=lambda: ["fragile"])


class Pair(Struct, Generic[T], frozen=True):
    left: T
    right: T


class Node(Struct, frozen=True):
    """A tree."""

    name: str = ""
    children: "tuple[Node, ...]" = ()
    other: "Node | None" = None


class Wide(Struct, frozen=True):
    number: Annotated[int, Meta(ge=0, description="how many")] = 0
    amount: Decimal = Decimal("1.50")
    since: datetime = datetime(2024, 1, 1, tzinfo=UTC)
    colour: Colour = Colour.RED
    word: Literal["b", "a"] = "a"
    point: Point = Point(1)
    options: Options = msgspec.field(default_factory=Options)
    box: Box = msgspec.field(default_factory=Box)
    pair: Pair[int] | None = None
    tree: Node = Node()
    names: frozenset[str] = frozenset({"x", "y", "z", "w"})
    by_name: dict[str, list[int | str | None]] = {}
    anything: Any = None
    strange: complex = 1j


def state(**fields: Any) -> type[Struct]:
    """A class with these fields: a type, or a type with its default."""
    pairs = [(n, *f) if isinstance(f, tuple) else (n, f) for n, f in fields.items()]
    return defstruct("State", pairs, frozen=True)


def wide(default: Any) -> type[Struct]:
    return state(n=(int, default))


DIFFERENT: dict[str, tuple[type[Any], type[Any]]] = {
    "a renamed field": (state(weight=(int, 0)), state(grams=(int, 0))),
    "a field more": (state(a=(int, 0)), state(a=(int, 0), b=(int, 0))),
    "another type": (state(a=(int, 0)), state(a=(float, 0))),
    "another default": (state(a=(int, 0)), state(a=(int, 1))),
    "no default": (state(a=(int, 0)), state(a=int)),
    "another kind of default": (state(a=(Any, 0)), state(a=(Any, False))),
    "another default in a set": (
        state(a=(frozenset[int], frozenset({1}))),
        state(a=(frozenset[int], frozenset({2}))),
    ),
    "another default of a factory": (
        state(a=(list[int], msgspec.field(default_factory=lambda: [1]))),
        state(a=(list[int], msgspec.field(default_factory=lambda: [2]))),
    ),
    "another bound": (
        state(a=(Annotated[int, Meta(ge=0)], 0)),
        state(a=(Annotated[int, Meta(ge=1)], 0)),
    ),
    "another item type": (state(a=(list[int], [])), state(a=(list[str], []))),
    "another argument of a generic": (
        state(a=(Pair[int] | None, None)),
        state(a=(Pair[str] | None, None)),
    ),
    "optional": (state(a=(int, 0)), state(a=(int | None, 0))),
    "a nested field": (
        state(a=(state(b=(int, 0)) | None, None)),
        state(a=(state(c=(int, 0)) | None, None)),
    ),
    "another member of an enum": (
        state(a=(Enum("Colour", {"RED": 1}), None)),
        state(a=(Enum("Colour", {"RED": 2}), None)),
    ),
    "another literal": (state(a=(Literal["a"], "a")), state(a=(Literal["a", "b"], "a"))),
    "another tag": (
        defstruct("A", [], tag="a"),
        defstruct("A", [], tag="b"),
    ),
    "places changed": (
        defstruct("A", [("a", int), ("b", int)], array_like=True),
        defstruct("A", [("b", int), ("a", int)], array_like=True),
    ),
}


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_another_shape_has_another_fingerprint(one: type[Any], other: type[Any]) -> None:
    assert fingerprint(one) != fingerprint(other)


SAME: dict[str, tuple[type[Any], type[Any]]] = {
    "another name": (state(a=(int, 0)), defstruct("Other", [("a", int, 0)])),
    "another name of a nested class": (
        state(a=(defstruct("A", [("b", int)]) | None, None)),
        state(a=(defstruct("B", [("b", int)]) | None, None)),
    ),
    "another order": (
        state(a=(int, 0), b=(str, "")),
        state(b=(str, ""), a=(int, 0)),
    ),
    "another order in a union": (
        state(a=(int | str | None, 0)),
        state(a=(None | str | int, 0)),
    ),
    "a description": (
        state(a=(int, 0)),
        state(a=(Annotated[int, Meta(description="grams", title="weight")], 0)),
    ),
    "a docstring": (
        state(a=(int, 0)),
        defstruct("State", [("a", int, 0)], namespace={"__doc__": "Other words."}),
    ),
    "a name in the code alone": (
        state(weight=(int, 0)),
        state(grams=(int, msgspec.field(default=0, name="weight"))),
    ),
    "a factory of the same": (
        state(a=(list[int], [])),
        state(a=(list[int], msgspec.field(default_factory=lambda: []))),
    ),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_what_is_no_part_of_the_shape_leaves_the_fingerprint(
    one: type[Any], other: type[Any]
) -> None:
    assert fingerprint(one) == fingerprint(other)


def test_a_factory_that_makes_another_value_each_time_counts_by_its_name() -> None:
    serial = count()

    def following() -> int:
        return next(serial)

    kind = state(a=(int, msgspec.field(default_factory=following)))
    assert fingerprint(kind) == fingerprint(kind)


@pytest.mark.parametrize("seed", ["1", "2"])
def test_a_fingerprint_is_the_same_in_every_process(seed: str) -> None:
    code = "from tests.unit.test_shapes import *; print(fingerprint(Wide), fingerprint(Node))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == [fingerprint(Wide), fingerprint(Node)]


def test_a_fingerprint_is_as_it_was_released() -> None:
    """Another one makes every snapshot in every store useless."""
    released = {Wide: "2348c3d2bddde37e", Node: "7bcf52670484ab15"}
    assert {kind: fingerprint(kind) for kind in released} == released
