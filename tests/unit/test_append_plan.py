"""Plans of append: one that is quick plans what the thorough one does, or gives up."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from eventfleet.roles.append_plan import (
    AppendItem,
    AppendResult,
    Heads,
    PlacingPlan,
    Plan,
    head_of,
)
from eventfleet.stores.contracts import Head
from eventfleet.topics.event import EventRecord
from eventfleet.topics.record import LogRecord

PUT = EventRecord(
    id="1",
    type="Counted",
    domain="tally",
    aggregate_id="a",
    time=datetime(2026, 1, 1, tzinfo=UTC),
    data={},
    version=1,
)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[EventRecord], Heads]:
    """The events of some aggregates, the first of them placed, and the heads as they were known."""
    events, heads = [], {}
    for aggregate_id in "ab":
        count = draw(st.integers(0, 4))
        placed = draw(st.integers(0, count))
        known, known_placed = draw(st.integers(0, count)), draw(st.integers(0, placed))
        for version in range(1, count + 1):
            position = f"0-0-{50 + version}" if version <= placed else None
            id = f"{aggregate_id}{version}"
            event = replace(PUT, aggregate_id=aggregate_id, id=id, version=version)
            events.append(replace(event, position=position))
        newest = events[-1] if count and known == count else None
        heads[aggregate_id] = (
            Head(known, newest.id, known_placed, newest.type)
            if newest
            else Head(known_placed, "", known_placed, "")
        )
    return events, heads


@given(histories(), st.lists(st.sampled_from([f"{a}{n}" for a in "ab" for n in range(1, 6)])))
def test_events_that_are_placed_one_by_one_are_planned_as_by_a_thorough_plan(
    history: tuple[list[EventRecord], Heads], produced: list[str]
) -> None:
    events, heads = history
    items = [
        AppendItem(
            LogRecord("tally.events", 0, 100 + offset, id[0].encode(), b"", (), 0),
            replace(PUT, aggregate_id=id[0], id=id),
            0,
        )
        for offset, id in enumerate(dict.fromkeys(produced))
    ]
    named = {item.event.key for item in items}
    found = {event.key: event for event in events if event.key in named}
    quick = PlacingPlan(items, heads, found)
    if quick.suspect:
        return
    unplaced = {
        aggregate_id: [e for e in events if e.aggregate_id == aggregate_id and not e.position]
        for aggregate_id in heads
    }
    thorough = Plan(items, heads, found, unplaced, lambda *_: None, stored_only=True)  # type: ignore[arg-type, return-value]
    assert quick.writes == thorough.writes
    assert quick.heads == thorough.heads
    results = AppendResult(), AppendResult()
    quick.apply(len(items), results[0])
    thorough.apply(len(items), results[1])
    assert results[0] == results[1]


def test_events_that_follow_the_last_placed_one_need_no_thorough_plan() -> None:
    events = [replace(PUT, id=str(version), version=version) for version in (1, 2, 3)]
    items = [
        AppendItem(LogRecord("tally.events", 0, offset, b"a", b"", (), 0), event, 0)
        for offset, event in enumerate(events[1:])
    ]
    heads = {"a": head_of(events[0])}
    found = {event.key: event for event in events}
    assert not PlacingPlan(items, heads, found).suspect
    assert PlacingPlan(items[1:], heads, found).suspect, "the second one is not placed"
    assert PlacingPlan(items, heads, {}).suspect, "they are not stored"
