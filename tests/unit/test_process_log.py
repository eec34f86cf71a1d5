"""A process log's state against a count made without it, also on a real log."""

import csv
import gzip
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfleet import EventRecord, SinceSnapshot, replay
from eventfleet.domains.process_log import Case, process_log

REAL_LOG = Path(__file__).parents[3] / "shared" / "data" / "receipt.csv.gz"

words = st.text(max_size=5)

Row = tuple[str, dict[str, Any]]


def records(rows: Iterable[Row]) -> list[EventRecord]:
    return [
        EventRecord(
            id=f"id-{number}",
            type=activity,
            domain="process_log",
            aggregate_id="case-1",
            time=datetime(2024, 1, 1, tzinfo=UTC),
            data=data,
        )
        for number, (activity, data) in enumerate(rows)
    ]


def counted(rows: list[Row]) -> dict[str, Any]:
    """The state, by means of its own."""
    attributes: dict[str, Any] = {}
    for _, data in rows:
        attributes.update(data)
    return {
        "events": len(rows),
        "last": rows[-1][0] if rows else "",
        "activities": dict(Counter(activity for activity, _ in rows)),
        "attributes": attributes,
    }


def folded(rows: list[Row]) -> dict[str, Any]:
    return process_log.dump_state(replay(process_log.fold, Case(), records(rows)))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["Register", "Check", "Decide", "$set", "a.b", ""]),
            st.dictionaries(st.sampled_from("abc"), st.none() | st.integers() | words),
        )
    )
)
def test_a_case_counts_its_activities_and_keeps_its_last_columns(rows: list[Row]) -> None:
    assert folded(rows) == counted(rows)


@given(st.lists(st.tuples(words, st.dictionaries(words, st.integers(), max_size=3)), max_size=5))
def test_folding_leaves_the_states_and_events_before_as_they_were(rows: list[Row]) -> None:
    states = [Case()]
    for event in records(rows):
        states.append(process_log.fold(states[-1], event))
    for length, state in enumerate(states):
        assert process_log.dump_state(state) == counted(rows[:length])


def test_each_event_is_routed_and_each_fifth_is_a_reason_for_a_snapshot() -> None:
    (route,) = process_log.routes
    assert (route.to, route.names) == ("process_log.activities", frozenset())
    assert process_log.schema_free
    now = datetime(2024, 1, 1, tzinfo=UTC)
    for version in range(1, 12):
        assert process_log.snapshot
        since = SinceSnapshot(version, 5, now, now, frozenset(), 0)
        assert process_log.snapshot.due(since) == (version >= 10)


@pytest.mark.skipif(not REAL_LOG.exists(), reason="the real log is not on this machine")
def test_a_real_log_of_8577_events_in_1434_cases() -> None:
    cases: dict[str, list[Row]] = defaultdict(list)
    with gzip.open(REAL_LOG, "rt", encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            cases[row.pop("case:concept:name")].append((row.pop("concept:name"), row))
    assert (sum(map(len, cases.values())), len(cases)) == (8577, 1434)
    assert all(folded(rows) == counted(rows) for rows in cases.values())
