"""Replays events to a state."""

from collections.abc import Callable, Iterable
from functools import reduce
from typing import TypeVar

S = TypeVar("S")
E = TypeVar("E")


def replay(fold: Callable[[S, E], S], state: S, events: Iterable[E]) -> S:
    """Return `state` after all of `events`, in their order. Errors of `fold` pass through."""
    return reduce(fold, events, state)
