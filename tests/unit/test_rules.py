"""Snapshot rules against a naive model of what they say."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventfleet import Event, Rule, SinceSnapshot, after, every, on, size

NOW = datetime(2024, 1, 1, tzinfo=UTC)
TYPES = ["Opened", "Deposited", "Closed"]

Model = Callable[[SinceSnapshot], bool]


@st.composite
def happenings(draw: st.DrawFn) -> SinceSnapshot:
    snapshot = draw(st.integers(0, 20))
    return SinceSnapshot(
        version=snapshot + draw(st.integers(0, 12)),
        snapshot_version=snapshot,
        time=NOW - timedelta(seconds=draw(st.integers(0, 100))),
        now=NOW,
        types=frozenset(draw(st.sets(st.sampled_from(TYPES)))),
        size=draw(st.integers(0, 1000)),
    )


def model_every(events: int) -> tuple[Rule, Model]:
    return every(events), lambda s: s.version - s.snapshot_version >= events


def model_after(seconds: int) -> tuple[Rule, Model]:
    return after(seconds=seconds), lambda s: (s.now - s.time).total_seconds() >= seconds


def model_on(types: set[str]) -> tuple[Rule, Model]:
    return on(*types), lambda s: any(kind in types for kind in s.types)


def model_size(limit: int) -> tuple[Rule, Model]:
    return size(limit), lambda s: s.size >= limit


leaves = st.one_of(
    st.integers(1, 12).map(model_every),
    st.integers(1, 100).map(model_after),
    st.sets(st.sampled_from(TYPES), min_size=1).map(model_on),
    st.integers(1, 1000).map(model_size),
)


def combined(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def either(pair: Any) -> tuple[Rule, Model]:
        (left, models_left), (right, models_right) = pair
        return left | right, lambda s: models_left(s) or models_right(s)

    def both(pair: Any) -> tuple[Rule, Model]:
        (left, models_left), (right, models_right) = pair
        return left & right, lambda s: models_left(s) and models_right(s)

    def inverse(one: Any) -> tuple[Rule, Model]:
        rule, model = one
        return ~rule, lambda s: not model(s)

    pairs = st.tuples(inner, inner)
    return pairs.map(either) | pairs.map(both) | inner.map(inverse)


modelled = st.recursive(leaves, combined, max_leaves=8)
rules = modelled.map(lambda pair: pair[0])


@given(rules, happenings())
def test_a_rule_is_never_due_with_less_than_its_least(rule: Rule, since: SinceSnapshot) -> None:
    assert not rule.due(since) or since.version - since.snapshot_version >= rule.min_events


@pytest.mark.parametrize(
    ("rule", "least"),
    [
        (every(9), 9),
        (every(9) | every(4), 4),
        (every(9) & every(4), 9),
        (every(9) | after(hours=1), 1),
        (every(9) & on("Closed"), 9),
        (~every(9), 1),
    ],
)
def test_the_least_number_of_events(rule: Rule, least: int) -> None:
    assert rule.min_events == least


@given(modelled, happenings())
def test_a_rule_holds_when_its_words_are_true(
    pair: tuple[Rule, Model], since: SinceSnapshot
) -> None:
    rule, model = pair
    assert rule.holds(since) == model(since)


@given(modelled, happenings())
def test_it_is_due_when_it_holds_and_there_is_a_new_event(
    pair: tuple[Rule, Model], since: SinceSnapshot
) -> None:
    rule, model = pair
    assert rule.due(since) == (since.version > since.snapshot_version and model(since))


@given(rules, happenings())
def test_nothing_is_due_without_a_new_event(rule: Rule, since: SinceSnapshot) -> None:
    idle = replace(since, version=since.snapshot_version)
    assert not rule.due(idle)
    assert not (~rule).due(idle)


@given(rules, rules, happenings())
def test_de_morgan(a: Rule, b: Rule, since: SinceSnapshot) -> None:
    assert (~(a | b)).due(since) == (~a & ~b).due(since)
    assert (~(a & b)).due(since) == (~a | ~b).due(since)
    assert (~~a).due(since) == a.due(since)


@given(rules, rules, rules, happenings())
def test_and_binds_before_or_and_distributes(
    a: Rule, b: Rule, c: Rule, since: SinceSnapshot
) -> None:
    assert (a | b & c).due(since) == ((a | b) & (a | c)).due(since)


# The passing of time


@given(rules, happenings(), st.integers(0, 200))
@example(after(seconds=100) & every(1), SinceSnapshot(1, 0, NOW, NOW, frozenset(), 0), 100)
def test_only_a_timed_rule_becomes_due_as_time_passes(
    rule: Rule, since: SinceSnapshot, seconds: int
) -> None:
    later = replace(since, now=since.now + timedelta(seconds=seconds))
    assert rule.needs_clock or rule.due(later) == rule.due(since)


@given(rules, rules)
def test_a_combination_is_timed_if_any_part_is(a: Rule, b: Rule) -> None:
    assert (a | b).needs_clock == (a & b).needs_clock == (a.needs_clock or b.needs_clock)
    assert (~a).needs_clock == a.needs_clock


@given(rules, happenings(), st.sets(st.sampled_from(TYPES)))
def test_only_a_typed_rule_looks_at_types(
    rule: Rule, since: SinceSnapshot, types: set[str]
) -> None:
    assert rule.needs_types or rule.due(replace(since, types=frozenset(types))) == rule.due(since)


@given(rules, happenings(), st.integers(0, 1000))
def test_only_a_sized_rule_looks_at_the_size(rule: Rule, since: SinceSnapshot, size: int) -> None:
    assert rule.needs_size or rule.due(replace(since, size=size)) == rule.due(since)


def test_a_rule_that_says_nothing_is_told_types_and_size() -> None:
    assert Rule().needs_types
    assert Rule().needs_size


def test_only_after_is_timed_by_itself() -> None:
    assert after(minutes=1).needs_clock
    assert not any(rule.needs_clock for rule in (every(1), on("A"), size(1)))


@pytest.mark.parametrize(
    ("rule", "seconds"),
    [
        (after(seconds=1), 1),
        (after(minutes=2), 120),
        (after(hours=1, minutes=1), 3660),
        (after(days=1), 86_400),
        (after(seconds=0.001), 0.001),
    ],
)
def test_after_is_due_from_its_very_moment_on(rule: Rule, seconds: float) -> None:
    since = SinceSnapshot(1, 0, NOW, NOW + timedelta(seconds=seconds), frozenset(), 0)
    assert rule.due(since)
    assert not rule.due(replace(since, now=since.now - timedelta(milliseconds=1)))


# Types


def test_on_takes_names_and_payload_classes() -> None:
    class Closed(Event):
        pass

    assert on(Closed) == on("Closed")
    assert on(Closed, "Opened").types == {"Closed", "Opened"}


@given(st.sets(st.sampled_from(TYPES), min_size=1), st.sets(st.sampled_from(TYPES), min_size=1))
def test_a_combination_names_the_types_of_its_parts(left: set[str], right: set[str]) -> None:
    rule = (on(*left) | every(5)) & ~(on(*right) & after(days=1) & size(9))
    assert rule.types == left | right


# Bad arguments


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: every(0), r"every\(0\): the number of events must be at least 1"),
        (lambda: every(-1), r"every\(-1\): the number of events must be at least 1"),
        (lambda: size(0), r"size\(0\): the number of bytes must be at least 1"),
        (lambda: on(), r"on\(\): name at least one event type"),
        (lambda: after(), r"after: the age must be .* and is 0:00:00"),
        (
            lambda: after(minutes=1, seconds=-60),
            r"after: the age must be .* and is 0:00:00",
        ),
        (lambda: after(hours=-1), r"after: the age must be above zero and is -1 day, 23:00:00"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(make: Callable[[], Rule], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("other", [5, None, "Closed", Event])
def test_a_rule_combines_with_rules_only(other: Any) -> None:
    with pytest.raises(TypeError):
        every(5) | other
    with pytest.raises(TypeError):
        every(5) & other
