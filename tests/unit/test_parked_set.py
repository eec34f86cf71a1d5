"""ParkedSet beside a few independent lines that keep what each aggregate parks."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from eventfleet.roles.parked_set import ParkedSet
from eventfleet.stores.parked_log import entries_of
from eventfleet.topics.names import Topics
from eventfleet.topics.parked import (
    WAITING,
    Discard,
    DiscardedEvent,
    ParkedAggregate,
    read_parked,
)
from eventfleet.topics.record import LogRecord, ProducerRecord

TIME = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = "ab"
DISCARD = Discard("spoilt", "ops", TIME)


def parked(key: str, first: int, last: int) -> ParkedAggregate:
    return ParkedAggregate("relay", 0, key, first, last, "e", "Added", "raised", "lines", 1, TIME)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["park", "behind", "end", "discard", "save", "open"]),
        st.sampled_from(KEYS),
        st.integers(1, 9),
        st.integers(0, 3),
    ),
    min_size=10,
    max_size=40,
)


class Compacted:
    """The compacted topic: of each key the last value, read as the roles' owners read it."""

    def __init__(self) -> None:
        self.values: dict[bytes, ProducerRecord] = {}

    def write(self, records: list[ProducerRecord]) -> None:
        for record in records:
            self.values[record.key or b""] = record

    def read(self) -> tuple[dict[str, ParkedAggregate], set[tuple[str, int]]]:
        records = [LogRecord(r.topic, 0, 0, r.key, r.value) for r in self.values.values()]
        entries = [entry for record in records if (entry := read_parked(record)[1])]
        found = entries_of(entries)
        discards = {(each.aggregate_id, each.version) for each in found.discarded}
        return {each.aggregate_id: each for each in found.parked}, discards


@given(STEPS)
def test_it_holds_what_was_parked_and_its_records_say_the_same(
    steps: list[tuple[str, str, int, int]],
) -> None:
    tested, topic = ParkedSet(Topics.of("tally", ""), "relay", 0), Compacted()
    ranges: dict[str, tuple[int, int]] = {}
    discards: set[tuple[str, int]] = set()
    saved, saved_discards = dict(ranges), set(discards)
    for step, key, version, more in steps:
        if step == "park" and key not in ranges:
            ranges[key] = (version, version + more)
            tested.put(parked(key, version, version + more))
        elif step == "behind" and key in ranges:
            first, last = ranges[key]
            ranges[key] = (first, max(last, version))
            tested.put_behind(key, version)
        elif step == "end" and key in ranges:
            first, last = ranges.pop(key)
            if first + more < last:
                ranges[key] = (first + more + 1, last)
            assert tested.end(key, first + more) is (key not in ranges)
        elif step == "discard" and key in ranges:
            discards.add((key, ranges[key][0]))
            tested.discard_first(key, DISCARD)
        elif step == "save":
            topic.write(tested.records())
            tested.forget()
            saved, saved_discards = dict(ranges), set(discards)
        elif step == "open":  # what was not saved is gone
            found, _ = topic.read()
            ranges, discards = dict(saved), set(saved_discards)
            events = [
                DiscardedEvent("relay", *each, "e", Discard("", "", TIME)) for each in discards
            ]
            tested.load(found.values(), events)
        held = {key: (each.first, each.last) for key, each in tested.aggregates.items()}
        assert (held, tested.discards) == (ranges, discards)
        changed = {key for key in KEYS if ranges.get(key) != saved.get(key)}
        noted = tested.changed | tested.longer | tested.ended
        assert changed <= noted
        assert not tested.ended & ranges.keys()
        assert tested.changed | tested.longer <= ranges.keys()
        assert tested.new <= tested.changed
    topic.write(tested.records())
    found, found_discards = topic.read()
    assert {key: (each.first, each.last) for key, each in found.items()} == ranges
    assert found_discards == discards


def test_what_is_left_of_a_parking_waits_and_has_no_event() -> None:
    tested = ParkedSet(Topics.of("tally", ""), "relay", 0)
    tested.load([parked("a", 2, 5)], [])
    assert not tested.end("a", 3)
    left = tested.aggregates["a"]
    assert (left.first, left.last, left.event_id, left.event_type) == (4, 5, "", "")
    assert (left.reason, left.details, left.attempts) == (WAITING, "", 0)


def test_records_say_all_that_is_parked_once_where_the_log_may_not_have_it() -> None:
    tested = ParkedSet(Topics.of("tally", ""), "snapshot", 0)
    tested.load([parked("a", 2, 5)], [])
    assert tested.records() == []
    tested.log_again()
    [record] = tested.records()
    tested.forget()
    assert (record.key, tested.records()) == (b"parked/snapshot/a", [])
