"""What the audit finds, by name; what it counts as explained, and as not judged."""

from collections.abc import AsyncIterator
from dataclasses import replace as with_changes
from typing import Any

import pytest
from msgspec.structs import replace

from eventfleet.audit import Auditor, AuditReport
from eventfleet.audit.auditor import NO_MARKERS
from eventfleet.audit.judge import (
    COPIES_NOT_KEPT,
    NOT_APPENDED,
    NOT_PLACED,
    NOT_RELAYED,
    ON_ITS_WAY,
    OTHER_SHAPE,
    PARKED,
    PARKED_BY_APPEND,
)
from eventfleet.audit.report import MAX_LISTED
from eventfleet.model.declaration import Route
from eventfleet.model.payloads import State
from eventfleet.model.views import ProjectedEvent
from eventfleet.stores.contracts import DomainStores, Markers, OffsetRange
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import MemoryReader
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.topics.dead_letters import make_dead_letter
from eventfleet.topics.event import EventRecord
from eventfleet.topics.parked import Discard
from tests.simulation.recording_domain import ALL, Counted, Tally, marker_tally, sync_tally, tally
from tests.unit.audit_fixture import AuditFixture, faults, kinds
from tests.unit.marker_fixture import MarkerFixture


@pytest.fixture
async def fleet() -> AuditFixture:
    """Five events of `a` and one of `b` have gone all the way."""
    fleet = AuditFixture()
    await fleet.produce("1", "2", "3", "4", "5")
    await fleet.produce("6", aggregate_id="b")
    await fleet.work()
    return fleet


async def test_what_nobody_has_broken_is_clean(fleet: AuditFixture) -> None:
    report = await fleet.audit()
    assert (report.clean, report.unjudged, report.explained) == (True, {}, [])
    assert (report.stored, report.aggregates, report.snapshots, report.relayed) == (6, 2, 1, 6)


# Ten things, broken on purpose


async def test_a_deleted_event(fleet: AuditFixture) -> None:
    fleet.remove(await fleet.event(5))
    report = await fleet.audit()
    assert (1, "a", "event 5 at offset 4 of tally.events is not stored") in faults(report)
    assert {violation.aggregate_id for violation in report.violations} == {"a"}


class DoubledVersion(MemoryEvents):
    """A store whose unique index somebody has dropped."""

    twin: EventRecord

    async def read(self, aggregate_id: str, *args: Any, **named: Any) -> AsyncIterator[EventRecord]:
        async for event in super().read(aggregate_id, *args, **named):
            yield event
            if (event.aggregate_id, event.version) == (self.twin.aggregate_id, self.twin.version):
                yield self.twin

    async def read_all(self, *args: Any, **named: Any) -> None:
        return None


async def test_a_doubled_version(fleet: AuditFixture) -> None:
    twin = replace(await fleet.event(3), id="twin")
    store: Any = fleet.memory.events
    store.__class__ = DoubledVersion
    store.twin = twin
    report = await fleet.audit()
    assert (2, "a", "version 3 is stored twice: events 3 and twin") in faults(report)


async def test_a_gap(fleet: AuditFixture) -> None:
    fleet.remove(await fleet.event(3))
    report = await fleet.audit()
    assert (2, "a", "version 3 is missing, 4 follows") in faults(report)


async def test_an_altered_payload(fleet: AuditFixture) -> None:
    fleet.alter(await fleet.event(5), data={"n": "500"})
    report = await fleet.audit()
    assert set(faults(report)) >= {
        (1, "a", "stored version 5 differs from the event at offset 4"),
        (4, "a", f"version 5 (event 5) in {ALL} differs from the stored event"),
        (4, "a", "version 5 (event 5) in tally.stored differs from the stored event"),
    }


async def test_an_altered_snapshot(fleet: AuditFixture) -> None:
    await fleet.save(5, {"trail": ["1", "2", "3"]})
    report = await fleet.audit()
    [(invariant, aggregate_id, fault)] = faults(report)
    assert (invariant, aggregate_id) == (3, "a")
    assert fault.startswith("the snapshot of version 5 is not the fold of its events")


@pytest.mark.parametrize("topic", ["tally.stored", ALL])
async def test_a_missing_downstream_record(fleet: AuditFixture, topic: str) -> None:
    fleet.lose(topic, 2)
    report = await fleet.audit()
    assert faults(report)[0] == (4, "a", f"version 3 (event 3) is missing from {topic}")


@pytest.mark.parametrize("topic", ["tally.stored", ALL])
async def test_a_doubled_downstream_record(fleet: AuditFixture, topic: str) -> None:
    fleet.again(topic, 2)
    assert faults(await fleet.audit()) == [(4, "a", f"version 3 (event 3) is 2 times in {topic}")]
    assert (await fleet.audit(exactly_once=False)).clean


class Shop:
    """Orders that commands have made; append has stored what was sent."""

    def __init__(self) -> None:
        self.desk = MarkerFixture()

    async def send(self, *commands: str) -> None:
        await self.desk.grow_old()
        for command in commands:
            await self.desk.send(command)
        await self.desk.append()

    def alter_marker(self, **fields: Any) -> None:
        markers = self.desk.redis.data.markers
        markers["orders", "a"] = with_changes(markers["orders", "a"], **fields)

    async def audit(self, markers: bool = True) -> AuditReport:
        memory = self.desk.memory
        opened: Markers | None = self.desk.markers if markers else None  # type: ignore[assignment]
        return await Auditor(
            self.desk.domain,
            memory.stores,
            MemoryReader(memory.log),
            group_prefix="unit",
            exactly_once=True,
            markers=opened,
        ).run()


@pytest.mark.parametrize(
    ("false", "fault"),
    [
        ({"last_event_id": "first"}, "version 1, but version 2 is stored"),
        ({"last_event_id": "gone"}, "event gone, which is neither stored nor on its way"),
        ({"last_event_id": ""}, "the marker names no event, but version 2 is stored"),
        ({"type": "Packed"}, "as Packed, which is stored as Paid"),
    ],
)
async def test_a_false_marker(false: dict[str, str], fault: str) -> None:
    shop = Shop()
    await shop.send("Place", "Pay")
    assert (await shop.audit()).clean
    first, _ = shop.desk.produced()
    shop.alter_marker(**{k: first.id if v == "first" else v for k, v in false.items()})
    [(invariant, aggregate_id, found)] = faults(await shop.audit())
    assert (invariant, aggregate_id) == (5, "a")
    assert fault in found


@pytest.mark.parametrize("before", [(), ("Place",)], ids=["the first event", "a later one"])
async def test_a_marker_is_not_false_while_the_note_of_a_stored_event_stands(
    before: tuple[str, ...],
) -> None:
    shop = Shop()
    await shop.send(*before)
    shop.desk.producer.after["produce"] = 1
    await shop.send("Pay" if before else "Place")
    version = len(before) + 1
    heads = await shop.desk.memory.events.heads(["a"])
    assert heads["a"].version == version
    assert (await shop.desk.markers.read(["a"]))["a"].noted
    assert faults(await shop.audit()) == []


async def test_a_marker_is_not_false_while_its_event_is_on_its_way() -> None:
    shop = Shop()
    await shop.send("Place")
    shop.desk.producer.before["produce"] = 1
    await shop.desk.send("Pay")
    assert (await shop.audit()).clean  # noted, and not produced
    shop.desk.appends = False
    await shop.desk.send("Pay")
    report = await shop.audit()
    assert (report.clean, report.unjudged[NOT_APPENDED]) == (True, 1)


async def test_an_accepted_command_without_its_event(fleet: AuditFixture) -> None:
    await fleet.reply("c1", "1")
    await fleet.reply("c9", "9")
    fault = "command c9 was accepted, its event 9 is not stored"
    assert faults(await fleet.audit()) == [(1, "a", fault)]


async def test_an_unreadable_event(fleet: AuditFixture) -> None:
    fleet.alter(await fleet.event(1, "b"), data={})
    report = await fleet.audit()
    assert not report.clean
    detail = "version 1 (event 6) can't be read: data.n: is missing"
    assert [tuple(problem) for problem in report.problems] == [("event", "b", detail)]


# What a team's functions raise


def evolve_raising(state: Tally, event: Counted) -> Tally:
    raise ZeroDivisionError(f"at {event.n}")


def upcast_raising(data: dict[str, Any]) -> dict[str, Any]:
    return {"n": data["missing"]}


def when_raising(event: ProjectedEvent) -> bool:
    return bool(event.data.missing)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"evolve": evolve_raising}, ("event", "can't be folded: ZeroDivisionError: at 1")),
        ({"upcasters": {Counted: [upcast_raising]}}, ("event", "can't be upcast: KeyError")),
        ({"events": [], "upcasters": {}, "routes": [Route(ALL)]}, None),
        ({"routes": [Route(ALL, when=when_raising)]}, ("route", f"{ALL} raised AttributeError")),
    ],
)
async def test_what_a_team_raises_is_named_with_its_line_and_the_audit_goes_on(
    fleet: AuditFixture, change: dict[str, Any], problem: tuple[str, str] | None
) -> None:
    if problem is None:
        change = {"evolve": lambda state, payload: payload.nothing, **change}
        problem = "event", "can't be folded: AttributeError"
    fleet.change(**change)
    fleet.lose(ALL, 5)
    report = await fleet.audit()
    assert {found.kind for found in report.problems} == {problem[0]}
    assert {found.subject for found in report.problems} == {"a", "b"}
    first = report.problems[0].detail
    assert problem[1] in first
    assert f"{__file__}:" in first
    assert report.aggregates == 2


class MuteError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


def mute(*_: Any) -> Any:
    raise MuteError


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"evolve": mute}, "can't be folded"),
        ({"upcasters": {Counted: [mute]}}, "can't be upcast"),
        ({"routes": [Route(ALL, when=mute)]}, f"the route to {ALL} raised"),
    ],
)
async def test_an_exception_without_a_text_does_not_end_the_audit(
    fleet: AuditFixture, change: dict[str, Any], fault: str
) -> None:
    fleet.change(**change)
    report = await fleet.audit()
    assert (report.aggregates, report.clean) == (2, False)
    assert f"{fault}" in report.problems[0].detail
    assert "MuteError, whose text raises ValueError" in report.problems[0].detail


async def test_a_fold_that_a_snapshot_of_this_state_version_contradicts(
    fleet: AuditFixture,
) -> None:
    fleet.change(evolve=lambda state, event: Tally(trail=("other",)))
    report = await fleet.audit()
    assert {violation.invariant for violation in report.violations} == {3}
    assert "raise `state_version`" in report.violations[-1].fault
    fleet.change(state_version=2)
    report = await fleet.audit()
    assert (report.clean, report.unjudged) == (True, {OTHER_SHAPE: 1})


class RenamedTally(State):
    path: tuple[str, ...] = ()


async def test_a_snapshot_of_another_shape_is_counted_and_not_judged(fleet: AuditFixture) -> None:
    fleet.change(state=RenamedTally, evolve=lambda state, event: state)
    report = await fleet.audit()
    assert (report.clean, report.unjudged) == (True, {OTHER_SHAPE: 1})


# Topics and dead letters


async def test_missing_topics_are_named(fleet: AuditFixture) -> None:
    for topic in (ALL, "tally.replies"):
        del fleet.log.specs[topic]
    report = await fleet.audit()
    assert kinds(report.problems) == [("topic", ALL), ("topic", "tally.replies")]
    assert (report.violations, report.clean) == ([], False)


async def test_dead_letters_are_named(fleet: AuditFixture) -> None:
    await fleet.memory.put(fleet.topics.events, ("a", b"no event"))
    await fleet.work()
    report = await fleet.audit()
    [problem] = report.problems
    assert (problem.kind, problem.subject) == ("dead-letter", "a")
    assert problem.detail.startswith("append refused tally.events/0/6: value: is not JSON")
    assert (report.violations, report.dead_letters) == ([], 1)


async def test_a_dead_letter_that_is_stored_by_now_is_information() -> None:
    fleet = AuditFixture()
    await fleet.produce("1")
    await fleet.refuse(0, "unreadable", "type: 'Counted' is not declared")
    assert kinds((await fleet.audit()).problems) == [("dead-letter", "a")]
    await fleet.produce("1")
    await fleet.work()
    report = await fleet.audit()
    assert (report.clean, kinds(report.information)) == (True, [("dead-letter", "a")])


async def test_what_other_roles_refused_is_named(fleet: AuditFixture) -> None:
    """A command that nobody can read is its sender's fault; a stored event is the fleet's."""
    await fleet.memory.put(fleet.topics.commands, ("a", b"no command"))
    [command] = fleet.memory.records(fleet.topics.commands)
    stored = fleet.memory.records(fleet.topics.stored)[0]
    for role, record in (("command", command), ("relay", stored)):
        fleet.log.append(make_dead_letter("tally.dead-letters", role, record, "unreadable", "why"))
    report = await fleet.audit()
    problem = ("dead-letter", "a", "relay refused tally.stored/0/0: why")
    assert [tuple(found) for found in report.problems] == [problem]
    information = ("refused-command", "a", "command refused tally.commands/0/0: why")
    assert [tuple(found) for found in report.information] == [information]


async def test_what_is_in_the_wrong_topic_is_named(fleet: AuditFixture) -> None:
    for topic in (fleet.topics.replies, fleet.topics.stored, fleet.topics.snapshots):
        await fleet.memory.put(topic, ("a", b"nothing of ours"))
    await fleet.memory.put(ALL, ("a", b"another's"))
    report = await fleet.audit()
    assert [found.kind for found in report.problems] == ["reply"]
    stored, snapshot = (fault for _, _, fault in reversed(faults(report)))
    assert stored.endswith("of tally.stored is not a stored event")
    assert "of tally.snapshots is not a snapshot" in snapshot


async def test_a_record_that_append_dropped_without_a_word_is_a_violation(
    fleet: AuditFixture,
) -> None:
    await fleet.memory.put(fleet.topics.events, ("a", b"no event"))
    await fleet.work()
    dead_letters = fleet.log.entries(fleet.topics.dead_letters, 0)
    fleet.lose(fleet.topics.dead_letters, next(i for i, e in enumerate(dead_letters) if e.record))
    fault = "offset 6 of tally.events is not an event and has no dead letter"
    assert faults(await fleet.audit()) == [(1, "a", fault)]


# Accepted events


async def test_an_event_of_a_command_that_append_could_not_read() -> None:
    """An older declaration of append takes every later event of the aggregate along."""
    fleet = AuditFixture(marker_tally)
    await fleet.produce("1", prev="")
    await fleet.work()
    await fleet.produce("2", prev="1", data={"newer": 1})
    await fleet.refuse(1, "unreadable", "data.newer: is not a known field")
    await fleet.produce("3", prev="2")
    await fleet.refuse(2, "superseded", "prev: is '2', the latest event is '1'")
    report = await fleet.audit()
    assert [fault for _, _, fault in faults(report)] == [
        "event 2, made by a command, is a dead letter: append refused tally.events/0/1:"
        " data.newer: is not a known field",
        "event 3 at offset 2 of tally.events is superseded, but its prev, event 2, is not stored",
    ]


async def test_a_superseded_event_whose_prev_is_stored_is_information() -> None:
    fleet = AuditFixture(marker_tally)
    await fleet.produce("1", prev="")
    await fleet.produce("2", prev="1")
    await fleet.produce("3", "3", prev="1")  # the second has no dead letter of its own
    await fleet.work()
    report = await fleet.audit()
    assert (report.clean, report.superseded) == (True, 1)
    assert kinds(report.information) == [("superseded", "a")]
    await fleet.reply("c3", "3")
    fault = "command c3 was accepted, its event 3 is not stored (superseded)"
    assert faults(await fleet.audit()) == [(1, "a", fault)]


# What is not judged


async def test_what_no_role_has_done_yet_is_counted_as_not_judged(fleet: AuditFixture) -> None:
    await fleet.produce("7")
    await fleet.work("append")
    await fleet.produce("8", "9")
    await fleet.reply("c8", "8")
    report = await fleet.audit()
    assert report.clean
    assert report.unjudged == {NOT_RELAYED: 1, NOT_APPENDED: 2, ON_ITS_WAY: 1}


async def test_stored_events_that_no_append_has_placed_are_counted() -> None:
    fleet = AuditFixture(sync_tally)
    events = [fleet.memory.event(str(n), version=n) for n in range(1, 9)]
    await fleet.memory.events.put(events, 0)
    report = await fleet.audit()
    assert (report.clean, report.unjudged) == (True, {NOT_PLACED: 8})


async def test_events_placed_along_with_a_later_one_are_in_its_place() -> None:
    fleet = AuditFixture(sync_tally)
    events = [fleet.memory.event(str(n), version=n) for n in (1, 2, 3)]
    await fleet.memory.events.put(events, 0)
    await fleet.memory.emit(fleet.topics.events, events[2])
    await fleet.work()
    report = await fleet.audit()
    assert (report.clean, report.unjudged, report.relayed) == (True, {}, 3)


async def test_markers_that_are_not_there_are_counted() -> None:
    shop = Shop()
    await shop.send("Place")
    assert (await shop.audit(markers=False)).unjudged[NO_MARKERS] == 1


# What operators have done


@pytest.mark.parametrize("known", [True, False])
async def test_what_a_rewind_explains_is_no_violation(known: bool) -> None:
    """Append worked beside a wrong store, in which the aggregate had an event, and was rewound."""
    fleet = AuditFixture()
    await fleet.produce("1", "2", "3", "4", "5")
    right, memory = fleet.memory.events, fleet.memory
    memory.events = MemoryEvents()
    await memory.events.put([memory.event("0", version=1, position="0-0-9")], 0)
    memory.stores = DomainStores(memory.events, memory.snapshots)
    await fleet.work()
    memory.events, memory.snapshots = right, MemorySnapshots()
    memory.stores = DomainStores(right, memory.snapshots)
    await right.registry.rewind([OffsetRange(0, 0, 5)], memory.clock.now())
    fleet.log.offsets["unit.tally.append", fleet.topics.events, 0] = 0
    await fleet.work("append", "relay")
    if not known:
        right.registry._state.repairs.clear()
    report = await fleet.audit()
    assert report.clean == known
    if known:
        assert {(found.kind, found.subject) for found in report.explained} == {("rewind", "a")}
        topics = ("tally.stored", ALL, "tally.snapshots")
        assert all(any(topic in found.detail for found in report.explained) for topic in topics)
        assert report.explained[0].detail.endswith(
            ": explained by the rewind of partition 0, offsets 0 to 5, at 2025-01-01 00:00:00 UTC"
        )
        fleet.again("tally.stored", len(fleet.log.entries("tally.stored", 0)) - 2)
        assert len((await fleet.audit()).violations) == 1


# How much is kept


async def test_only_so_many_findings_are_listed_and_all_are_counted() -> None:
    fleet = AuditFixture()
    for number in range(MAX_LISTED + 5):
        await fleet.reply(f"c{number}", f"e{number}")
    report = await fleet.audit()
    assert (len(report.violations), report.counts["violations"]) == (MAX_LISTED, MAX_LISTED + 5)


async def test_an_aggregate_of_very_many_events_is_judged_in_parts(
    fleet: AuditFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventfleet.audit.auditor.MAX_BUCKET_ROWS", 3)
    assert (await fleet.audit()).clean
    fleet.again(ALL, 2)
    fleet.lose(ALL, 2)
    assert faults(await fleet.audit()) == [(4, "a", f"version 3 is out of order in {ALL}")]


async def test_a_store_that_the_group_did_not_fill_is_named(fleet: AuditFixture) -> None:
    fleet.memory.stores = DomainStores(MemoryEvents(), MemorySnapshots())
    report = await fleet.audit()
    assert ("store", "tally.events") in kinds(report.problems)
    assert "append took partition 0 up to offset 6, but this store only up to 0" in str(report)


class UnreadableDocument(MemoryEvents):
    """A store of which version 2 of aggregate `a` has lost a field."""

    async def read(self, aggregate_id: str, *args: Any, **named: Any) -> AsyncIterator[EventRecord]:
        async for event in super().read(aggregate_id, *args, **named):
            if (event.aggregate_id, event.version) == ("a", 2):
                raise KeyError("data")
            yield event

    async def read_all(self, *args: Any, **named: Any) -> None:
        raise KeyError("data")


async def test_an_event_that_the_store_cannot_read_is_named_and_the_audit_goes_on(
    fleet: AuditFixture,
) -> None:
    store: Any = fleet.memory.events
    store.__class__ = UnreadableDocument
    report = await fleet.audit()
    [problem] = report.problems
    assert (problem.kind, problem.subject) == ("event", "a")
    assert problem.detail.startswith("version 2 can't be read from the store: KeyError: 'data' (")
    assert report.aggregates == 2
    assert {"event 2" in fault or "(event 2)" in fault for _, _, fault in faults(report)} == {True}


# What relay parks


async def a_parking_fleet() -> AuditFixture:
    """A fleet whose route raises on the second of three events."""

    def wants(event: EventRecord) -> bool:
        if event.id == "2":
            raise LookupError("nowhere")
        return True

    fleet = AuditFixture(with_changes(tally, routes=[Route(ALL, when=wants)]))
    await fleet.produce("1", "2", "3")
    await fleet.work()
    return fleet


async def test_what_relay_parks_is_not_missing_from_its_routes() -> None:
    fleet = await a_parking_fleet()
    report = await fleet.audit()
    assert report.violations == []
    found = [each.detail for each in report.problems if each.kind == "parked"]
    assert found == ["relay parks it at version 2: LookupError: nowhere"]
    fleet.domain = with_changes(fleet.domain, routes=[Route(ALL)])
    report = await fleet.audit()
    assert (kinds(report.problems), report.violations) == ([("parked", "a")], [])
    assert report.unjudged[PARKED] == 2
    assert kinds(report.information) == [("parked", "a")]


async def test_what_relay_passes_over_is_information() -> None:
    fleet = await a_parking_fleet()
    letters = fleet.memory.dead_letters
    [parked] = await letters.parked_in("relay", 0)
    assert await letters.request(parked, Discard("a mistake", "ann", fleet.memory.clock.now()))
    await fleet.tick("relay")
    fleet.domain = with_changes(fleet.domain, routes=[Route(ALL)])
    report = await fleet.audit()
    assert report.violations == []
    [told] = [each for each in report.information if each.kind == "discarded"]
    assert "relay passes over version 2 (event 2)" in told.detail


async def test_a_redriven_record_says_nothing_of_how_far_its_topic_reaches_back() -> None:
    fleet = await a_parking_fleet()
    await fleet.produce("4", "5", "6", aggregate_id="b")
    await fleet.work()
    letters = fleet.memory.dead_letters
    [parked] = await letters.parked_in("relay", 0)
    fleet.domain = with_changes(fleet.domain, routes=[Route(ALL)])
    assert await letters.request(parked, None)
    await fleet.tick("relay")
    await fleet.produce("7", "8", aggregate_id="b")
    await fleet.work()
    records = fleet.memory.records(ALL)
    assert [event.id for event in fleet.memory.seen(ALL)] == [*"1456237" + "8"]

    # Retention leaves the redriven ones and what came after them.
    redriven, *_, newest = records[4:]
    fleet.log.oldest[ALL, 0] = redriven.offset
    report = await fleet.audit()
    assert (report.violations, report.unjudged[COPIES_NOT_KEPT]) == ([], 4)

    # What came after them in order is missed, as ever.
    fleet.lose(ALL, newest.offset)
    assert faults(await fleet.audit()) == [(4, "b", f"version 5 (event 8) is missing from {ALL}")]


async def test_what_append_parks_is_told_until_it_is_placed_or_discarded() -> None:
    def lift(data: dict[str, Any]) -> dict[str, Any]:
        raise LookupError("no such n")

    poisoned = with_changes(marker_tally, upcasters={Counted: [lift]})
    fleet = AuditFixture(poisoned)
    await fleet.produce("1", prev="", schema_version=2)
    await fleet.produce("2", prev="1")
    await fleet.produce("3", prev="2", schema_version=2)
    await fleet.work()
    report = await fleet.audit()
    assert report.violations == []
    told = [each.detail for each in report.problems if each.kind == "parked"]
    assert told == ["append parks it at version 2: LookupError: no such n"]
    assert report.unjudged[PARKED_BY_APPEND] == 2

    [parked] = await fleet.memory.dead_letters.parked_in("append", 0)
    discard = Discard("a mistake", "ann", fleet.memory.clock.now())
    assert await fleet.memory.dead_letters.request(parked, discard)
    await fleet.tick("append")
    await fleet.work()
    report = await fleet.audit()
    assert (report.violations, kinds(report.problems)) == ([], [])
    assert [(e.id, e.version) for e in await fleet.memory.history()] == [
        ("1", 1),
        ("2", 2),
        ("3", 3),
    ]
