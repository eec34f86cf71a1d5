"""Shares: what all callers hold of a limit, and what one may hold."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfleet.service.shares import HeldShare, LimitReached, Shares


def test_one_caller_holds_half_and_others_the_rest() -> None:
    shares = Shares(5, "doors")
    with shares.hold("ann", 2), shares.hold("ben", 2):
        with shares.hold("ann", 1):
            with pytest.raises(LimitReached, match="the limit of one caller is 3 of 5 doors"):
                shares.hold("ann", 1).__enter__()
            with pytest.raises(LimitReached, match="the limit is 5 doors"):
                shares.hold("eve", 1).__enter__()
        with shares.hold("eve", 1):
            assert shares.held == 5


def test_callers_who_are_not_told_apart_hold_all() -> None:
    shares = Shares(5, "doors")
    with shares.hold(None, 5), pytest.raises(LimitReached, match="the limit is 5 doors"):
        shares.hold(None, 1).__enter__()


def test_a_share_is_held_again_as_it_was_first() -> None:
    shares = Shares(10, "doors")
    held = shares.hold("ann", 1)
    for _ in range(2):
        with held:
            held.take(3)
            assert shares.held == 4
    assert shares.held == 0


def test_a_limit_of_one_is_one_caller_s_whole() -> None:
    shares = Shares(1, "doors")
    with shares.hold("ann", 1), pytest.raises(LimitReached), shares.hold("ann", 1):
        pass
    with shares.hold("ben", 1):
        assert shares.held == 1
    assert shares.held == 0


def test_a_block_that_fails_gives_back_what_it_took_too() -> None:
    shares = Shares(10, "doors")
    held = shares.hold("ann", 1)
    with suppress(LookupError), held:
        held.take(4)
        with pytest.raises(LimitReached):
            held.take(1)
        raise LookupError
    with shares.hold("ann", 5):
        assert shares.held == 5


@given(
    st.integers(0, 20),
    st.none() | st.integers(0, 20),
    st.lists(
        st.tuples(st.sampled_from(["", "ann", "ben", None]), st.integers(0, 7), st.booleans())
    ),
)
def test_nobody_ever_holds_more_and_nothing_is_left_behind(
    limit: int, share: int | None, steps: list[tuple[str | None, int, bool]]
) -> None:
    shares = Shares(limit, "doors", share)
    held: list[tuple[str | None, int, HeldShare]] = []
    for caller, amount, ends_one in steps:
        if ends_one and held:
            held.pop(0)[2].__exit__(None, None, None)
        of_caller = sum(each for who, each, _ in held if who == caller)
        of_all = sum(each for _, each, _ in held)
        assert shares.held == of_all
        holding = shares.hold(caller, amount)
        has_room = of_all + amount <= limit and (
            caller is None or of_caller + amount <= shares.share
        )
        if has_room:
            held.append((caller, amount, holding.__enter__()))
        else:
            with pytest.raises(LimitReached):
                holding.__enter__()
    for _, _, each in held:
        each.__exit__(None, None, None)
    assert shares.held == 0
    assert shares.held_by == {}, "callers who hold nothing are forgotten"
