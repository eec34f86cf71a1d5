"""What append does to one chunk."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace as with_changes
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from msgspec.structs import replace

from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Event
from eventfleet.roles.append import AppendRole
from eventfleet.roles.redrive_schedule import COMPARE_INTERVAL
from eventfleet.roles.role import ChunkReport
from eventfleet.states.lru_cache import cache_statistics
from eventfleet.stores.contracts import AssignPosition, Head, PlaceParked, VersionRange
from eventfleet.stores.contracts.dead_letters import ParkedEntries
from eventfleet.stores.errors import Duplicate, Fenced, Misconfigured, ServerUnavailable
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.topics.codec import encode
from eventfleet.topics.dead_letters import KIND, REASON
from eventfleet.topics.event import EventKey, EventRecord, Position
from eventfleet.topics.parked import Discard, DiscardedEvent
from eventfleet.topics.record import LogRecord
from tests.simulation.checker import event_of
from tests.simulation.in_memory_servers import START, InMemoryServers, take
from tests.simulation.recording_domain import (
    Counted,
    Tally,
    evolve,
    marker_tally,
    sync_tally,
    tally,
)


@pytest.fixture
def memory() -> InMemoryServers:
    return InMemoryServers(tally)


def an_append(
    memory: InMemoryServers,
    domain: Domain[Tally] | None = None,
    cached: int = 100,
    tried: set[tuple[str, int]] | None = None,
) -> AppendRole:
    return AppendRole(
        *(domain or memory.domain, 0, memory.events, memory.writer("append")),
        *(memory.clock, memory.append_parking(tried=tried)),
        cached=cached,
    )


async def opened(
    memory: InMemoryServers, domain: Domain[Tally] | None = None, cached: int = 100
) -> AppendRole:
    append = an_append(memory, domain, cached)
    await append.open()
    return append


async def sent(memory: InMemoryServers, *events: EventRecord) -> list[LogRecord]:
    """These events' records in the log."""
    await memory.emit(memory.topics.events, *events)
    return memory.records(memory.topics.events)[-len(events) :]


def stored(memory: InMemoryServers) -> list[tuple[str, str, int]]:
    """Aggregate, event and version of what was emitted."""
    return [(e.aggregate_id, e.id, e.version) for e in memory.seen(memory.topics.stored)]


def letters(memory: InMemoryServers) -> list[dict[str, str]]:
    return [
        {key: value.decode() for key, value in record.headers}
        for record in memory.records(memory.topics.dead_letters)
    ]


# Versions, positions, what is emitted


async def test_events_get_versions_and_positions_in_the_order_of_the_log(
    memory: InMemoryServers,
) -> None:
    append = await opened(memory)
    events = memory.event("1"), memory.event("2", "b"), memory.event("3")
    report = await take(append, await sent(memory, *events))
    assert stored(memory) == [("a", "1", 1), ("b", "2", 1), ("a", "3", 2)]
    assert [(e.id, e.position) for e in await memory.history()] == [("1", "0-0-0"), ("3", "0-0-2")]
    assert (report.stored, report.emitted, memory.offset("append")) == (3, 3, 3)


async def test_what_is_emitted_is_what_is_stored(memory: InMemoryServers) -> None:
    append = await opened(memory)
    await take(append, await sent(memory, memory.event("1", actor="me")))
    assert memory.seen(memory.topics.stored) == await memory.history()


async def test_versions_go_on_where_a_cache_of_one_has_dropped_the_aggregate(
    memory: InMemoryServers,
) -> None:
    append = await opened(memory, cached=1)
    for n, key in enumerate("abab"):
        await take(append, await sent(memory, memory.event(str(n), key)))
    assert stored(memory) == [("a", "0", 1), ("b", "1", 1), ("a", "2", 2), ("b", "3", 2)]


def at_times(records: list[LogRecord]) -> list[LogRecord]:
    """These records with timestamps that name their offsets."""
    return [replace(record, timestamp=1_000 + record.offset) for record in records]


def times(memory: InMemoryServers) -> list[tuple[str, int]]:
    """The events that were emitted, with the timestamps of their records."""
    topic = memory.topics.stored
    stamped = zip(memory.seen(topic), memory.records(topic), strict=True)
    return [(event.id, record.timestamp) for event, record in stamped]


async def test_what_is_emitted_has_the_timestamp_of_its_source(memory: InMemoryServers) -> None:
    append = await opened(memory)
    events = memory.event("1"), memory.event("2", "b")
    await take(append, at_times(await sent(memory, *events)))
    assert times(memory) == [("1", 1_000), ("2", 1_001)]
    more = [memory.event(n) for n in "3143"]
    await take(append, at_times(await sent(memory, *more)))
    assert times(memory)[2:] == [("3", 1_002), ("4", 1_004)]


async def test_events_that_one_record_places_have_its_timestamp(memory: InMemoryServers) -> None:
    append = await opened(memory, sync_tally)
    first, second, third = await put(memory, 1, 2, 3)
    await take(append, at_times(await sent(memory, first)))
    # As many events as records, but not one of each: the first is a repeat.
    await take(append, at_times(await sent(memory, first, third)))
    assert times(memory) == [(first.id, 1_000), (second.id, 1_002), (third.id, 1_002)]


async def test_heads_that_are_cached_are_counted_as_hits() -> None:
    domain = Domain(f"tally-{uuid4().hex}", state=Tally, evolve=evolve, events=[Counted])
    memory = InMemoryServers(domain)
    append = await opened(memory)
    for ids in ("ab", "abc"):
        await take(append, await sent(memory, *(memory.event(f"{ids}{n}", n) for n in ids)))
    counted = cache_statistics(domain.name, "append", "heads")
    assert (counted.hits, counted.misses) == (2, 3)


# Records that can't be used


async def test_the_rest_of_a_chunk_goes_on_past_an_unreadable_record(
    memory: InMemoryServers,
) -> None:
    append = await opened(memory)
    bad = ("a", b"{no json")
    good = ("a", encode(memory.event("1"))), ("a", encode(memory.event("2")))
    await memory.put(memory.topics.events, good[0], bad, good[1])
    report = await take(append, memory.records(memory.topics.events))
    assert stored(memory) == [("a", "1", 1), ("a", "2", 2)]
    assert (report.stored, report.dead_letters) == (2, 1)
    [letter] = letters(memory)
    assert letter["eventfleet-source"] == "tally.events/0/1"
    assert (letter["eventfleet-kind"], letter["eventfleet-role"]) == ("unreadable", "append")
    assert letter["eventfleet-reason"].startswith("value: is not JSON")
    assert memory.records(memory.topics.dead_letters)[0].value == bad[1]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"domain": "other"}, "source: is 'other', not 'tally'"),
        ({"data": {"n": 7}}, "data.n: Expected `str`, got `int`"),
    ],
)
async def test_an_event_that_does_not_belong_here(
    memory: InMemoryServers, changed: dict[str, Any], reason: str
) -> None:
    append = await opened(memory)
    await take(append, await sent(memory, memory.event("1", **changed), memory.event("2")))
    assert stored(memory) == [("a", "2", 1)]
    assert [letter["eventfleet-reason"] for letter in letters(memory)] == [reason]


async def test_a_key_that_is_not_the_subject(memory: InMemoryServers) -> None:
    append = await opened(memory)
    await memory.put(memory.topics.events, ("b", encode(memory.event("1"))))
    await take(append, memory.records(memory.topics.events))
    assert stored(memory) == []
    assert letters(memory)[0]["eventfleet-reason"] == "key: is b'b', not the subject 'a'"


@pytest.mark.parametrize("chunks", [1, 2])
async def test_an_id_that_another_aggregate_has(memory: InMemoryServers, chunks: int) -> None:
    append = await opened(memory)
    records = await sent(memory, memory.event("1"), memory.event("1", "b"))
    for chunk in [records] if chunks == 1 else [[record] for record in records]:
        await take(append, chunk)
    assert stored(memory) == [("a", "1", 1), ("b", "1", 1)]
    assert letters(memory) == []


async def test_an_event_without_prev_where_events_are_made_by_commands(
    memory: InMemoryServers,
) -> None:
    append = await opened(memory, marker_tally)
    await take(append, await sent(memory, memory.event("1"), memory.event("2", prev="")))
    assert stored(memory) == [("a", "2", 1)]
    assert letters(memory)[0]["eventfleet-reason"].startswith("prev: is missing")


# Repeats


@pytest.mark.parametrize("named", [{}, {"prev": ""}])
async def test_a_repeat_within_a_chunk_is_dropped(
    memory: InMemoryServers, named: dict[str, str]
) -> None:
    append = await opened(memory, marker_tally if named else tally)
    event = memory.event("1", **named)
    report = await take(append, await sent(memory, event, event, event))
    assert stored(memory) == [("a", "1", 1)]
    assert (report.stored, report.repeated) == (1, 2)


async def test_repeats_of_stored_events_emit_nothing(memory: InMemoryServers) -> None:
    append = await opened(memory)
    events = [memory.event(str(n), "ab"[n % 2]) for n in range(4)]
    await take(append, await sent(memory, *events))
    report = await take(append, await sent(memory, *events, memory.event("new")))
    assert stored(memory)[4:] == [("a", "new", 3)]
    assert (report.stored, report.repeated, report.emitted) == (1, 4, 1)


async def test_what_a_dead_owner_stored_at_these_offsets_is_emitted(
    memory: InMemoryServers,
) -> None:
    append = await opened(memory)
    records = await sent(memory, memory.event("1"), memory.event("2"), memory.event("3"))
    done = [replace(memory.event(str(n + 1)), version=n + 1, position=f"0-0-{n}") for n in (0, 1)]
    await memory.events.write(done)
    report = await take(append, records)
    assert stored(memory) == [("a", "1", 1), ("a", "2", 2), ("a", "3", 3)]
    assert (report.stored, report.emitted) == (1, 3)


# Events that follow one another


async def test_an_event_that_does_not_follow_the_latest_is_superseded(
    memory: InMemoryServers,
) -> None:
    append = await opened(memory, marker_tally)
    first, second = memory.event("1", prev=""), memory.event("2", prev="1")
    late = memory.event("x", prev="1")
    report = await take(append, await sent(memory, first, second, late))
    assert stored(memory) == [("a", "1", 1), ("a", "2", 2)]
    assert report.superseded == 1
    [letter] = letters(memory)
    assert letter["eventfleet-kind"] == "superseded"
    assert letter["eventfleet-reason"] == "prev: is '1', the latest event is '2'"


async def test_a_repeat_whose_prev_is_past_is_no_superseded_event(memory: InMemoryServers) -> None:
    append = await opened(memory, marker_tally)
    events = [memory.event("1", prev=""), memory.event("2", prev="1")]
    await take(append, await sent(memory, *events))
    report = await take(append, await sent(memory, *events))
    assert (report.repeated, report.superseded, letters(memory)) == (2, 0, [])


async def test_an_event_decided_again_follows_the_latest_one(memory: InMemoryServers) -> None:
    append = await opened(memory, marker_tally)
    again = [memory.event("2", prev=prev) for prev in ("", "1")]
    await take(append, await sent(memory, memory.event("1", prev=""), *again))
    assert stored(memory) == [("a", "1", 1), ("a", "2", 2)]


async def test_what_another_owner_has_stored_is_what_the_next_event_follows(
    memory: InMemoryServers,
) -> None:
    append = await opened(memory, marker_tally)
    await take(append, await sent(memory, memory.event("1", prev="")))
    others = [memory.event("2", prev="1"), memory.event("3", prev="2")]
    placed = [
        replace(event, version=n, position=f"0-0-{n}") for n, event in enumerate(others, start=2)
    ]
    await memory.events.write(placed)
    following = memory.event("4", prev="3")
    await take(append, await sent(memory, memory.event("2", prev=""), *others, following))
    assert [event.id for event in memory.seen(memory.topics.stored)] == ["1", "2", "3", "4"]
    assert letters(memory) == []


class Overtaken(MemoryEvents):
    """Another owner stores the rest of the chunk between two of our readings."""

    others: Sequence[EventRecord] = ()

    async def find(self, event_ids: Any) -> dict[str, EventRecord]:
        others, self.others = self.others, ()
        await super().write(others)
        return await super().find(event_ids)


async def test_nothing_is_superseded_by_what_another_owner_stored_meanwhile(
    memory: InMemoryServers,
) -> None:
    memory.events = store = Overtaken()
    first = memory.event("1", prev="")
    await store.write([replace(first, version=1, position="0-0-0")])
    early, second = memory.event("3", prev=""), memory.event("2", prev="1")
    third = replace(early, prev="2")
    store.others = [
        replace(second, version=2, position="0-0-2"),
        replace(third, version=3, position="0-0-3"),
    ]
    append = await opened_at(memory, 0, marker_tally)
    await take(append, await sent(memory, first, early, second, third))
    assert stored(memory) == [("a", "1", 1), ("a", "2", 2), ("a", "3", 3)]
    assert letters(memory) == []


# Synchronous puts


async def put(memory: InMemoryServers, *versions: int) -> list[EventRecord]:
    events = [memory.event(f"s{version}", version=version) for version in versions]
    await memory.events.put(events, 0)
    return events


async def test_one_record_places_all_lower_versions_first(memory: InMemoryServers) -> None:
    append = await opened(memory, sync_tally)
    first, second = await put(memory, 1, 2)
    await take(append, await sent(memory, second, first))
    assert stored(memory) == [("a", "s1", 1), ("a", "s2", 2)]
    assert {event.position for event in await memory.history()} == {"0-0-0"}


async def addresses(memory: InMemoryServers) -> tuple[list[str | None], list[str | None]]:
    """Those of the records that were emitted, and of the stored events."""
    emitted = memory.seen(memory.topics.stored)
    return [e.reply_to for e in emitted], [e.reply_to for e in await memory.history()]


async def test_who_waits_for_put_events_is_named_in_their_records_alone(
    memory: InMemoryServers,
) -> None:
    append = await opened(memory, sync_tally)
    first, second = (memory.event(f"s{n}", version=n, reply_to=f"{n}") for n in (1, 2))
    await memory.events.put([first, second], 0)
    await take(append, await sent(memory, second))
    assert await addresses(memory) == (["1", "2"], [None, None])


async def test_who_waits_for_what_a_dead_owner_stored_is_named_in_its_record(
    memory: InMemoryServers,
) -> None:
    append = await opened(memory)
    records = await sent(memory, *(memory.event(n, reply_to=n) for n in ("1", "2")))
    await memory.events.write([memory.event("1", version=1, position="0-0-0")])
    await take(append, records)
    assert await addresses(memory) == (["1", "2"], [None, None])


async def test_where_events_are_put_others_are_dead_letters(memory: InMemoryServers) -> None:
    append = await opened(memory, sync_tally)
    (first,) = await put(memory, 1)
    forged = memory.event("forged", version=2)
    report = await take(append, await sent(memory, memory.event("1"), first, forged, first))
    assert stored(memory) == [("a", "s1", 1)]
    assert (report.stored, report.dead_letters, report.repeated) == (1, 2, 1)
    reason = "id: is that of no stored event; events of this domain are put by commands"
    assert [letter[REASON] for letter in letters(memory)] == [reason, reason]


async def test_a_dead_owner_s_lower_versions_are_emitted_too(memory: InMemoryServers) -> None:
    append = await opened(memory, sync_tally)
    first, second = await put(memory, 1, 2)
    await memory.events.write(
        [AssignPosition(first, Position(0, 0, 0)), AssignPosition(second, Position(0, 0, 0))]
    )
    report = await take(append, await sent(memory, second))
    assert stored(memory) == [("a", "s1", 1), ("a", "s2", 2)]
    assert (report.stored, report.emitted) == (0, 2)


async def test_a_repeat_does_not_place_what_was_put_after_it(memory: InMemoryServers) -> None:
    await memory.events.write([memory.event("1", version=1, position="0-0-0")])
    await memory.events.write([memory.event("2", version=2, position="0-0-1")])
    third, fourth = await put(memory, 3, 4)
    append = await opened_at(memory, 0, sync_tally)
    await take(append, await sent(memory, memory.event("1"), memory.event("2"), fourth))
    placed = {event.id: event.position for event in await memory.history()}
    assert placed == {"1": "0-0-0", "2": "0-0-1", third.id: "0-0-2", fourth.id: "0-0-2"}


async def opened_at(
    memory: InMemoryServers, offset: int, domain: Domain[Tally] | None = None
) -> AppendRole:
    """The successor of an owner that has committed this offset."""
    writer = memory.writer("append")
    memory.log.offsets[writer.source] = offset
    return await opened(memory, domain)


# Faults


class RefusingEvents(MemoryEvents):
    """Refuses the writes of which `refusals` has some left."""

    refusals = 0

    async def write(self, writes: Any) -> None:
        if self.refusals:
            self.refusals -= 1
            raise ServerUnavailable("refused")
        await super().write(writes)


async def test_versions_have_no_gap_after_a_refused_write(memory: InMemoryServers) -> None:
    memory.events = store = RefusingEvents()
    append = await opened(memory)
    await take(append, await sent(memory, memory.event("0")))
    store.refusals = 1
    records = await sent(memory, memory.event("1"))
    with pytest.raises(ServerUnavailable):
        await take(append, records)
    assert (stored(memory), memory.offset("append")) == ([("a", "0", 1)], 1)
    assert await append.open() == 1
    await take(append, records)
    assert stored(memory) == [("a", "0", 1), ("a", "1", 2)]


class Repeating(MemoryEvents):
    """Does a write again whose first answer was lost."""

    async def write(self, writes: Any) -> None:
        await super().write(writes)
        await super().write(writes)


async def test_a_write_that_clashes_with_itself_is_done_and_emitted_once(
    memory: InMemoryServers,
) -> None:
    memory.events = Repeating()
    append = await opened(memory)
    await take(append, await sent(memory, memory.event("1"), memory.event("2", "b")))
    await take(append, await sent(memory, memory.event("3")))
    assert stored(memory) == [("a", "1", 1), ("b", "2", 1), ("a", "3", 2)]
    assert await memory.events.count() == 3


class Clashing(MemoryEvents):
    """Reports a clash that nothing which can be read explains."""

    async def write(self, writes: Any) -> None:
        raise Duplicate(0, "a", 1, "version")


async def test_a_clash_that_nothing_explains_ends(memory: InMemoryServers) -> None:
    memory.events = Clashing()
    append = await opened(memory)
    with pytest.raises(ServerUnavailable, match="nothing that was read explains it"):
        await take(append, await sent(memory, memory.event("1")))
    assert timedelta() < memory.clock.now() - START < timedelta(minutes=1)


async def test_placing_where_another_event_is(memory: InMemoryServers) -> None:
    append = await opened(memory, sync_tally)
    await memory.events.write([memory.event("old", "b", version=1, position="0-0-0")])
    with pytest.raises(Misconfigured, match="position 0-0-0 of event s1 is held by event old"):
        await take(append, await sent(memory, *await put(memory, 1)))


@pytest.mark.parametrize("holder", [("b", 1), ("b", 7), ("a", 1)])
async def test_a_log_that_was_made_anew_in_the_same_epoch(
    memory: InMemoryServers, holder: tuple[str, int]
) -> None:
    key, version = holder
    await memory.events.write([memory.event("old", key, version=version, position="0-0-0")])
    append = await opened_at(memory, 0)
    with pytest.raises(Misconfigured, match=r"is held by event old.*raise the epoch"):
        await take(append, await sent(memory, memory.event("new")))
    assert await memory.events.count() == 1
    await memory.events.registry.raise_epoch()
    append = await opened_at(memory, 0)
    await take(append, memory.records(memory.topics.events))
    assert [e.position for e in (await memory.events.find([EventKey("a", "new")])).values()] == [
        "1-0-0"
    ]


async def test_a_group_without_an_offset_though_events_are_stored(memory: InMemoryServers) -> None:
    await memory.events.registry.note_next_offset(0, 0, 6)
    with pytest.raises(Misconfigured, match=r"below offset 6 .* the consumer group has no offset"):
        await an_append(memory).open()
    assert memory.offset("append") is None


async def test_a_store_that_the_group_did_not_fill(memory: InMemoryServers) -> None:
    append = await opened(memory)
    await take(append, await sent(memory, memory.event("1"), memory.event("2")))
    memory.events = MemoryEvents()
    with pytest.raises(Misconfigured, match=r"taken partition 0 up to offset 2, .* only up to 0"):
        await an_append(memory).open()
    assert memory.offset("append") == 2


async def test_an_older_copy_of_the_store(memory: InMemoryServers) -> None:
    append = await opened(memory)
    await take(append, await sent(memory, memory.event("1")))
    older = deepcopy(memory.events)
    await take(append, await sent(memory, memory.event("2")))
    memory.events = older
    with pytest.raises(Misconfigured, match=r"up to offset 2, .* only up to 1: .* rewind tally"):
        await an_append(memory).open()


async def test_the_next_offset_is_noted_in_the_store_before_it_is_committed(
    memory: InMemoryServers,
) -> None:
    append = await opened(memory)
    records = await sent(memory, memory.event("1"))
    await memory.writer("append").open()  # fences: this chunk's commit is refused
    with pytest.raises(Fenced):
        await take(append, records)
    assert memory.offset("append") == 0
    assert await memory.events.registry.next_offset(0) == 1


class CountingEvents(MemoryEvents):
    """Counts the unplaced events that each look-up reads."""

    def __init__(self) -> None:
        super().__init__()
        self.unplaced_read: list[int] = []

    async def unplaced(self, ranges: Any) -> list[EventRecord]:
        found = await super().unplaced(ranges)
        self.unplaced_read.append(len(found))
        return found


async def test_no_more_unplaced_events_are_read_than_a_chunk_needs(
    memory: InMemoryServers,
) -> None:
    memory.events = CountingEvents()
    append = await opened(memory, sync_tally)
    events = await put(memory, *range(1, 51))
    for event in events[:5]:
        await take(append, await sent(memory, event))
    assert memory.events.unplaced_read == [], "each is next"
    await take(append, await sent(memory, events[9]))
    assert memory.events.unplaced_read == [5]
    assert memory.offset("append") == 6


async def test_a_death_in_a_group_s_first_chunk_leaves_an_offset(memory: InMemoryServers) -> None:
    await opened(memory)
    await memory.events.write([memory.event("1", version=1, position="0-0-0")])
    assert await an_append(memory).open() == 0


async def test_a_slow_owner_does_not_take_its_successor_s_events_for_a_lost_offset(
    memory: InMemoryServers,
) -> None:
    successor = await opened(memory)
    await take(successor, await sent(memory, memory.event("1")))
    assert await an_append(memory).open() == 1


# Poison


def failing(data: dict[str, Any]) -> dict[str, Any]:
    raise KeyError("n")


poisoned: Domain[Tally] = Domain(
    "tally", state=Tally, evolve=evolve, events=[Counted], upcasters={Counted: [failing]}
)


mended = with_changes(poisoned, upcasters={Counted: [dict]})


async def test_an_upcaster_that_raises_parks_the_aggregate() -> None:
    memory = InMemoryServers(poisoned)
    append = await opened(memory)
    events = memory.event("0", schema_version=2), memory.event("1", "b")
    report = await take(append, await sent(memory, *events))
    behind = memory.event("2", "b", schema_version=2), memory.event("3", schema_version=2)
    report += await take(append, await sent(memory, *behind))
    assert stored(memory) == [("a", "0", 1), ("a", "3", 2)]
    assert (report.parked, report.stored, memory.offset("append")) == (2, 2, 4)
    assert await memory.events.parked() == {"b"}
    [parked] = await memory.dead_letters.parked_in("append", 0)
    place = parked.first, parked.event_id, parked.reason, parked.attempts
    assert place == (1, "1", "KeyError: 'n'", 1)
    assert "in failing" in parked.details
    assert [(letter[KIND], letter[REASON]) for letter in letters(memory)] == [
        ("parked", "KeyError: 'n'")
    ]


class NoLookUps(MemoryEvents):
    """Fails when events are looked up."""

    async def find(self, event_ids: Any) -> dict[str, EventRecord]:
        raise AssertionError("a look-up")


async def test_new_events_are_parked_and_placed_without_a_look_up() -> None:
    memory = InMemoryServers(poisoned)
    memory.events = NoLookUps()
    append = await opened(memory)
    new = {"schema_version": 2}
    chunk = [memory.event("1", **new), memory.event("2"), memory.event("3", "b", **new)]
    await take(append, await sent(memory, *chunk))
    await take(append, await sent(memory, memory.event("4", **new), memory.event("5", "b", **new)))
    assert stored(memory) == [("a", "1", 1), ("b", "3", 1), ("b", "5", 2)]
    assert await memory.events.heads(["a"]) == {"a": Head(3, "4", 1, "Counted", parked=True)}


# Accepted events that an older declaration does not read


class Packed(Event):
    n: str
    box: str


newer_tally = with_changes(marker_tally, events=[Counted, Packed])


NEW_TYPE = {"type": "Packed", "data": {"n": "2", "box": "small"}}


@pytest.mark.parametrize(
    "packed",
    [
        NEW_TYPE,
        {"schema_version": 2},
        {"data": {"n": "2", "size": "of a later release"}},
    ],
    ids=["type", "schema version", "payload"],
)
async def test_an_accepted_event_that_is_not_read_parks_its_aggregate_and_loses_none(
    packed: dict[str, Any],
) -> None:
    """Wrong order of a rollout: what follows was accepted too, and names it as its `prev`."""
    memory = InMemoryServers(marker_tally)
    append = await opened(memory)
    await take(append, await sent(memory, memory.event("1", prev="")))
    accepted = memory.event("2", prev="1", **packed), memory.event("3", prev="2")
    records = await sent(memory, memory.event("0", "b", prev=""), *accepted)
    report = await take(append, records)
    assert (report.parked, report.superseded) == (2, 0)
    assert stored(memory) == [("a", "1", 1), ("b", "0", 1)]
    [parked] = await memory.dead_letters.parked_in("append", 0)
    assert parked.reason.startswith("UndeclaredEvent: it was accepted, but the domain as declared")
    heads = await memory.events.heads(["a"])
    assert heads["a"] == Head(3, "3", 1, "Counted", parked=True)


@pytest.mark.parametrize("packed", [NEW_TYPE, {"schema_version": 2}], ids=["type", "version"])
async def test_without_rules_an_event_of_newer_code_parks_its_aggregate_too(
    packed: dict[str, Any],
) -> None:
    memory = InMemoryServers(tally)
    append = await opened(memory)
    events = memory.event("1", **packed), memory.event("2"), memory.event("3", "b")
    report = await take(append, await sent(memory, *events))
    assert (report.parked, report.dead_letters, stored(memory)) == (2, 0, [("b", "3", 1)])


async def test_another_process_places_what_its_declaration_knows_unasked() -> None:
    memory = InMemoryServers(marker_tally)
    old, new = set[tuple[str, int]](), set[tuple[str, int]]()
    append = an_append(memory, tried=old)
    await append.open()
    packed = memory.event("1", prev="", **NEW_TYPE), memory.event("2", prev="1")
    await take(append, await sent(memory, *packed))
    # An owner with the old code does not try it again, however often it takes the partition over.
    append = an_append(memory, tried=old)
    await append.open()
    assert await ticked(memory, append) == ChunkReport()
    append = an_append(memory, newer_tally, tried=new)
    await append.open()
    assert await append.tick() == ChunkReport()  # operators may ask first
    assert (await ticked(memory, append)).redriven == 2
    assert stored(memory) == [("a", "1", 1), ("a", "2", 2)]
    assert (await memory.events.parked(), new) == (set(), set())


async def test_what_waits_for_its_redrive_counts_as_tried_by_nobody() -> None:
    """An earlier owner has parked it with its last breath, and has the partition again later."""
    memory = InMemoryServers(marker_tally)
    old, new = set[tuple[str, int]](), set[tuple[str, int]]()
    fenced = an_append(memory, tried=old)
    await fenced.open()
    append = an_append(memory, newer_tally, tried=new)
    await append.open()
    records = await sent(memory, memory.event("1", prev="", **NEW_TYPE))
    with pytest.raises(Fenced):
        await take(fenced, records)
    await take(append, records)
    assert (await memory.events.parked(), new) == ({"a"}, set())
    append = an_append(memory, tried=old)
    await append.open()
    await ticked(memory, append)
    [parked] = await memory.dead_letters.parked_in("append", 0)
    assert parked.reason.startswith("UndeclaredEvent: ")
    append = an_append(memory, newer_tally, tried=new)
    await append.open()
    await ticked(memory, append)
    assert stored(memory) == [("a", "1", 1)]


async def ticked(memory: InMemoryServers, append: AppendRole) -> ChunkReport:
    """What comes of some ticks, each followed by the records that it has written."""
    report = ChunkReport()
    for _ in range(5):
        memory.clock.time += COMPARE_INTERVAL
        report += await append.tick()
        if records := memory.records(memory.topics.events)[memory.offset("append") or 0 :]:
            report += await take(append, records)
    return report


async def redriven(
    memory: InMemoryServers, append: AppendRole, discard: Discard | None = None
) -> ChunkReport:
    """What comes of a request for all that is parked, until nothing more happens."""
    for parked in await memory.dead_letters.parked_in("append", 0):
        assert await memory.dead_letters.request(parked, discard)
    report, offset = ChunkReport(), memory.offset("append") or 0
    while True:
        report += await append.tick()
        records = memory.records(memory.topics.events)[offset:]
        if not records:
            return report
        report += await take(append, records)
        offset += len(records)


async def test_what_is_parked_is_placed_in_order_once_its_declaration_is_deployed() -> None:
    memory = InMemoryServers(marker_tally)
    packed = memory.event("1", prev="", type="Packed", data={"n": "1", "box": "small"})
    records = await sent(memory, packed, memory.event("2", prev="1"), memory.event("3", prev="2"))
    await take(await opened(memory), records)
    append = await opened(memory, newer_tally)
    report = await redriven(memory, append)
    await take(append, await sent(memory, memory.event("4", prev="3")))
    assert stored(memory) == [("a", str(n), n) for n in range(1, 5)]
    positions = [event.position for event in await memory.history("a")]
    assert positions == ["0-0-3", "0-0-4", "0-0-5", "0-0-6"]
    assert (report.redriven, report.nudged) == (3, 3)
    assert (await memory.events.parked(), await memory.dead_letters.count()) == (set(), {})


async def test_a_redriven_event_that_fails_again_stays_parked_and_ends_its_request() -> None:
    memory = InMemoryServers(poisoned)
    append = await opened(memory)
    await take(append, await sent(memory, memory.event("1"), memory.event("2", schema_version=2)))
    report = await redriven(memory, append)
    assert (report.redriven, stored(memory)) == (0, [])
    [parked] = await memory.dead_letters.parked_in("append", 0)
    assert (parked.first, parked.last, parked.attempts) == (1, 2, 2)
    assert await memory.dead_letters.requests("append", 0, 9) == []


async def test_no_earlier_owner_places_a_redriven_event_that_was_not_the_first() -> None:
    memory = InMemoryServers(poisoned)
    append = await opened(memory)
    await take(append, await sent(memory, memory.event("1"), memory.event("2", schema_version=2)))
    await redriven(memory, append)
    first, behind = await memory.events.unplaced([VersionRange("a", 0, 2)])
    await memory.events.write([PlaceParked(first, Position(0, 0, 2))])
    await memory.events.write([PlaceParked(first, Position(0, 0, 4))])
    await memory.events.write([PlaceParked(behind, Position(0, 0, 3))])
    assert [(e.id, e.position) for e in await memory.history("a")] == [("1", "0-0-4")]


async def test_a_discarded_event_keeps_its_place_and_is_marked_so() -> None:
    memory = InMemoryServers(poisoned)
    append = await opened(memory)
    await take(append, await sent(memory, memory.event("1"), memory.event("2", schema_version=2)))
    report = await redriven(memory, append, Discard("a mistake", "op", memory.clock.now()))
    assert (report.discarded, report.redriven) == (1, 1)
    events = [event_of(record) for record in memory.records(memory.topics.stored)]
    assert [(e.id, e.version, e.discarded) for e in events] == [("1", 1, True), ("2", 2, False)]
    [noted] = await memory.dead_letters.discarded("append", ["a"])
    assert (noted.event_id, noted.version, noted.discard.why) == ("1", 1, "a mistake")
    assert await memory.logged("append") == ParkedEntries([], [noted])


async def test_what_append_parks_is_in_the_log_with_its_events_until_it_is_placed() -> None:
    memory = InMemoryServers(poisoned)
    append = await opened(memory)
    await take(append, await sent(memory, memory.event("1"), memory.event("2", schema_version=2)))
    assert (await memory.logged("append")).parked == await memory.dead_letters.parked_in(
        "append", 0
    )
    parked = await memory.events.unplaced([VersionRange("a", 0, 2)])
    assert [event.version for event in parked] == [1, 2]
    assert await memory.logged_events() == parked
    await redriven(memory, await opened(memory, mended))
    assert (await memory.logged("append")).parked == await memory.logged_events() == []


async def test_the_next_owner_of_append_writes_to_the_log_what_only_the_stores_have() -> None:
    memory = InMemoryServers(poisoned)
    append = await opened(memory)
    await take(append, await sent(memory, memory.event("1"), memory.event("2", schema_version=2)))
    discard = Discard("a mistake", "op", memory.clock.now())
    told = [DiscardedEvent(role, "c", 1, "9", discard) for role in ("append", "snapshot")]
    await memory.dead_letters.note_discarded(told)
    memory.log.entries(memory.topics.parked, 0).clear()
    append = await opened(memory)
    await take(append, await sent(memory, memory.event("3", "b", schema_version=2)))
    assert [each.aggregate_id for each in (await memory.logged("append")).parked] == ["a"]
    assert [event.id for event in await memory.logged_events()] == ["1", "2"]
    found = [each for role in ("append", "snapshot") for each in (await memory.logged(role))[1]]
    assert found == told


async def test_a_repeat_of_a_parked_record_places_nothing() -> None:
    memory = InMemoryServers(poisoned)
    append = await opened(memory)
    records = await sent(memory, memory.event("1"))
    await take(append, records)
    await take(await opened(memory, mended), await sent(memory, memory.event("1")))
    assert (stored(memory), await memory.events.parked()) == ([], {"a"})


async def test_a_later_owner_goes_on_with_what_waits_for_the_rest_of_its_redrive() -> None:
    memory = InMemoryServers(poisoned)
    append = await opened(memory)
    behind = [memory.event(str(n), schema_version=2) for n in range(2, 6)]
    await take(append, await sent(memory, memory.event("1"), *behind))
    append = await opened(memory, mended)
    [parked] = await memory.dead_letters.parked_in("append", 0)
    await memory.dead_letters.request(parked, None)
    await append.tick()
    await take(append, memory.records(memory.topics.events)[5:6])
    assert stored(memory) == [("a", "1", 1)]
    await redriven(memory, await opened(memory, mended))
    assert stored(memory) == [("a", str(n), n) for n in range(1, 6)]


async def test_an_unread_event_that_follows_another_one_is_superseded() -> None:
    memory = InMemoryServers(marker_tally)
    append = await opened(memory)
    lost = memory.event("1", prev="of a lost marker", type="Packed", data={"n": "1"})
    report = await take(append, await sent(memory, lost, memory.event("2", prev="")))
    assert (report.superseded, stored(memory)) == (1, [("a", "2", 1)])


async def test_an_unread_event_that_is_stored_already_is_a_repeat() -> None:
    memory = InMemoryServers(marker_tally)
    packed = memory.event("1", prev="", type="Packed", data={"n": "1", "box": "small"})
    await take(await opened(memory, newer_tally), await sent(memory, packed))
    report = await take(await opened(memory), await sent(memory, packed))
    assert (report.repeated, len(stored(memory))) == (1, 1)


@pytest.mark.parametrize(
    ("domain", "named"),
    [(tally, {"data": {"n": 7}}), (marker_tally, {"type": "Packed", "domain": "others"})],
)
async def test_where_no_command_made_it_an_unread_event_is_a_dead_letter(
    domain: Domain[Tally], named: dict[str, Any]
) -> None:
    memory = InMemoryServers(domain)
    append = await opened(memory)
    unread = memory.event("1", prev="", **named)
    report = await take(append, await sent(memory, unread, memory.event("2", prev="")))
    assert (report.dead_letters, stored(memory)) == (1, [("a", "2", 1)])
