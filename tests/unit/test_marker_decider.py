"""What becomes of commands on the marker, case by case."""

from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from msgspec.structs import replace

from eventfleet.deciders.append_watch import NoWatch
from eventfleet.deciders.outcomes import (
    Accepted,
    Failed,
    IdReused,
    Outcome,
    Rejected,
    Repeated,
    Unavailable,
)
from eventfleet.deciders.proposed_event import ProposedEvent
from eventfleet.stores.contracts import MarkStatus
from eventfleet.stores.retry import MARKER
from eventfleet.topics.codec import encode
from eventfleet.topics.event import event_id
from eventfleet.topics.parked import WAITING
from tests.simulation.commands import items
from tests.simulation.scheduler import drive
from tests.unit.marker_fixture import TERMS, MarkerFixture

EVENTS = "orders.events/0"
APPEND_IS_BEHIND = Unavailable(
    f"append has not caught up with {EVENTS}: is an append worker running?"
)


def event_of(name: str, aggregate_id: str = "a") -> str:
    return event_id("orders", aggregate_id, f"{name}-{aggregate_id}")


@pytest.fixture
async def desk() -> MarkerFixture:
    desk = MarkerFixture()
    await desk.grow_old()
    return desk


# The rule


async def test_an_accepted_commands_event_is_in_the_log_and_says_which_it_follows(
    desk: MarkerFixture,
) -> None:
    assert await desk.send("Place") == Accepted(event_of("Place"), EVENTS)
    assert await desk.send("Pay") == Accepted(event_of("Pay"), EVENTS)
    placed, paid = desk.produced()
    assert (placed.id, placed.prev) == (event_of("Place"), "")
    assert (paid.id, paid.type, paid.prev) == (event_of("Pay"), "Paid", placed.id)
    assert (paid.data, paid.causation_id) == ({"amount": 1999}, "Pay-a")
    record = desk.memory.records("orders.events")[1]
    assert (record.key, record.partition) == (b"a", 0)
    assert dict(record.headers) == {"content-type": b"application/cloudevents+json"}


async def test_a_forbidden_command_is_rejected_with_the_rule_and_leaves_nothing(
    desk: MarkerFixture,
) -> None:
    await desk.send("Place")
    outcome = await desk.send("Pack")
    assert outcome == Rejected("Packed may follow Paid, not Placed", "Placed")
    assert await desk.send("Place", "again") == Rejected(
        "Placed may follow no event, not Placed", "Placed"
    )
    assert desk.types() == ["Placed"]


async def test_the_results_of_marking_are_counted(desk: MarkerFixture) -> None:
    await desk.send("Place")
    await desk.send("Pack")
    results = desk.marking.statistics.results
    counted = {status: count for status, count in results.items() if count}
    # The first marker of an aggregate is made of what the store has: hence the one missing.
    assert counted == {MarkStatus.MISSING: 1, MarkStatus.OK: 1, MarkStatus.REJECTED: 1}
    assert {*results} == {*MarkStatus}


async def test_the_next_command_may_be_sent_in_the_moment_of_the_answer(
    desk: MarkerFixture,
) -> None:
    """It is marked at once: it has seen a time after that when the aggregate's marker was made."""
    outcomes: list[Outcome] = []
    deadline = desk.memory.clock.steady() + timedelta(seconds=10)

    def pay(_: int, placed: Outcome) -> None:
        assert isinstance(placed, Accepted)
        paying = [desk.propose("Pay")]
        drive(desk.marking.decide(paying, deadline, lambda _, paid: outcomes.append(paid)))

    await desk.marking.decide([desk.propose("Place")], deadline, pay)
    assert outcomes == [Accepted(event_of("Pay"), EVENTS)]
    assert desk.marking.statistics.results[MarkStatus.AGAIN] == 0


async def test_a_rejected_command_is_judged_anew(desk: MarkerFixture) -> None:
    assert await desk.send("Pay") == Rejected("Paid may follow Placed, and there is no event", "")
    await desk.send("Place")
    assert isinstance(await desk.send("Pay"), Accepted)


async def test_a_command_without_a_rule_passes_and_moves_the_marker() -> None:
    desk = MarkerFixture(items)
    await desk.grow_old()
    for name in ("Note", "Open", "Lend", "Return"):
        await desk.send(name)
    assert desk.types() == ["Noted", "Lent", "Returned"]
    assert isinstance(await desk.send("Note", "other"), Accepted)
    assert await desk.send("Return", "late") == Rejected(
        "Returned may follow Lent, not Noted", "Noted"
    )


# Repeats


async def test_a_repeat_gets_the_first_answer_from_the_markers_and_from_the_store(
    desk: MarkerFixture,
) -> None:
    first = await desk.send("Place")
    assert isinstance(first, Accepted)
    desk.appends = False
    await desk.send("Pay")
    again = Repeated(first.event_id, first.place)
    assert await desk.send("Place") == again
    await desk.append()
    assert await desk.memory.events.count() == 2
    desk.redis.flush()
    await desk.guard.update()
    desk.appends = True
    assert await desk.send("Place") == again
    assert desk.types() == ["Placed", "Paid"]


async def test_an_id_that_is_stored_for_another_command_is_refused_by_name(
    desk: MarkerFixture,
) -> None:
    await desk.send("Place", "one")
    await desk.append()
    assert await desk.send("Pay", "one") == IdReused(
        "the command's id was used for another, Placed"
    )
    outcome = await desk.send("Place", "one", customer="bob", total=1, currency="EUR")
    assert outcome == IdReused("the command's id was used for another, Placed")
    assert desk.types() == ["Placed"]


async def test_an_id_that_is_noted_for_another_command_is_refused_and_the_note_finished(
    desk: MarkerFixture,
) -> None:
    desk.producer.before["produce"] = 1
    assert await desk.send("Place", "one") == Unavailable("produce failed")
    outcome = await desk.send("Place", "one", customer="bob", total=1, currency="EUR")
    assert outcome == IdReused("the command's id was used for another, Placed")
    assert [event.data["customer"] for event in desk.produced()] == ["ann"]
    assert desk.redis.data.markers["orders", "a"].note is None


async def test_a_repeat_is_known_by_an_older_schema_of_its_event_too(desk: MarkerFixture) -> None:
    proposed = desk.propose("Place")
    old = {"customer": "ann", "total": 1999}
    event = replace(proposed.event, data=old, schema_version=1, prev="")
    await desk.memory.emit("orders.events", event)
    await desk.append()
    assert await desk.decide([proposed]) == [Repeated(proposed.event.id, EVENTS)]


async def test_the_id_of_a_new_command_is_looked_up_from_its_first_mark_on(
    desk: MarkerFixture,
) -> None:
    assert isinstance(await desk.send("Place"), Accepted)
    looked = desk.store.asked("find")
    (paid,) = await desk.decide([desk.propose_new("Pay")])
    assert isinstance(paid, Accepted)
    assert desk.store.asked("find") == looked
    pack = desk.propose_new("Pack")
    desk.markers.after["mark"] = 1
    (packed,) = await desk.decide([pack])
    assert isinstance(packed, Accepted)
    assert desk.store.asked("find") == [*looked, [pack.event.key]]
    assert desk.types() == ["Placed", "Paid", "Packed"]


async def test_a_new_id_is_not_looked_up_for_the_first_event_of_an_aggregate(
    desk: MarkerFixture,
) -> None:
    (placed,) = await desk.decide([desk.propose_new("Place")])
    assert isinstance(placed, Accepted)
    assert desk.store.asked("find") == []
    assert desk.store.asked("heads") == [["a"]]


# The first life


async def test_where_nothing_came_before_redis_no_answer_waits_for_append() -> None:
    desk = MarkerFixture(begins=True)
    await desk.guard.update()
    desk.appends = False
    assert isinstance(await desk.send("Place"), Accepted)
    assert isinstance(await desk.send("Pay"), Accepted)
    assert isinstance(await desk.send("Place", aggregate_id="b"), Accepted)


async def test_after_a_flush_the_first_answers_wait_for_append_again() -> None:
    desk = MarkerFixture(begins=True)
    await desk.send("Place")
    await desk.append()
    desk.redis.flush()
    await desk.guard.update()
    desk.appends = False
    outcomes = await desk.decide([desk.propose("Place", aggregate_id="b")], seconds=5)
    assert outcomes == [APPEND_IS_BEHIND]
    desk.appends = True
    assert isinstance(await desk.send("Place", aggregate_id="b"), Accepted)


class NoticingWatch(NoWatch):
    """To wait is to let append work, and to get its notices; the lag guard does not look."""

    def __init__(self, desk: MarkerFixture) -> None:
        self._desk = desk

    async def expect(self, event_id: str) -> str | None:
        return f"notices:here/{event_id}"

    async def wait(self, seconds: float) -> None:
        await self._desk.append()

    def has_noticed(self, event_id: str) -> bool:
        stored = self._desk.memory.seen(self._desk.memory.topics.stored)
        return event_id in {event.id for event in stored}


async def test_in_a_young_life_appends_notice_ends_the_wait() -> None:
    desk = MarkerFixture()
    desk.watch = NoticingWatch(desk)
    desk.service()
    await desk.guard.update()
    (placed,) = await desk.decide([desk.propose_new("Place")])
    assert isinstance(placed, Accepted)
    (event,) = desk.produced()
    assert event.reply_to == f"notices:here/{event.id}"


async def test_in_an_old_life_no_notice_is_asked_for(desk: MarkerFixture) -> None:
    desk.watch = NoticingWatch(desk)
    desk.service()
    await desk.guard.update()
    assert isinstance(await desk.send("Place"), Accepted)
    assert [event.reply_to for event in desk.produced()] == [None]


# Notes


async def test_a_failed_produce_leaves_the_note_and_the_repeat_finishes_it(
    desk: MarkerFixture,
) -> None:
    desk.producer.before["produce"] = 1
    assert await desk.send("Place") == Unavailable("produce failed")
    assert desk.produced() == []
    assert await desk.send("Place") == Accepted(event_of("Place"), EVENTS)
    assert await desk.send("Place") == Repeated(event_of("Place"), EVENTS)
    assert desk.types() == ["Placed"]


async def test_another_service_that_finishes_a_command_says_that_it_repeats(
    desk: MarkerFixture,
) -> None:
    desk.producer.before["produce"] = 1
    assert await desk.send("Place") == Unavailable("produce failed")
    desk.service()
    await desk.pass_time(0.1)
    assert await desk.send("Place") == Repeated(event_of("Place"), EVENTS)


async def test_of_two_services_with_one_command_one_is_told_that_it_repeats(
    desk: MarkerFixture,
) -> None:
    produce, first = desk.producer._inner.produce, desk.marking
    at_the_other: list[Outcome] = []

    async def meanwhile(records: Any) -> Any:
        desk.producer._inner.produce = produce
        desk.service()
        await desk.pass_time(0.1)
        at_the_other.append(await desk.send("Place"))
        desk.marking = first
        return await produce(records)

    desk.producer._inner.produce = meanwhile
    assert await desk.send("Place") == Accepted(event_of("Place"), EVENTS)
    assert at_the_other == [Repeated(event_of("Place"), EVENTS)]
    await desk.append()
    assert [event.id for event in await desk.memory.history()] == [event_of("Place")]


async def test_a_lost_acknowledgement_makes_a_repeat_that_append_drops(desk: MarkerFixture) -> None:
    desk.producer.after["produce"] = 1
    assert isinstance(await desk.send("Place"), Unavailable)
    assert isinstance(await desk.send("Place"), Accepted)
    await desk.append()
    assert desk.types() == ["Placed", "Placed"]
    assert [event.id for event in await desk.memory.history()] == [event_of("Place")]


async def test_anothers_fresh_note_is_waited_for_and_a_stale_one_is_finished(
    desk: MarkerFixture,
) -> None:
    await desk.send("Place")
    desk.producer.before["produce"] = 1
    await desk.send("Pay")
    began = desk.memory.clock.now()
    assert isinstance(await desk.send("Cancel"), Accepted)
    assert (desk.memory.clock.now() - began).total_seconds() >= TERMS.lease
    placed, paid, cancelled = desk.produced()
    assert [placed.type, paid.type, cancelled.type] == ["Placed", "Paid", "Cancelled"]
    assert (paid.prev, cancelled.prev) == (placed.id, paid.id)
    assert await desk.send("Pay") == Repeated(event_of("Pay"), EVENTS)


async def test_a_stale_note_is_finished_also_when_the_own_command_is_then_rejected(
    desk: MarkerFixture,
) -> None:
    desk.producer.before["produce"] = 1
    await desk.send("Place")
    assert isinstance(await desk.send("Place", "rival"), Rejected)
    assert desk.types() == ["Placed"]


async def test_when_a_note_of_another_cant_be_finished_the_wait_goes_on(
    desk: MarkerFixture,
) -> None:
    desk.producer.before["produce"] = 3
    await desk.send("Place")
    assert isinstance(await desk.send("Pay"), Accepted)
    assert desk.types() == ["Placed", "Paid"]


async def test_a_mark_whose_answer_is_lost_is_found_again(desk: MarkerFixture) -> None:
    desk.markers.after["mark"] = 1
    assert isinstance(await desk.send("Place"), Accepted)
    assert desk.types() == ["Placed"]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_confirmation_that_fails_is_made_good_by_the_store(
    desk: MarkerFixture, when: str
) -> None:
    getattr(desk.markers, when)["confirm"] = 1
    assert isinstance(await desk.send("Place"), Accepted)
    assert desk.redis.data.markers["orders", "a"].note is None
    assert [event.id for event in await desk.memory.history()] == [event_of("Place")]


# Markers made anew


async def test_an_expired_marker_is_made_from_the_store(desk: MarkerFixture) -> None:
    await desk.send("Place")
    await desk.pass_time(TERMS.expiry + 1)
    assert await desk.send("Pack") == Rejected("Packed may follow Paid, not Placed", "Placed")
    assert isinstance(await desk.send("Pay"), Accepted)
    assert desk.produced()[1].prev == event_of("Place")


async def test_no_marker_is_made_while_append_is_behind(desk: MarkerFixture) -> None:
    await desk.send("Place")
    desk.appends = False
    await desk.pass_time(TERMS.expiry + 1)
    outcomes = await desk.decide([desk.propose("Pay")], seconds=5)
    assert outcomes == [APPEND_IS_BEHIND]
    desk.appends = True
    assert isinstance(await desk.send("Pay"), Accepted)


async def test_a_flush_that_nobody_has_told_of_is_noticed(desk: MarkerFixture) -> None:
    await desk.send("Place")
    await desk.append()
    desk.redis.flush()
    assert isinstance(await desk.send("Pay"), Accepted)
    assert await desk.send("Place") == Repeated(event_of("Place"), EVENTS)


async def test_after_a_failover_to_a_clock_that_is_behind_the_store_is_awaited(
    desk: MarkerFixture,
) -> None:
    desk.appends = False
    await desk.send("Place")
    desk.redis.restart()
    desk.redis_seconds_ahead = -2 * TERMS.expiry
    outcomes = await desk.decide([desk.propose("Pay")], seconds=5)
    assert outcomes == [APPEND_IS_BEHIND]
    desk.appends = True
    assert isinstance(await desk.send("Pay"), Accepted)


async def test_while_redis_clock_is_behind_a_marker_there_is_a_pause_between_rounds(
    desk: MarkerFixture,
) -> None:
    await desk.send("Place")
    desk.redis_seconds_ahead = -4.0
    mark, rounds = desk.markers._inner.mark, count(1)

    async def bounded(marks: Any) -> Any:
        assert next(rounds) <= 2 + 3 / (MARKER.first_seconds / 2)
        return await mark(marks)

    desk.markers._inner.mark = bounded
    for _ in range(2):
        await desk.guard.refresh_incarnation()
        outcomes = await desk.decide([desk.propose("Pay")], seconds=1.5)
        assert outcomes == [Unavailable("the deadline has passed")]
    assert isinstance(await desk.send("Pay"), Accepted)


async def test_a_look_before_the_clock_stepped_back_does_not_count(desk: MarkerFixture) -> None:
    await desk.send("Place")
    await desk.pass_time(1)
    desk.redis_seconds_ahead = -4.0
    outcomes = await desk.decide([desk.propose("Pay")], seconds=0.1)
    assert outcomes == [Unavailable("the deadline has passed")]


# A young life: append has the last word


async def test_after_a_flush_nothing_is_accepted_before_it_is_stored(desk: MarkerFixture) -> None:
    await desk.send("Place")
    await desk.append()
    desk.redis.flush()
    await desk.pass_time(1)
    await desk.pass_time(1)
    desk.appends = False
    assert await desk.decide([desk.propose("Pay")], 5) == [APPEND_IS_BEHIND]
    assert desk.types() == ["Placed", "Paid"]
    desk.appends = True
    assert await desk.send("Pay") == Accepted(event_of("Pay"), EVENTS)
    assert [event.type for event in await desk.memory.history()] == ["Placed", "Paid"]


async def superseded(desk: MarkerFixture, rival: ProposedEvent) -> None:
    """A rival that was noted before the flush comes into the log before the next event does."""
    await desk.send("Place")
    await desk.append()
    desk.redis.flush()
    await desk.pass_time(1)
    await desk.pass_time(1)
    produce, late = desk.producer._inner.produce, [rival]

    async def produce_after(records: Any) -> Any:
        while late:
            event = replace(late.pop().event, prev=event_of("Place"))
            await desk.memory.emit("orders.events", event)
        return await produce(records)

    desk.producer._inner.produce = produce_after


async def test_a_superseded_event_is_decided_again_and_rejected_if_it_must_be(
    desk: MarkerFixture,
) -> None:
    await superseded(desk, desk.propose("Cancel"))
    assert await desk.send("Pay") == Rejected("Paid may follow Placed, not Cancelled", "Cancelled")
    assert [event.type for event in await desk.memory.history()] == ["Placed", "Cancelled"]


async def test_a_superseded_event_is_decided_again_and_follows_the_other(
    desk: MarkerFixture,
) -> None:
    await superseded(desk, desk.propose("Pay"))
    assert isinstance(await desk.send("Cancel"), Accepted)
    history = await desk.memory.history()
    assert [event.type for event in history] == ["Placed", "Paid", "Cancelled"]
    assert history[2].prev == history[1].id


# Many at once


async def test_commands_of_one_aggregate_go_one_after_the_other(desk: MarkerFixture) -> None:
    names = ["Place", "Pack", "Pay", "Pack"]
    commands = [desk.propose(name, f"{i}") for i, name in enumerate(names)]
    outcomes = await desk.decide(commands)
    assert [type(outcome) for outcome in outcomes] == [Accepted, Rejected, Accepted, Accepted]
    assert desk.types() == ["Placed", "Paid", "Packed"]


async def test_a_round_has_one_command_of_each_aggregate_and_one_call_of_each_kind(
    desk: MarkerFixture,
) -> None:
    for aggregate_id in "abc":
        await desk.send("Place", aggregate_id=aggregate_id)
    await desk.pass_time(1)
    desk.markers.calls.clear()
    desk.producer.calls.clear()
    commands = [desk.propose(name, aggregate_id=a) for a in "abc" for name in ("Pay", "Pack")]
    assert all(isinstance(outcome, Accepted) for outcome in await desk.decide(commands))
    marks = desk.markers.asked("mark")
    assert [[m.aggregate_id for m in sorted(ms)] for ms in marks] == [["a", "b", "c"]] * 2
    assert [len(notes) for notes in desk.markers.asked("confirm")] == [3, 3]
    assert [len(records) for records in desk.producer.asked("produce")] == [3, 3]


async def test_the_same_command_twice_in_one_call_is_accepted_once(desk: MarkerFixture) -> None:
    proposed = desk.propose("Place")
    outcomes = await desk.decide([proposed, proposed])
    assert outcomes == [Accepted(proposed.event.id, EVENTS), Repeated(proposed.event.id, EVENTS)]
    assert desk.types() == ["Placed"]


async def test_a_stuck_aggregate_holds_no_other_up(desk: MarkerFixture) -> None:
    desk.producer.before["produce"] = 1
    await desk.send("Place")
    commands = [desk.propose("Cancel"), desk.propose("Place", aggregate_id="b")]
    outcomes = await desk.decide(commands, seconds=TERMS.lease / 2)
    assert outcomes[0] == Unavailable("the deadline has passed")
    assert isinstance(outcomes[1], Accepted)


@pytest.mark.parametrize(
    ("changes", "problem", "words"),
    [
        ({"schema_version": 2}, "newer-schema", "roll out append first"),
        ({"type": "Wrapped"}, "newer-schema", "roll out append first"),
        ({"data": {"amount": "much"}}, "newer-schema", "roll out append first"),
        ({"type": "Broken"}, "aggregate-parked", "see `eventfleet deadletters list`"),
    ],
    ids=["schema version", "type", "payload", "other"],
)
async def test_a_command_behind_a_parked_event_is_told_whether_append_is_older(
    desk: MarkerFixture, changes: dict[str, Any], problem: str, words: str
) -> None:
    await desk.send("Place")
    await desk.append()
    paid = desk.propose("Pay")
    newer = replace(paid.event, prev=event_of("Place"), **changes)
    await desk.memory.put(desk.memory.topics.events, (newer.aggregate_id, encode(newer)))
    await desk.append()
    if problem == "aggregate-parked":
        [parked] = await desk.memory.dead_letters.parked_in("append", 0)
        await desk.memory.dead_letters.park([replace(parked, reason="ValueError: not ours")])
    await desk.guard.update()
    outcome = await desk.send("Cancel")
    assert isinstance(outcome, Failed)
    assert outcome.problem == problem
    assert outcome.reason.startswith("append parks an event of orders 'a': ")
    assert words in outcome.reason
    assert isinstance(await desk.send("Place", aggregate_id="b"), Accepted)


@pytest.mark.parametrize("why", ["", WAITING], ids=["not listed", "about to be handled"])
async def test_a_command_behind_a_parked_event_that_is_handled_soon_is_to_be_repeated(
    desk: MarkerFixture, why: str
) -> None:
    await desk.send("Place")
    await desk.append()
    newer = replace(desk.propose("Pay").event, prev=event_of("Place"), schema_version=2)
    await desk.memory.put(desk.memory.topics.events, (newer.aggregate_id, encode(newer)))
    await desk.append()
    letters = desk.memory.dead_letters
    [parked] = await letters.parked_in("append", 0)
    if why:
        await letters.park([replace(parked, reason=why)])
    else:
        await letters.unpark("append", ["a"])
    await desk.guard.update()
    assert await desk.send("Cancel") == Unavailable("append is busy with 'a'")


# Deadlines


async def test_past_the_deadline_nothing_is_even_asked(desk: MarkerFixture) -> None:
    desk.markers.calls.clear()
    assert await desk.decide([desk.propose("Place")], 0) == [Unavailable("the deadline has passed")]
    assert desk.markers.calls == []


async def test_a_server_that_stays_away_is_named_at_the_deadline(desk: MarkerFixture) -> None:
    desk.markers.before["mark"] = 10**6
    assert await desk.decide([desk.propose("Place")]) == [Unavailable("mark failed")]
    assert desk.produced() == []


async def test_a_wall_clock_that_is_set_back_moves_no_deadline(desk: MarkerFixture) -> None:
    desk.markers.before["mark"] = 10**6
    deadline = desk.memory.clock.steady() + timedelta(seconds=5)
    desk.memory.clock.set(timedelta(hours=-1))
    await desk.marking.decide([desk.propose("Place")], deadline, lambda *_: None)
    assert desk.memory.clock.steady() < deadline + timedelta(seconds=5)


async def test_what_was_noted_when_the_deadline_passed_is_not_produced(desk: MarkerFixture) -> None:
    await desk.send("Place")
    await desk.pass_time(1)
    mark = desk.markers._inner.mark

    async def slow(marks: Any) -> Any:
        marked = await mark(marks)
        await desk.pass_time(11)
        return marked

    desk.markers._inner.mark = slow
    assert await desk.send("Pay") == Unavailable("the deadline has passed")
    assert desk.types() == ["Placed"]
    desk.markers._inner.mark = mark
    assert await desk.send("Pay") == Accepted(event_of("Pay"), EVENTS)
    assert desk.types() == ["Placed", "Paid"]


# A look at the store that others have overtaken


async def test_a_look_older_than_the_marker_does_not_count() -> None:
    """A record of a former life comes into the log, and others go on from it, after the look."""
    desk = MarkerFixture(items)
    await desk.grow_old()
    await desk.send("Open")
    await desk.append()
    desk.redis.flush()
    await desk.pass_time(1)
    await desk.pass_time(1)
    first, mark = desk.marking, desk.markers._inner.mark
    late = replace(desk.propose("Note").event, prev=desk.propose("Open").event.id)

    async def overtaken(marks: Any) -> Any:
        desk.markers._inner.mark = mark
        await desk.memory.emit("items.events", late)
        await desk.append()
        desk.service()
        await desk.pass_time(1)
        assert isinstance(await desk.send("Lend"), Accepted)
        desk.marking = first
        return await mark(marks)

    desk.markers._inner.mark = overtaken
    assert await desk.send("Note") == Repeated(late.id, "items.events/0")
    assert isinstance(await desk.send("Return"), Accepted)
    await desk.append()
    history = [event.type for event in await desk.memory.history()]
    assert history == ["Opened", "Noted", "Lent", "Returned"]


async def test_a_marker_made_anew_does_not_reject_by_an_event_that_has_a_successor(
    desk: MarkerFixture,
) -> None:
    """An event that was noted before Redis lost its data comes into the log after that."""
    assert isinstance(await desk.send("Place"), Accepted)
    await desk.pass_time(1)
    placed = desk.produced()[-1]
    desk.redis.flush()
    assert isinstance(await desk.send("Pack"), Rejected)
    late = desk.propose("Pay").event
    await desk.memory.emit(desk.memory.topics.events, replace(late, prev=placed.id))
    await desk.pass_time(1)
    assert isinstance(await desk.send("Pack"), Accepted)
    assert desk.types() == ["Placed", "Paid", "Packed"]


async def test_what_is_late_is_not_noted_though_others_of_its_batch_have_time() -> None:
    desk = MarkerFixture()
    await desk.grow_old()
    late = desk.propose("Place")._replace(deadline=desk.memory.clock.steady())
    outcomes = await desk.decide([late, desk.propose("Place", aggregate_id="b")])
    assert isinstance(outcomes[0], Unavailable)
    assert isinstance(outcomes[1], Accepted)
    assert {key for _, key in desk.redis.data.markers} == {"b"}
    assert [event.aggregate_id for event in desk.produced()] == ["b"]


async def test_what_stood_still_until_past_its_deadline_notes_nothing() -> None:
    desk = MarkerFixture()
    await desk.grow_old()
    mark = desk.markers.mark

    async def slow(requests: Any) -> Any:
        await desk.pass_time(5.0)
        return await mark(requests)

    desk.markers.mark = slow  # type: ignore[attr-defined]
    assert await desk.decide([desk.propose("Place")], seconds=3) == [
        Unavailable("the deadline has passed")
    ]
    assert desk.redis.data.markers == {}
    assert desk.produced() == []
