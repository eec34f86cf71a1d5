"""Manager: what becomes of the commands of a synchronous domain, over the in-memory servers."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from eventfleet.deciders import event_publisher
from eventfleet.deciders.decider import Permit
from eventfleet.deciders.outcomes import (
    Accepted,
    Conflict,
    Failed,
    IdReused,
    Outcome,
    Rejected,
    Repeated,
    Unavailable,
    outcome_fields,
)
from eventfleet.stores.contracts import Snapshot
from eventfleet.stores.errors import Duplicate, TopicRefused
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import event_id
from tests.unit.eventually import until
from tests.unit.sync_domain import NOW, SyncFixture, ask, till

PLACE = "till.events/0"


@pytest.fixture
async def desk() -> AsyncIterator[SyncFixture]:
    async with SyncFixture().open() as desk:
        yield desk


def id_of(command: str, index: int = 0) -> str:
    return event_id("till", "a", command, index)


# Decided on the latest state


async def test_an_accepted_commands_event_is_stored_and_the_stream_has_it(
    desk: SyncFixture,
) -> None:
    assert await desk.send("PutIn", "1", cents=5) == Accepted(id_of("1"), PLACE, 1, True)
    (event,) = await desk.stored()
    assert (event.type, event.data, event.version, event.position) == ("Put", {"cents": 5}, 1, None)
    assert (event.causation_id, event.correlation_id) == ("1", "1")
    assert desk.produced() == [event]


async def test_a_command_is_decided_on_what_another_service_has_stored(desk: SyncFixture) -> None:
    await desk.send("PutIn", cents=5)
    async with SyncFixture(kept=desk).open() as other:
        assert isinstance(await other.send("TakeOut", cents=4), Accepted)
    assert await desk.send("TakeOut", cents=4) == Rejected("there are 0")
    assert [event.version for event in await desk.stored()] == [1, 2, 3]


async def test_events_of_one_command_are_stored_together_and_the_last_is_produced(
    desk: SyncFixture,
) -> None:
    await desk.send("PutIn", cents=9)
    assert await desk.send("TakeOut", "2", cents=5) == Accepted(id_of("2"), PLACE, 3, True)
    events = await desk.stored()
    assert [(e.type, e.id) for e in events[1:]] == [
        ("Taken", id_of("2")),
        ("Charged", id_of("2", 1)),
    ]
    assert desk.produced() == [events[0], events[2]]


async def test_events_are_announced_once_they_are_stored_and_before_the_stream_has_them(
    desk: SyncFixture,
) -> None:
    await desk.send("PutIn", "1", cents=9)
    await desk.send("PutIn", "1", cents=9)
    await desk.send("TakeOut", "2", cents=5)
    await desk.send("TakeOut", "3", cents=50)
    assert desk.announced == [(event, False) for event in await desk.stored()]


async def test_who_waits_for_a_command_waits_for_its_last_event(desk: SyncFixture) -> None:
    await desk.send("PutIn", cents=9)
    asked = ask("TakeOut", cents=5)
    await desk.decide(asked._replace(event=replace(asked.event, reply_to="notices:me/1")))
    assert [e.reply_to for e in await desk.stored()] == [None, None, "notices:me/1"]


async def test_a_rejected_command_leaves_nothing_but_the_snapshot(desk: SyncFixture) -> None:
    await desk.send("PutIn", cents=5)
    assert await desk.send("TakeOut", cents=5) == Rejected("there are 5")
    assert len(await desk.stored()) == len(desk.produced()) == 1
    assert await desk.saved(1) == {"cents": 5}


async def test_commands_of_one_aggregate_are_decided_in_their_order(desk: SyncFixture) -> None:
    names = {"TakeOut": 1, "PutIn": 2}
    order = ["TakeOut", "PutIn", "TakeOut", "PutIn"]
    outcomes = await desk.decide(*(ask(name, cents=names[name]) for name in order))
    assert [type(outcome) for outcome in outcomes] == [Rejected, Accepted, Accepted, Accepted]


async def test_a_state_is_built_from_a_snapshot_and_the_events_after_it(desk: SyncFixture) -> None:
    for _ in range(3):
        await desk.send("PutIn", cents=1)
    fingerprint = till.state_shape.fingerprint
    await desk.shots.save([Snapshot("a", 3, {"cents": 100}, 1, NOW, fingerprint)])
    async with SyncFixture(kept=desk).open() as other:
        assert isinstance(await other.send("TakeOut", cents=50), Accepted)
        assert ("read", "a") not in other.store.calls


async def test_a_long_history_is_folded_whole(desk: SyncFixture, monkeypatch: Any) -> None:
    monkeypatch.setattr("eventfleet.states.latest_states.MAX_BATCH_EVENTS", 3)
    for number in range(8):
        await desk.send("PutIn", f"c{number}", cents=1)
    async with SyncFixture(kept=desk).open() as other:
        await other.shots.latest(["a"], 1)
        other.shots._snapshots.clear()
        assert await other.send("TakeOut", cents=8) == Rejected("there are 8")
        assert await other.send("PutIn", "c6", cents=1) == Repeated(id_of("c6"), PLACE, 7)


# What it costs


async def test_a_command_on_a_state_in_memory_costs_one_write_and_one_produce(
    desk: SyncFixture,
) -> None:
    await desk.send("PutIn", cents=5)
    for calls in (desk.store.calls, desk.snapshots.calls, desk.producer.calls):
        calls.clear()
    assert isinstance(await desk.send("PutIn", cents=5), Accepted)
    assert [name for name, _ in desk.store.calls] == ["put_each"]
    assert [name for name, _ in desk.producer.calls] == ["produce"]
    assert {name for name, _ in desk.snapshots.calls} <= {"save"}


async def test_a_command_on_a_stale_state_is_decided_again_on_the_latest(desk: SyncFixture) -> None:
    await desk.send("PutIn", cents=5)
    async with SyncFixture(kept=desk).open() as other:
        await other.send("TakeOut", cents=4)
    desk.store.calls.clear()
    assert await desk.send("TakeOut", cents=2) == Rejected("there are 0")
    assert [name for name, _ in desk.store.calls] == ["put", "tails"]
    assert desk.manager.statistics.conflicts == 1


async def test_what_is_stored_on_a_state_in_memory_is_published_while_others_are_read(
    desk: SyncFixture,
) -> None:
    await desk.send("PutIn", cents=5)
    answered, tails = asyncio.Event(), desk.events.tails

    async def slow(*args: Any) -> Any:
        await answered.wait()
        return await tails(*args)

    desk.store.tails = slow  # type: ignore[attr-defined]
    both = asyncio.create_task(
        desk.decide(ask("PutIn", "1", cents=5), ask("PutIn", "2", "b", cents=5))
    )
    await until(lambda: len(desk.produced()) == 2)
    answered.set()
    assert [type(outcome) for outcome in await both] == [Accepted, Accepted]
    assert len(desk.produced()) == 3


async def test_what_others_write_to_is_read_until_they_no_longer_do(desk: SyncFixture) -> None:
    await desk.send("PutIn", cents=5)
    async with SyncFixture(kept=desk).open() as other:
        await other.send("PutIn", cents=5)
    costs = []
    for _ in range(3):
        desk.store.calls.clear()
        assert isinstance(await desk.send("PutIn", cents=5), Accepted)
        costs.append([name for name, _ in desk.store.calls])
    assert costs == [["put_each", "tails", "put_each"], ["tails", "put_each"], ["put_each"]]


async def test_a_state_that_another_writers_event_is_noted_of_is_read_first(
    desk: SyncFixture,
) -> None:
    await desk.send("PutIn", cents=5)
    async with SyncFixture(kept=desk).open() as other:
        await other.send("PutIn", cents=5)
    for event in await desk.stored():
        desk.querier.latest_states.note(event)
    desk.store.calls.clear()
    assert isinstance(await desk.send("TakeOut", cents=9), Accepted)
    assert [name for name, _ in desk.store.calls] == ["tails", "put"]


async def test_an_event_that_is_noted_and_not_stored_leaves_no_gap(desk: SyncFixture) -> None:
    """Such as one of another fleet that shares the channels, and not the store."""
    await desk.send("PutIn", cents=5)
    [stored] = await desk.stored()
    desk.querier.latest_states.note(replace(stored, id="foreign", version=2))
    assert isinstance(await desk.send("PutIn", cents=5), Accepted)
    assert [event.version for event in await desk.stored()] == [1, 2]


async def test_nothing_is_rejected_by_a_state_in_memory_alone(desk: SyncFixture) -> None:
    await desk.send("PutIn", cents=5)
    async with SyncFixture(kept=desk).open() as other:
        await other.send("PutIn", cents=5)
    desk.store.calls.clear()
    assert isinstance(await desk.send("TakeOut", cents=9), Accepted)
    assert [name for name, _ in desk.store.calls] == ["tails", "put"]


async def test_a_repeat_on_a_state_in_memory_is_told_of_the_first(desk: SyncFixture) -> None:
    await desk.send("PutIn", "1", cents=5)
    desk.store.calls.clear()
    assert await desk.send("PutIn", "1", cents=5) == Repeated(id_of("1"), PLACE, 1)
    assert [name for name, _ in desk.store.calls] == ["put_each", "tails", "read"]
    assert [event.version for event in await desk.stored()] == [1]


async def test_at_most_one_save_of_an_aggregate_is_under_way_and_the_newest_state_wins() -> None:
    desk = SyncFixture()
    begun, release = asyncio.Event(), asyncio.Event()
    under_way, saves = 0, []
    save = desk.shots.save

    async def slow(shots: list[Snapshot]) -> None:
        nonlocal under_way
        under_way += 1
        assert under_way == 1
        saves.extend(shot.version for shot in shots)
        begun.set()
        await release.wait()
        await save(shots)
        under_way -= 1

    desk.shots.save = slow  # type: ignore[method-assign,assignment]
    async with desk.open():
        await desk.send("PutIn", cents=1)
        await begun.wait()
        for _ in range(5):
            assert isinstance(await desk.send("PutIn", cents=1), Accepted)
        release.set()
        await desk.saved(6)
    assert saves == [1, 6]


async def test_a_snapshot_that_cant_be_saved_does_not_hold_up_an_answer(desk: SyncFixture) -> None:
    desk.snapshots.before["save"] = 1
    assert isinstance(await desk.send("PutIn", cents=1), Accepted)
    await until(lambda: desk.saver.dropped)
    assert isinstance(await desk.send("PutIn", cents=1), Accepted)
    assert await desk.saved(2) == {"cents": 2}


# Several at once


async def test_commands_of_many_aggregates_share_one_read_one_write_and_one_produce(
    desk: SyncFixture,
) -> None:
    outcomes = await desk.decide(*(ask("PutIn", aggregate=f"a{n}", cents=1) for n in range(50)))
    assert {type(outcome) for outcome in outcomes} == {Accepted}
    assert [name for name, _ in desk.store.calls] == ["tails", "put_each"]
    assert [name for name, _ in desk.producer.calls] == ["produce"]


async def test_one_that_is_beaten_holds_up_none_of_the_others(desk: SyncFixture) -> None:
    async with SyncFixture(kept=desk).open() as other:
        await other.send("PutIn", aggregate="beaten", cents=1)
        put_each = desk.events.put_each
        answered: list[int] = []

        async def late(events: Any) -> Any:
            if not answered:
                await other.send("PutIn", aggregate="beaten", cents=1)
            return await put_each(events)

        desk.store.put_each = late  # type: ignore[attr-defined]
        requests = [ask("PutIn", aggregate=name, cents=1) for name in ("beaten", "a", "b")]
        deadline = desk.clock.now().replace(year=2100)
        await desk.manager.decide(requests, deadline, lambda index, _: answered.append(index))
    assert answered == [1, 2, 0]
    assert [event.version for event in await desk.stored("beaten")] == [1, 2, 3]


async def test_one_that_is_beaten_does_not_wait_for_what_the_stream_takes_of_the_others(
    desk: SyncFixture,
) -> None:
    async with SyncFixture(kept=desk).open() as other:
        await other.send("PutIn", aggregate="beaten", cents=1)
        put_each, produce = desk.events.put_each, desk.producer.produce  # type: ignore[attr-defined]
        tries: list[int] = []

        async def late(events: Any) -> Any:
            tries.append(len(events))
            if len(tries) == 1:
                await other.send("PutIn", aggregate="beaten", cents=1)
            return await put_each(events)

        async def after_the_second_put(records: Any) -> Any:
            await until(lambda: len(tries) == 2)
            return await produce(records)

        desk.store.put_each = late  # type: ignore[attr-defined]
        desk.producer.produce = after_the_second_put  # type: ignore[attr-defined]
        outcomes = await desk.decide(
            *(ask("PutIn", aggregate=name, cents=1) for name in ("beaten", "a", "b"))
        )
    assert {type(outcome) for outcome in outcomes} == {Accepted}
    assert tries == [3, 1]


async def test_what_fails_for_one_fails_for_no_other(desk: SyncFixture) -> None:
    await desk.send("Note", aggregate="broken", text="unfoldable")
    await desk.send("PutIn", aggregate="rich", cents=9)
    desk.store.before["put"] = 1
    outcomes = await desk.decide(
        ask("PutIn", aggregate="broken", cents=1),
        ask("TakeOut", aggregate="rich", cents=5),
        ask("TakeOut", aggregate="poor", cents=5),
        ask("PutIn", aggregate="a", cents=5),
        ask("Note", aggregate="b", text="a"),
    )
    kinds = [Failed, Unavailable, Rejected, Accepted, Accepted]
    assert [type(outcome) for outcome in outcomes] == kinds


async def test_a_long_history_is_read_apart_from_the_others(
    desk: SyncFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventfleet.states.latest_states.MAX_BATCH_EVENTS", 3)
    for _ in range(8):
        await desk.send("PutIn", aggregate="long", cents=1)
    async with SyncFixture(kept=desk).open() as other:
        other.shots._snapshots.clear()
        answered: list[int] = []
        read = other.store.read

        async def after_the_short_one(*args: Any) -> AsyncIterator[Any]:
            await until(lambda: answered)
            async for event in read(*args):
                yield event

        other.store.read = after_the_short_one  # type: ignore[method-assign]
        requests = [ask("PutIn", aggregate=name, cents=1) for name in ("long", "short")]
        deadline = desk.clock.now().replace(year=2100)
        await other.manager.decide(requests, deadline, lambda index, _: answered.append(index))
        assert answered == [1, 0]
    assert len(await desk.stored("long")) == 9


# Without a validator


async def test_without_a_validator_only_the_head_is_read(desk: SyncFixture) -> None:
    assert await desk.send("Note", "1", text="a") == Accepted(id_of("1"), PLACE, 1, True)
    assert {name for name, _ in desk.store.calls} == {"find", "heads", "put_each"}
    assert desk.snapshots.calls == []
    assert await desk.send("Note", "1", text="a") == Repeated(id_of("1"), PLACE, 1)


async def test_without_a_validator_a_conflict_takes_the_next_number(desk: SyncFixture) -> None:
    async with SyncFixture(kept=desk).open() as other:
        both = await asyncio.gather(
            *(each.send("Note", text=str(n)) for each in (desk, other) for n in range(8))
        )
    assert all(isinstance(outcome, Accepted) for outcome in both)
    assert [event.version for event in await desk.stored()] == list(range(1, 17))


async def test_without_a_validator_a_state_that_cant_be_folded_is_no_hindrance(
    desk: SyncFixture,
) -> None:
    await desk.send("PutIn", cents=1)
    assert isinstance(await desk.send("Note", text="unfoldable"), Accepted)
    assert isinstance(await desk.send("Note", text="next"), Accepted)
    outcome = await desk.send("PutIn", cents=1)
    assert isinstance(outcome, Failed)
    reason = "till 'a' version 2, Noted can't be replayed: the domain's code raised ValueError"
    assert (outcome.problem, outcome.reason) == ("replay-failed", reason)
    assert "in evolve" in outcome.details
    assert outcome.details.endswith("ValueError: no fold")


async def test_a_newer_schema_fails_the_commands_of_its_aggregate_alone(desk: SyncFixture) -> None:
    await desk.send("PutIn", cents=1)
    (stored,) = await desk.stored()
    newer = replace(stored, id="newer", version=2, schema_version=2, position=None)
    await desk.events.put([newer], 0)
    reason = "this process knows version 1 of Put, the event has 2: deploy"
    failed, beside = await desk.decide(ask("PutIn", cents=1), ask("PutIn", "b1", "b", cents=1))
    assert failed == Failed("newer-schema", f"till 'a' version 2, Put: {reason}")
    assert isinstance(beside, Accepted)


async def test_a_repeat_is_known_though_the_state_cant_be_folded(desk: SyncFixture) -> None:
    first = await desk.send("PutIn", "1", cents=1)
    assert isinstance(first, Accepted)
    await desk.send("Note", text="unfoldable")
    assert await desk.send("PutIn", "1", cents=1) == Repeated(first.event_id, first.place, 1)


# Repeats


async def test_a_repeated_command_has_its_first_answer_though_it_would_be_rejected_now(
    desk: SyncFixture,
) -> None:
    await desk.send("PutIn", cents=3)
    first = await desk.send("TakeOut", "t", cents=2)
    assert isinstance(first, Accepted)
    async with SyncFixture(kept=desk).open() as other:
        for each in (desk, other):
            await each.send("PutIn", cents=1)
            again = await each.send("TakeOut", "t", cents=2)
            assert again == Repeated(first.event_id, first.place, first.version)
    assert len(await desk.stored()) == 5


@pytest.mark.parametrize("other", [("PutIn", {"cents": 2}), ("Note", {"text": "a"})])
async def test_an_id_that_belongs_to_another_command_is_refused_by_name(
    desk: SyncFixture, other: tuple[str, dict[str, Any]]
) -> None:
    await desk.send("PutIn", "1", cents=1)
    name, data = other
    expected = IdReused("the command's id was used for another, which made Put")
    assert await desk.send(name, "1", **data) == expected
    assert len(await desk.stored()) == 1


async def test_a_command_of_the_domains_asynchronous_time_is_repeated(desk: SyncFixture) -> None:
    event = replace(ask("PutIn", "1", cents=1).event, type="Put", data={"cents": 1}, version=1)
    await desk.events.put([replace(event, fingerprint=None)], 0)
    assert await desk.send("PutIn", "1", cents=1) == Repeated(id_of("1"), PLACE, 1)


# When something fails


async def test_a_command_that_is_beaten_at_each_attempt_is_a_conflict(desk: SyncFixture) -> None:
    await desk.send("PutIn", cents=100)
    put_each = desk.events.put_each

    async def beaten(events: Any) -> Any:
        async with SyncFixture(kept=desk).open() as other:
            await other.send("Note", text="first")
        return await put_each(events)

    desk.store.put_each = beaten  # type: ignore[attr-defined]
    outcome = await desk.send("PutIn", cents=1)
    assert outcome == Conflict("till 'a': gave up after 10 concurrent-write conflicts")
    assert {event.type for event in (await desk.stored())[1:]} == {"Noted"}
    assert desk.manager.statistics.conflicts == 11  # with that on the cached state


async def test_a_version_that_cannot_be_read_is_no_conflict(desk: SyncFixture) -> None:
    """It may be that of the command's own event, put by a call that had no answer."""
    await desk.send("PutIn", cents=100)
    put_each = desk.events.put_each

    async def taken(puts: Any) -> Any:
        return [Duplicate(0, "till/a", event.version, "version") for event, _ in puts]

    desk.store.put_each = taken  # type: ignore[attr-defined]
    assert await desk.send("PutIn", "2", cents=1) == Unavailable(
        "till 'a': version 2 can't be read yet"
    )
    desk.store.put_each = put_each  # type: ignore[attr-defined]
    assert isinstance(await desk.send("PutIn", "2", cents=1), Accepted)


async def test_an_own_event_that_is_seen_in_the_end_is_a_repeat(desk: SyncFixture) -> None:
    await desk.send("PutIn", cents=100)
    put_each, tries = desk.events.put_each, 0

    async def taken(puts: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries == 11:
            await put_each(puts)
        return [Duplicate(0, "till/a", event.version, "event id") for event, _ in puts]

    desk.store.put_each = taken  # type: ignore[attr-defined]
    assert await desk.send("PutIn", "2", cents=1) == Repeated(id_of("2"), PLACE, 2)
    assert tries == 11


@pytest.mark.parametrize("method", ["tails", "put_each"])
async def test_a_store_that_is_away_means_unavailable_and_the_repeat_is_taken(
    desk: SyncFixture, method: str
) -> None:
    desk.store.before[method] = 1
    assert await desk.send("PutIn", "1", cents=1) == Unavailable(f"{method} failed")
    assert await desk.send("PutIn", "1", cents=1) == Accepted(id_of("1"), PLACE, 1, True)


async def test_a_put_whose_fate_is_unknown_is_found_by_the_repeat(desk: SyncFixture) -> None:
    await desk.send("PutIn", cents=1)
    desk.store.after["put_each"] = 1
    assert await desk.send("PutIn", "1", cents=1) == Unavailable("put_each failed")
    assert await desk.send("PutIn", "1", cents=1) == Repeated(id_of("1"), PLACE, 2)
    assert [event.version for event in await desk.stored()] == [1, 2]


async def test_no_other_waits_again_with_an_aggregate_whose_put_was_not_answered(
    desk: SyncFixture,
) -> None:
    put_each, never = desk.store.put_each, asyncio.Event()

    async def put(events: Any) -> Any:
        if any(event.aggregate_id == "blocked" for event, _ in events):
            await never.wait()
        return await put_each(events)

    desk.store.put_each = put  # type: ignore[attr-defined]
    both = [ask("PutIn", aggregate=name, cents=1) for name in ("blocked", "a")]
    reason = "the store did not answer the put by the deadline"
    for outcome in await desk.decide(*both, seconds=0.25):
        assert isinstance(outcome, Unavailable)
        assert outcome.reason.startswith(reason)
    blocked, beside = await desk.decide(*both, seconds=0.25)
    assert isinstance(blocked, Unavailable)
    assert isinstance(beside, Accepted)
    desk.store.put_each = put_each  # type: ignore[attr-defined]
    assert isinstance(await desk.send("PutIn", aggregate="blocked", cents=1), Accepted)


async def test_a_stream_that_is_down_after_the_put_leaves_the_command_accepted(
    desk: SyncFixture,
) -> None:
    desk.producer.before["produce"] = 2
    assert await desk.send("PutIn", "1", cents=1) == Accepted(id_of("1"), PLACE, 1)
    assert desk.manager.statistics.unpublished == 1
    assert await desk.send("PutIn", "2", cents=1) == Accepted(id_of("2"), PLACE, 2, False)
    assert desk.manager.statistics.unpublished == 2
    assert desk.produced() == []
    assert await desk.send("PutIn", "3", cents=1) == Accepted(id_of("3"), PLACE, 3)
    assert [event.version for event in desk.produced()] == [3]


async def test_a_produce_that_is_refused_is_counted_and_the_next_command_waits(
    desk: SyncFixture,
) -> None:
    async def refuse(records: Any) -> Any:
        raise TopicRefused("topic till.events")

    desk.producer.produce = refuse  # type: ignore[attr-defined]
    assert await put_one(desk)
    await until(lambda: desk.manager.statistics.unpublished == 1)
    with pytest.raises(TopicRefused):
        await put_one(desk)


@pytest.fixture
def stream(desk: SyncFixture) -> asyncio.Event:
    """Set once the stream acknowledges; until then each produce waits."""
    acknowledges, produce = asyncio.Event(), desk.producer.produce  # type: ignore[attr-defined]

    async def late(records: Any) -> Any:
        await acknowledges.wait()
        return await produce(records)

    desk.producer.produce = late  # type: ignore[attr-defined]
    return acknowledges


async def put_one(desk: SyncFixture, seconds: float = 10) -> bool:
    """Whether a command is told that the stream has its event, or is about to."""
    (outcome,) = await desk.decide(ask("PutIn", cents=1), seconds=seconds, settle=False)
    assert isinstance(outcome, Accepted)
    return outcome.published


async def test_a_command_is_accepted_once_stored_before_the_stream_has_it(
    desk: SyncFixture, stream: asyncio.Event
) -> None:
    assert await put_one(desk)
    assert (len(await desk.stored()), desk.produced()) == (1, [])
    stream.set()
    await until(desk.produced)
    assert desk.manager.statistics.unpublished == 0


@pytest.mark.parametrize(
    ("limit", "most"),
    [
        ("MAX_UNACKNOWLEDGED_RECORDS", 1),
        ("MAX_UNACKNOWLEDGED_BYTES", 1),
        ("MAX_UNACKNOWLEDGED_AGE", timedelta(0)),
    ],
)
async def test_a_command_waits_for_a_stream_that_does_not_keep_up(
    desk: SyncFixture, stream: asyncio.Event, monkeypatch: pytest.MonkeyPatch, limit: str, most: Any
) -> None:
    monkeypatch.setattr(event_publisher, limit, most)
    assert await put_one(desk)
    assert not await put_one(desk, seconds=0.1)
    assert desk.manager.statistics.unpublished == 1
    stream.set()  # what it takes after the deadline is not broken off
    await until(lambda: len(desk.produced()) == 2)
    assert await put_one(desk)


async def test_a_roles_command_waits_for_the_stream(
    desk: SyncFixture, stream: asyncio.Event
) -> None:
    async def agree() -> None:
        pass

    outcomes: list[Outcome] = []
    deadline = desk.clock.steady() + timedelta(seconds=0.1)
    await desk.manager.decide(
        [ask("PutIn", cents=1)],
        deadline,
        lambda _, outcome: outcomes.append(outcome),
        Permit(0, agree),
    )
    assert [isinstance(each, Accepted) and each.published for each in outcomes] == [False]


async def test_the_end_of_a_manager_waits_for_what_the_stream_has_not_acknowledged() -> None:
    desk = SyncFixture()
    async with desk.open():
        produce = desk.producer.produce  # type: ignore[attr-defined]

        async def late(records: Any) -> Any:
            await asyncio.sleep(0.05)
            return await produce(records)

        desk.producer.produce = late  # type: ignore[attr-defined]
        assert await put_one(desk)
        assert desk.produced() == []
    assert len(desk.produced()) == 1


async def test_after_the_deadline_nothing_is_begun(desk: SyncFixture) -> None:
    (outcome,) = await desk.decide(ask("PutIn", cents=1), seconds=0)
    assert outcome == Unavailable("the deadline has passed")
    assert desk.store.calls == []


async def test_what_is_late_at_its_write_is_not_put_though_others_of_its_batch_have_time(
    desk: SyncFixture,
) -> None:
    await desk.send("PutIn", "first", "b", cents=50)
    for cached in (False, True):
        past = desk.clock.steady()
        late = [
            ask("PutIn", f"one-{cached}", cents=1)._replace(deadline=past),
            ask("TakeOut", f"two-{cached}", "b", cents=1)._replace(deadline=past),
        ]
        outcomes = await desk.decide(*late, ask("PutIn", f"other-{cached}", "c", cents=1))
        assert outcomes[:2] == [Unavailable("the deadline has passed")] * 2
        assert isinstance(outcomes[2], Accepted)
        assert await desk.stored() == []
        assert len(await desk.stored("b")) == 1


@pytest.mark.parametrize("how", ["raises", "nothing", "unfoldable"])
async def test_a_decide_that_fails_is_the_outcome_of_its_command_alone(
    desk: SyncFixture, how: str
) -> None:
    broken, beside, behind = await desk.decide(
        ask("Break", "1", aggregate="b", how=how),
        ask("PutIn", cents=1),
        ask("PutIn", aggregate="b", cents=1),
    )
    assert isinstance(broken, Failed)
    assert broken.problem == "decide-failed"
    assert broken.reason.startswith("till 'b': Break 1 can't be decided: the domain's code raised")
    assert "ReplayFailed" not in broken.reason + broken.details
    assert isinstance(beside, Accepted)
    assert isinstance(behind, Accepted)
    assert [event.type for event in await desk.stored("b")] == ["Put"]


async def test_what_raised_is_in_the_details_and_not_in_the_reason(desk: SyncFixture) -> None:
    outcome = await desk.send("Break", how="raises")
    assert isinstance(outcome, Failed)
    assert "in decide" in outcome.details
    assert outcome.details.endswith("ValueError: broken")
    assert "manager.py" not in outcome.details, "only the team's own lines"
    assert "broken" not in str(outcome_fields(outcome))


# What is asked


@pytest.mark.parametrize(
    ("name", "data", "field"),
    [
        ("PutIn", {"cents": "1"}, "data.cents"),
        ("PutIn", {}, "data.cents"),
        ("PutIn", {"cents": 1, "more": 1}, "data.more"),
        ("Note", {"text": 1}, "data.text"),
        ("Absent", {}, "type"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_fields_name(
    name: str, data: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRecord) as refused:
        ask(name, **data)
    assert refused.value.field == field
