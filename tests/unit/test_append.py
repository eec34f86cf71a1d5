"""What append does to one chunk."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from eventfleet.model.domain import Domain
from eventfleet.roles.append import AppendRole
from eventfleet.roles.role import PoisonEvent
from eventfleet.stores.contracts import AssignPosition
from eventfleet.stores.errors import Duplicate, Misconfigured, ServerUnavailable
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.parked_aggregates import NoParkedAggregates
from eventfleet.topics.codec import encode
from eventfleet.topics.dead_letters import REASON
from eventfleet.topics.event import EventRecord, Position
from eventfleet.topics.record import LogRecord
from tests.simulation.in_memory_servers import START, Twins, take
from tests.simulation.recording_domain import (
    Counted,
    Tally,
    evolve,
    marker_tally,
    sync_tally,
    tally,
)


@pytest.fixture
def twins() -> Twins:
    return Twins(tally)


def an_append(twins: Twins, domain: Domain[Tally] | None = None, cached: int = 100) -> AppendRole:
    return AppendRole(
        *(domain or twins.domain, 0, twins.events, twins.writer("append")),
        *(NoParkedAggregates(), twins.clock),
        cached=cached,
    )


async def opened(
    twins: Twins, domain: Domain[Tally] | None = None, cached: int = 100
) -> AppendRole:
    append = an_append(twins, domain, cached)
    await append.open()
    return append


async def sent(twins: Twins, *events: EventRecord) -> list[LogRecord]:
    """These events' records in the log."""
    await twins.emit(twins.topics.events, *events)
    return twins.records(twins.topics.events)[-len(events) :]


def stored(twins: Twins) -> list[tuple[str, str, int]]:
    """Aggregate, event and version of what was emitted."""
    return [(e.aggregate_id, e.id, e.version) for e in twins.seen(twins.topics.stored)]


def letters(twins: Twins) -> list[dict[str, str]]:
    return [
        {key: value.decode() for key, value in record.headers}
        for record in twins.records(twins.topics.dead_letters)
    ]


# Versions, positions, what is emitted


async def test_events_get_versions_and_positions_in_the_order_of_the_log(twins: Twins) -> None:
    append = await opened(twins)
    events = twins.event("1"), twins.event("2", "b"), twins.event("3")
    report = await take(append, await sent(twins, *events))
    assert stored(twins) == [("a", "1", 1), ("b", "2", 1), ("a", "3", 2)]
    assert [(e.id, e.position) for e in await twins.history()] == [("1", "0-0-0"), ("3", "0-0-2")]
    assert (report.stored, report.emitted, twins.offset("append")) == (3, 3, 3)


async def test_what_is_emitted_is_what_is_stored(twins: Twins) -> None:
    append = await opened(twins)
    await take(append, await sent(twins, twins.event("1", actor="me")))
    assert twins.seen(twins.topics.stored) == await twins.history()


async def test_versions_go_on_where_a_cache_of_one_has_dropped_the_aggregate(twins: Twins) -> None:
    append = await opened(twins, cached=1)
    for n, key in enumerate("abab"):
        await take(append, await sent(twins, twins.event(str(n), key)))
    assert stored(twins) == [("a", "0", 1), ("b", "1", 1), ("a", "2", 2), ("b", "3", 2)]


# Records that can't be used


async def test_the_rest_of_a_chunk_goes_on_past_an_unreadable_record(twins: Twins) -> None:
    append = await opened(twins)
    bad = ("a", b"{no json")
    good = ("a", encode(twins.event("1"))), ("a", encode(twins.event("2")))
    await twins.put(twins.topics.events, good[0], bad, good[1])
    report = await take(append, twins.records(twins.topics.events))
    assert stored(twins) == [("a", "1", 1), ("a", "2", 2)]
    assert (report.stored, report.dead_letters) == (2, 1)
    [letter] = letters(twins)
    assert letter["eventfleet-source"] == "tally.events/0/1"
    assert (letter["eventfleet-kind"], letter["eventfleet-role"]) == ("unreadable", "append")
    assert letter["eventfleet-reason"].startswith("value: is not JSON")
    assert twins.records(twins.topics.dead_letters)[0].value == bad[1]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"domain": "other"}, "source: is 'other', not 'tally'"),
        ({"type": "Unheard"}, "type: 'Unheard' is not one of Counted"),
        ({"data": {"n": 7}}, "data.n: Expected `str`, got `int`"),
        ({"schema_version": 9}, "schemaversion: is 9, the newest known of Counted is 1"),
    ],
)
async def test_an_event_that_does_not_belong_here(
    twins: Twins, changed: dict[str, Any], reason: str
) -> None:
    append = await opened(twins)
    await take(append, await sent(twins, twins.event("1", **changed), twins.event("2")))
    assert stored(twins) == [("a", "2", 1)]
    assert [letter["eventfleet-reason"] for letter in letters(twins)] == [reason]


async def test_a_key_that_is_not_the_subject(twins: Twins) -> None:
    append = await opened(twins)
    await twins.put(twins.topics.events, ("b", encode(twins.event("1"))))
    await take(append, twins.records(twins.topics.events))
    assert stored(twins) == []
    assert letters(twins)[0]["eventfleet-reason"] == "key: is b'b', not the subject 'a'"


@pytest.mark.parametrize("chunks", [1, 2])
async def test_an_id_that_another_aggregate_has(twins: Twins, chunks: int) -> None:
    append = await opened(twins)
    records = await sent(twins, twins.event("1"), twins.event("1", "b"))
    for chunk in [records] if chunks == 1 else [[record] for record in records]:
        await take(append, chunk)
    assert stored(twins) == [("a", "1", 1)]
    assert letters(twins)[0]["eventfleet-reason"] == "id: is that of an event of 'a'"


async def test_an_event_without_prev_where_events_are_made_by_commands(twins: Twins) -> None:
    append = await opened(twins, marker_tally)
    await take(append, await sent(twins, twins.event("1"), twins.event("2", prev="")))
    assert stored(twins) == [("a", "2", 1)]
    assert letters(twins)[0]["eventfleet-reason"].startswith("prev: is missing")


# Repeats


@pytest.mark.parametrize("named", [{}, {"prev": ""}])
async def test_a_repeat_within_a_chunk_is_dropped(twins: Twins, named: dict[str, str]) -> None:
    append = await opened(twins, marker_tally if named else tally)
    event = twins.event("1", **named)
    report = await take(append, await sent(twins, event, event, event))
    assert stored(twins) == [("a", "1", 1)]
    assert (report.stored, report.repeated) == (1, 2)


async def test_repeats_of_stored_events_emit_nothing(twins: Twins) -> None:
    append = await opened(twins)
    events = [twins.event(str(n), "ab"[n % 2]) for n in range(4)]
    await take(append, await sent(twins, *events))
    report = await take(append, await sent(twins, *events, twins.event("new")))
    assert stored(twins)[4:] == [("a", "new", 3)]
    assert (report.stored, report.repeated, report.emitted) == (1, 4, 1)


async def test_what_a_dead_owner_stored_at_these_offsets_is_emitted(twins: Twins) -> None:
    append = await opened(twins)
    records = await sent(twins, twins.event("1"), twins.event("2"), twins.event("3"))
    done = [replace(twins.event(str(n + 1)), version=n + 1, position=f"0-0-{n}") for n in (0, 1)]
    await twins.events.write(done)
    report = await take(append, records)
    assert stored(twins) == [("a", "1", 1), ("a", "2", 2), ("a", "3", 3)]
    assert (report.stored, report.emitted) == (1, 3)


# Events that follow one another


async def test_an_event_that_does_not_follow_the_latest_is_superseded(twins: Twins) -> None:
    append = await opened(twins, marker_tally)
    first, second = twins.event("1", prev=""), twins.event("2", prev="1")
    late = twins.event("x", prev="1")
    report = await take(append, await sent(twins, first, second, late))
    assert stored(twins) == [("a", "1", 1), ("a", "2", 2)]
    assert report.superseded == 1
    [letter] = letters(twins)
    assert letter["eventfleet-kind"] == "superseded"
    assert letter["eventfleet-reason"] == "prev: is '1', the latest event is '2'"


async def test_a_repeat_whose_prev_is_past_is_no_superseded_event(twins: Twins) -> None:
    append = await opened(twins, marker_tally)
    events = [twins.event("1", prev=""), twins.event("2", prev="1")]
    await take(append, await sent(twins, *events))
    report = await take(append, await sent(twins, *events))
    assert (report.repeated, report.superseded, letters(twins)) == (2, 0, [])


async def test_an_event_decided_again_follows_the_latest_one(twins: Twins) -> None:
    append = await opened(twins, marker_tally)
    again = [twins.event("2", prev=prev) for prev in ("", "1")]
    await take(append, await sent(twins, twins.event("1", prev=""), *again))
    assert stored(twins) == [("a", "1", 1), ("a", "2", 2)]


async def test_what_another_owner_has_stored_is_what_the_next_event_follows(twins: Twins) -> None:
    append = await opened(twins, marker_tally)
    await take(append, await sent(twins, twins.event("1", prev="")))
    others = [twins.event("2", prev="1"), twins.event("3", prev="2")]
    placed = [
        replace(event, version=n, position=f"0-0-{n}") for n, event in enumerate(others, start=2)
    ]
    await twins.events.write(placed)
    following = twins.event("4", prev="3")
    await take(append, await sent(twins, twins.event("2", prev=""), *others, following))
    assert [event.id for event in twins.seen(twins.topics.stored)] == ["1", "2", "3", "4"]
    assert letters(twins) == []


class Overtaken(MemoryEvents):
    """Another owner stores the rest of the chunk between two of our readings."""

    others: Sequence[EventRecord] = ()

    async def find(self, event_ids: Any) -> dict[str, EventRecord]:
        others, self.others = self.others, ()
        await super().write(others)
        return await super().find(event_ids)


async def test_nothing_is_superseded_by_what_another_owner_stored_meanwhile(twins: Twins) -> None:
    twins.events = store = Overtaken()
    first = twins.event("1", prev="")
    await store.write([replace(first, version=1, position="0-0-0")])
    early, second = twins.event("3", prev=""), twins.event("2", prev="1")
    third = replace(early, prev="2")
    store.others = [
        replace(second, version=2, position="0-0-2"),
        replace(third, version=3, position="0-0-3"),
    ]
    append = await opened_at(twins, 0, marker_tally)
    await take(append, await sent(twins, first, early, second, third))
    assert stored(twins) == [("a", "1", 1), ("a", "2", 2), ("a", "3", 3)]
    assert letters(twins) == []


# Synchronous puts


async def put(twins: Twins, *versions: int) -> list[EventRecord]:
    events = [twins.event(f"s{version}", version=version) for version in versions]
    await twins.events.put(events, 0)
    return events


async def test_one_record_places_all_lower_versions_first(twins: Twins) -> None:
    append = await opened(twins, sync_tally)
    first, second = await put(twins, 1, 2)
    await take(append, await sent(twins, second, first))
    assert stored(twins) == [("a", "s1", 1), ("a", "s2", 2)]
    assert {event.position for event in await twins.history()} == {"0-0-0"}


async def test_where_events_are_put_others_are_dead_letters(twins: Twins) -> None:
    append = await opened(twins, sync_tally)
    (first,) = await put(twins, 1)
    forged = twins.event("forged", version=2)
    report = await take(append, await sent(twins, twins.event("1"), first, forged, first))
    assert stored(twins) == [("a", "s1", 1)]
    assert (report.stored, report.dead_letters, report.repeated) == (1, 2, 1)
    reason = "id: is that of no stored event; events of this domain are put by commands"
    assert [letter[REASON] for letter in letters(twins)] == [reason, reason]


async def test_a_dead_owner_s_lower_versions_are_emitted_too(twins: Twins) -> None:
    append = await opened(twins, sync_tally)
    first, second = await put(twins, 1, 2)
    await twins.events.write(
        [AssignPosition(first, Position(0, 0, 0)), AssignPosition(second, Position(0, 0, 0))]
    )
    report = await take(append, await sent(twins, second))
    assert stored(twins) == [("a", "s1", 1), ("a", "s2", 2)]
    assert (report.stored, report.emitted) == (0, 2)


async def test_a_repeat_does_not_place_what_was_put_after_it(twins: Twins) -> None:
    await twins.events.write([twins.event("1", version=1, position="0-0-0")])
    await twins.events.write([twins.event("2", version=2, position="0-0-1")])
    third, fourth = await put(twins, 3, 4)
    append = await opened_at(twins, 0, sync_tally)
    await take(append, await sent(twins, twins.event("1"), twins.event("2"), fourth))
    placed = {event.id: event.position for event in await twins.history()}
    assert placed == {"1": "0-0-0", "2": "0-0-1", third.id: "0-0-2", fourth.id: "0-0-2"}


async def opened_at(twins: Twins, offset: int, domain: Domain[Tally] | None = None) -> AppendRole:
    """The successor of an owner that has committed this offset."""
    writer = twins.writer("append")
    twins.log.offsets[writer.source] = offset
    return await opened(twins, domain)


# Faults


class RefusingEvents(MemoryEvents):
    """Refuses the writes of which `refusals` has some left."""

    refusals = 0

    async def write(self, writes: Any) -> None:
        if self.refusals:
            self.refusals -= 1
            raise ServerUnavailable("refused")
        await super().write(writes)


async def test_versions_have_no_gap_after_a_refused_write(twins: Twins) -> None:
    twins.events = store = RefusingEvents()
    append = await opened(twins)
    await take(append, await sent(twins, twins.event("0")))
    store.refusals = 1
    records = await sent(twins, twins.event("1"))
    with pytest.raises(ServerUnavailable):
        await take(append, records)
    assert (stored(twins), twins.offset("append")) == ([("a", "0", 1)], 1)
    assert await append.open() == 1
    await take(append, records)
    assert stored(twins) == [("a", "0", 1), ("a", "1", 2)]


class Repeating(MemoryEvents):
    """Does a write again whose first answer was lost."""

    async def write(self, writes: Any) -> None:
        await super().write(writes)
        await super().write(writes)


async def test_a_write_that_clashes_with_itself_is_done_and_emitted_once(twins: Twins) -> None:
    twins.events = Repeating()
    append = await opened(twins)
    await take(append, await sent(twins, twins.event("1"), twins.event("2", "b")))
    await take(append, await sent(twins, twins.event("3")))
    assert stored(twins) == [("a", "1", 1), ("b", "2", 1), ("a", "3", 2)]
    assert await twins.events.count() == 3


class Clashing(MemoryEvents):
    """Reports a clash that nothing which can be read explains."""

    async def write(self, writes: Any) -> None:
        raise Duplicate(0, "a", 1, "version")


async def test_a_clash_that_nothing_explains_ends(twins: Twins) -> None:
    twins.events = Clashing()
    append = await opened(twins)
    with pytest.raises(ServerUnavailable, match="nothing that was read explains it"):
        await take(append, await sent(twins, twins.event("1")))
    assert timedelta() < twins.clock.now() - START < timedelta(minutes=1)


class Occupied(MemoryEvents):
    """As a real store does, refuses to place an event where another one of its version is."""

    async def write(self, writes: Any) -> None:
        for index, write in enumerate(writes):
            at = write.position if isinstance(write, AssignPosition) else None
            if at and [e for e in await self.placed_at([at]) if e.version == write.event.version]:
                raise Duplicate(index, "a", write.event.version, "position")
        await super().write(writes)


@pytest.mark.parametrize("fresh", [True, False])
async def test_placing_where_another_event_is(twins: Twins, fresh: bool) -> None:
    twins.events = Occupied()
    append = await opened(twins, sync_tally)
    if not fresh:
        other = twins.event("0", "z", version=1)
        await twins.events.put([other], 0)
        await take(append, await sent(twins, other))
    held = f"0-0-{int(not fresh)}"
    await twins.events.write([twins.event("old", "b", version=1, position=held)])
    with pytest.raises(Misconfigured, match=f"position {held} of event s1 is held by event old"):
        await take(append, await sent(twins, *await put(twins, 1)))


@pytest.mark.parametrize("holder", [("b", 1), ("b", 7), ("a", 1)])
async def test_a_log_that_was_made_anew_in_the_same_epoch(
    twins: Twins, holder: tuple[str, int]
) -> None:
    key, version = holder
    await twins.events.write([twins.event("old", key, version=version, position="0-0-0")])
    append = await opened_at(twins, 0)
    with pytest.raises(Misconfigured, match=r"is held by event old.*raise the epoch"):
        await take(append, await sent(twins, twins.event("new")))
    assert await twins.events.count() == 1
    await twins.events.raise_epoch()
    append = await opened_at(twins, 0)
    await take(append, twins.records(twins.topics.events))
    assert [e.position for e in (await twins.events.find(["new"])).values()] == ["1-0-0"]


async def test_a_group_without_an_offset_though_events_are_stored(twins: Twins) -> None:
    await twins.events.write([twins.event("1", version=1, position="0-0-5")])
    with pytest.raises(Misconfigured, match="the consumer group has no offset"):
        await an_append(twins).open()
    assert twins.offset("append") is None


async def test_a_death_in_a_group_s_first_chunk_leaves_an_offset(twins: Twins) -> None:
    await opened(twins)
    await twins.events.write([twins.event("1", version=1, position="0-0-0")])
    assert await an_append(twins).open() == 0


async def test_a_slow_owner_does_not_take_its_successor_s_events_for_a_lost_offset(
    twins: Twins,
) -> None:
    successor = await opened(twins)
    await take(successor, await sent(twins, twins.event("1")))
    assert await an_append(twins).open() == 1


# Poison


def failing(data: dict[str, Any]) -> dict[str, Any]:
    raise KeyError("n")


async def test_an_upcaster_that_raises_stops_append(twins: Twins) -> None:
    poisoned: Domain[Tally] = Domain(
        "tally", state=Tally, evolve=evolve, events=[Counted], upcasters={Counted: [failing]}
    )
    twins = Twins(poisoned)
    append = await opened(twins)
    records = await sent(twins, twins.event("0", schema_version=2), twins.event("1", "b"))
    with pytest.raises(
        PoisonEvent, match=r"append .* tally 'b' version 0 at offset 1: KeyError: 'n'"
    ):
        await take(append, records)
    assert (await twins.events.count(), stored(twins), twins.offset("append")) == (0, [], 0)
