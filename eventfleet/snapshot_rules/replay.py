"""Replay: the state that a sequence of events leads to."""

from collections.abc import Callable, Iterable
from functools import reduce
from typing import TypeVar

S = TypeVar("S")
E = TypeVar("E")


def replay(fold: Callable[[S, E], S], state: S, events: Iterable[E]) -> S:
    """`state` after all of `events`, in their order. What `fold` raises passes through."""
    return reduce(fold, events, state)
