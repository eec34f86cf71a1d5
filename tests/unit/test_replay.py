"""Replay is a left fold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfleet.snapshot_rules import replay

NOTHING: tuple[int, ...] = ()


def append(state: tuple[int, ...], event: int) -> tuple[int, ...]:
    return (*state, event)


@given(st.lists(st.integers()))
def test_events_are_folded_in_order_from_any_iterable(events: list[int]) -> None:
    assert replay(append, NOTHING, events) == tuple(events)
    assert replay(append, NOTHING, iter(events)) == tuple(events)


@given(st.lists(st.integers()), st.lists(st.integers()))
def test_a_replay_goes_on_from_where_another_ended(first: list[int], second: list[int]) -> None:
    whole = replay(append, NOTHING, first + second)
    assert replay(append, replay(append, NOTHING, first), second) == whole


def test_without_events_the_state_stays() -> None:
    state = object()
    assert replay(lambda state, event: object(), state, []) is state


def test_what_fold_raises_passes_through_at_its_event() -> None:
    seen = []

    def stumble(state: int, event: int) -> int:
        seen.append(event)
        return state // event

    with pytest.raises(ZeroDivisionError):
        replay(stumble, 8, [2, 0, 1])
    assert seen == [2, 0]
