"""Waiting for a stage: what callers get, over the in-memory servers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Any

import pytest
from msgspec.structs import replace

from eventfleet.deciders.command_parser import ParsedCommand
from eventfleet.deciders.decider import Answer, Decider
from eventfleet.deciders.outcomes import Accepted, Outcome, Rejected, Repeated, Unavailable
from eventfleet.domains.orders import orders
from eventfleet.model.domain import Domain
from eventfleet.roles.notices import notices_of
from eventfleet.service import stage_waiter
from eventfleet.service.dispositions import Dispositions
from eventfleet.service.event_service import EventService
from eventfleet.service.stage_waiter import CommandFollower, StageWaiters, WaitResult
from eventfleet.states.querier import Querier
from eventfleet.stores import errors
from eventfleet.stores.background_task import background_tasks
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import (
    Disposition,
    DispositionKind,
    DomainStores,
    Notice,
    ParkEvent,
    Stage,
)
from eventfleet.stores.ids import Uuid7Generator
from eventfleet.stores.memory.channels import MemoryNotices
from eventfleet.stores.memory.dead_letters import MemoryDeadLetters
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.topics.event import EventRecord, Position, event_id
from eventfleet.topics.parked import Discard, DiscardedEvent, ParkedAggregate
from tests.unit.sync_domain import till

PAY = {"amount": 1}
STORED, FOLDED, RELAYED = Stage.APPENDED, Stage.SNAPSHOTTED, Stage.RELAYED


class AcceptingDecider:
    """A decider that answers as `outcome` says, and lets a test look on."""

    def __init__(self) -> None:
        self.seen: list[EventRecord] = []
        self.outcome: Callable[[EventRecord], Outcome] = lambda e: Accepted(e.id, "there")
        self.before: Callable[[EventRecord], Any] = lambda e: None

    async def decide(
        self, asked: Sequence[ParsedCommand], deadline: datetime, answer: Answer
    ) -> None:
        for index, each in enumerate(asked):
            self.seen.append(each.event)
            if told := self.before(each.event):
                await told
            answer(index, self.outcome(each.event))


def event_service(
    domain: Domain[Any],
    decider: Decider,
    events: MemoryEvents,
    follower: CommandFollower | None = None,
) -> EventService[Any]:
    clock = SystemClock()
    queries = Querier(domain, DomainStores(events, MemorySnapshots()), clock)
    return EventService(domain, decider, queries, clock, Uuid7Generator(), follower)


class Room:
    """An EventService on in-memory servers; `tell` is what workers do."""

    def __init__(self, domain: Any = orders) -> None:
        self.domain, self.decider, self.store = domain, AcceptingDecider(), MemoryEvents()
        self.notices = MemoryNotices()
        self.waiters = StageWaiters(self.notices)
        self.letters = MemoryDeadLetters()

    async def opened(self) -> AsyncIterator["Room"]:
        async with self.waiters.running():
            dispositions = Dispositions(self.store, self.letters)
            synchronous = self.domain.synchronous
            follower = CommandFollower(synchronous, self.store, self.waiters, dispositions)
            made = event_service(self.domain, self.decider, self.store, follower)
            async with made as self.service:
                yield self

    def wait(self, stage: Stage, **more: Any) -> "asyncio.Task[WaitResult]":
        more = {"patience": 20.0} | more
        return asyncio.create_task(self.service.send("a", "Pay", PAY, wait=stage, **more))

    async def tell(self, event: EventRecord, *stages: Stage) -> None:
        for stage in stages:
            await self.notices.publish(notices_of(stage, [event]))

    async def decided(self, count: int = 1) -> EventRecord:
        """The event of the latest command."""
        async with asyncio.timeout(20):
            while True:
                if len(self.decider.seen) >= count:
                    return self.decider.seen[-1]
                await asyncio.sleep(0.001)


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    async for room in Room().opened():
        yield room


@pytest.mark.parametrize("stage", [STORED, FOLDED, RELAYED])
async def test_the_answer_comes_with_the_notice(room: Room, stage: Stage) -> None:
    waited = room.wait(stage, command_id="c")
    event = await room.decided()
    await room.tell(event, stage)
    id = event_id("orders", "a", "c")
    assert await waited == WaitResult(Accepted(id, "there"), stage)


async def test_a_notice_that_is_faster_than_the_answer_counts(room: Room) -> None:
    room.decider.before = lambda event: room.tell(event, STORED)
    assert (await room.wait(STORED)).stage is STORED


@pytest.mark.parametrize(
    ("wanted", "told", "reached"),
    [
        (STORED, (), Stage.ACCEPTED),
        (STORED, (RELAYED,), STORED),
        (FOLDED, (), Stage.ACCEPTED),
        (FOLDED, (STORED,), STORED),
        (FOLDED, (STORED, RELAYED), STORED),
        (RELAYED, (FOLDED,), STORED),
        (RELAYED, (FOLDED, RELAYED), RELAYED),
    ],
)
async def test_in_the_end_the_last_stage_on_the_way_is_told(
    room: Room, wanted: Stage, told: tuple[Stage, ...], reached: Stage
) -> None:
    room.decider.before = lambda event: room.tell(event, *told)
    waited = await room.wait(wanted, patience=0.1)
    assert isinstance(waited.outcome, Accepted)
    assert waited.stage is reached


async def test_in_the_end_the_store_has_a_word(room: Room) -> None:
    waited = room.wait(FOLDED, patience=0.1)
    await room.store.put([await room.decided()], 0)
    assert (await waited).stage is STORED


async def test_a_repeat_does_not_wait_for_notices_that_came_long_ago(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_waiter, "REPEAT_SECONDS", 0.05)
    sending = room.wait(RELAYED, command_id="c", patience=0.05)
    await room.store.put([await room.decided()], 0)
    assert (await sending).stage is STORED
    room.decider.outcome = lambda event: Repeated(event.id, "there")
    async with asyncio.timeout(20):
        assert (await room.wait(RELAYED, command_id="c", patience=3600)).stage is STORED


async def test_a_repeat_of_a_command_under_way_gets_its_notices(room: Room) -> None:
    room.decider.outcome = lambda event: Repeated(event.id, "there")
    sending = room.wait(RELAYED, command_id="c", patience=3600)
    await room.tell(await room.decided(), RELAYED)
    assert (await sending).stage is RELAYED


async def test_a_repeat_that_is_stored_is_readable_at_once(room: Room) -> None:
    room.decider.outcome = lambda event: Repeated(event.id, "there")
    sending = room.wait(STORED, command_id="c", patience=0.1)
    event = await room.decided()
    assert (await sending).stage is Stage.ACCEPTED
    await room.store.put([event], 0)
    async with asyncio.timeout(20):
        assert (await room.wait(STORED, command_id="c", patience=3600)).stage is STORED


async def test_all_who_wait_for_an_event_are_told(room: Room) -> None:
    waits = [room.wait(stage, command_id="c") for stage in (STORED, FOLDED, STORED)]
    event = await room.decided(3)
    await room.tell(event, STORED, FOLDED)
    assert [w.stage for w in await asyncio.gather(*waits)] == [STORED, FOLDED, STORED]


@pytest.mark.parametrize(
    "outcome", [Rejected("no"), Unavailable("away")], ids=["rejected", "unavailable"]
)
async def test_what_is_not_accepted_is_answered_at_once(room: Room, outcome: Outcome) -> None:
    room.decider.outcome = lambda event: outcome
    async with asyncio.timeout(20):
        assert await room.wait(STORED, patience=3600) == WaitResult(outcome, None)


async def test_who_does_not_wait_leaves_no_trace(room: Room) -> None:
    outcome = await room.service.send("a", "Pay", PAY)
    assert isinstance(outcome, Accepted)
    waited = await room.wait(Stage.ACCEPTED)
    assert (type(waited.outcome), waited.stage) == (Accepted, Stage.ACCEPTED)
    assert [event.reply_to for event in room.decider.seen] == [None, None]
    assert background_tasks() == [], "nothing is subscribed to"


async def test_the_channel_is_listened_to_before_a_command_is_sent(room: Room) -> None:
    listening = []
    room.decider.before = lambda event: listening.append(room.waiters._subscribed.is_set())
    await room.wait(STORED, patience=0.01)
    assert listening == [True]


async def test_only_one_channel_is_used_by_a_service(room: Room) -> None:
    waits = [room.wait(STORED, patience=0.05) for _ in range(3)]
    await asyncio.gather(*waits)
    channels = {(event.reply_to or "").rpartition("/")[0] for event in room.decider.seen}
    assert channels == {room.waiters.channel}
    tokens = [(event.reply_to or "").rpartition("/")[2] for event in room.decider.seen]
    assert tokens == [event.id for event in room.decider.seen]


async def test_without_a_server_the_outcome_comes_with_what_is_known(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_waiter, "SUBSCRIBE_SECONDS", 0.01)
    room.notices.stop()
    waited = await room.wait(STORED, patience=0.1)
    assert isinstance(waited.outcome, Accepted)
    assert waited.stage is Stage.ACCEPTED


async def test_a_lost_connection_is_made_anew(room: Room) -> None:
    await room.wait(STORED, patience=0.01)
    room.notices.stop()
    lost = room.wait(STORED, patience=0.1)
    await room.decided(2)
    room.notices.start()
    assert (await lost).stage is Stage.ACCEPTED
    waited = room.wait(RELAYED)
    await room.tell(await room.decided(3), RELAYED)
    assert (await waited).stage is RELAYED


async def test_a_listener_that_fails_unexpectedly_listens_again(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribe = room.notices.subscribe
    failures: list[Exception] = [LookupError("a bug")]

    def fail_once(channel: str) -> Any:
        if failures:
            raise failures.pop()
        return subscribe(channel)

    monkeypatch.setattr(room.notices, "subscribe", fail_once)
    waited = room.wait(RELAYED)
    await room.tell(await room.decided(), RELAYED)
    assert (await waited).stage is RELAYED


async def test_callers_that_wait_are_bounded(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_waiter, "MAX_WAITERS", 2)
    waits = [room.wait(STORED) for _ in range(2)]
    await room.decided(2)
    waited = await room.wait(STORED)
    assert isinstance(waited.outcome, Unavailable)
    assert waited.stage is None
    assert len(room.decider.seen) == 2, "it was not sent"
    for event in room.decider.seen:
        await room.tell(event, STORED)
    await asyncio.gather(*waits)
    assert room.waiters._waiters == {}


async def test_a_caller_that_goes_away_is_forgotten(room: Room) -> None:
    wait = room.wait(STORED)
    await room.decided()
    wait.cancel()
    await asyncio.wait({wait})
    assert room.waiters._waiters == {}


async def test_a_store_that_does_not_answer_holds_up_nobody(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(ids: Any) -> Any:
        raise errors.ServerUnavailable("away")

    async def hangs(ids: Any) -> Any:
        await asyncio.sleep(3600)

    monkeypatch.setattr(stage_waiter, "LOOKUP_SECONDS", 0.01)
    for find in (away, hangs):
        monkeypatch.setattr(room.store, "find", find)
        assert (await room.wait(STORED, patience=0.01)).stage is Stage.ACCEPTED


async def test_notices_of_others_are_passed_over(room: Room) -> None:
    waited = room.wait(STORED, patience=0.1)
    await room.decided()
    await room.notices.publish({room.waiters.channel: [Notice("another", STORED)]})
    assert (await waited).stage is Stage.ACCEPTED


async def test_a_service_without_notices_says_so() -> None:
    async with event_service(orders, AcceptingDecider(), MemoryEvents()) as service:
        with pytest.raises(TypeError, match="without notices"):
            await service.send("a", "Pay", PAY, wait=STORED)


# Synchronous domains


@pytest.fixture
async def till_room() -> AsyncIterator[Room]:
    async for room in Room(till).opened():
        yield room


async def test_what_a_synchronous_domain_accepts_is_readable_at_once(till_room: Room) -> None:
    send = till_room.service.send
    for outcome in (Accepted("e", "there", 1), Repeated("e", "there", 1)):
        till_room.decider.outcome = lambda event, outcome=outcome: outcome
        waited = await send("a", "PutIn", {"cents": 1}, wait=STORED, patience=3600)
        assert waited == WaitResult(outcome, STORED)
    assert [event.reply_to for event in till_room.decider.seen] == [None, None]
    assert background_tasks() == []


async def test_further_stages_of_a_synchronous_domain_come_by_notice(till_room: Room) -> None:
    send = till_room.service.send
    till_room.decider.before = lambda event: till_room.tell(event, STORED, FOLDED)
    waited = await send("a", "PutIn", {"cents": 1}, wait=FOLDED, patience=3600)
    assert waited.stage is FOLDED
    waited = await send("a", "PutIn", {"cents": 1}, wait=RELAYED, patience=0.01)
    assert waited.stage is STORED


# What does not reach the stage by itself

REASON = "LookupError: thirteen"
PARKED = Disposition(DispositionKind.PARKED, "append", REASON)


@pytest.mark.parametrize("wanted", [STORED, FOLDED, RELAYED])
@pytest.mark.parametrize("kind", DispositionKind)
async def test_the_wait_ends_with_what_append_has_done_instead(
    room: Room, wanted: Stage, kind: DispositionKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_waiter, "REPEAT_SECONDS", 0.05)
    waited = room.wait(wanted, patience=3600)
    disposition = PARKED._replace(kind=kind)
    await room.notices.publish(notices_of(STORED, [await room.decided()], disposition))
    async with asyncio.timeout(20):
        result = await waited
    assert (result.stage, result.disposition) == (Stage.ACCEPTED, disposition)


async def test_what_another_role_parks_does_not_count(room: Room) -> None:
    waited = room.wait(STORED)
    event = await room.decided()
    parked = PARKED._replace(role="relay")
    await room.notices.publish(notices_of(RELAYED, [event], parked))
    await room.tell(event, STORED)
    result = await waited
    assert (result.stage, result.disposition) == (STORED, None)


async def test_a_superseded_record_may_be_followed_by_one_that_is_placed(room: Room) -> None:
    waited = room.wait(STORED)
    event = await room.decided()
    superseded = Disposition(DispositionKind.SUPERSEDED, "append")
    await room.notices.publish(notices_of(STORED, [event], superseded))
    await room.tell(event, STORED)
    result = await waited
    assert (result.stage, result.disposition) == (STORED, None)


def placed(event: EventRecord) -> EventRecord:
    return replace(event, version=1, position="0-0-0")


def parked_in(role: str, event: EventRecord) -> ParkedAggregate:
    return ParkedAggregate(role, 0, "a", 1, 1, event.id, event.type, REASON, "", 1, event.time)


async def test_a_parked_event_that_is_stored_is_not_appended(room: Room) -> None:
    """No query has it; nor does the wait end in vain where the notice is lost."""
    sending = room.wait(STORED, command_id="c", patience=0.05)
    event = replace(await room.decided(), version=1)
    await room.store.write([ParkEvent(event, Position(0, 0, 0))])
    await room.letters.park([parked_in("append", event)])
    result = await sending
    assert (result.stage, result.disposition) == (Stage.ACCEPTED, PARKED)
    room.decider.outcome = lambda event: Repeated(event.id, "there")
    async with asyncio.timeout(20):
        again = await room.wait(STORED, command_id="c", patience=3600)
    assert (again.stage, again.disposition) == (Stage.ACCEPTED, PARKED)


@pytest.mark.parametrize("role", ["append", "snapshot"])
async def test_a_discarded_event_is_told_as_such(room: Room, role: str) -> None:
    room.decider.outcome = lambda event: Repeated(event.id, "there")
    await room.wait(STORED, command_id="c", patience=0.05)
    event = placed(await room.decided())
    await room.store.write([event])
    await room.store.mark_discarded(event.key)
    discard = Discard("a mistake", "ann", event.time)
    await room.letters.note_discarded([DiscardedEvent(role, "a", 1, event.id, discard)])
    result = await room.wait(STORED, command_id="c", patience=3600)
    assert result.disposition == Disposition(DispositionKind.DISCARDED, role)


@pytest.mark.parametrize(
    ("wanted", "role"),
    [(FOLDED, "snapshot"), (RELAYED, "relay"), (Stage.PROJECTED, "project")],
)
@pytest.mark.parametrize("outcome", [Accepted, Repeated])
async def test_what_a_role_parks_or_discards_is_looked_up(
    room: Room, wanted: Stage, role: str, outcome: Any
) -> None:
    room.decider.outcome = lambda event: outcome(event.id, "there")
    sending = room.wait(wanted, command_id="c", patience=0.05)
    event = placed(await room.decided())
    await room.store.write([event])
    assert (await sending).disposition is None
    await room.letters.park([parked_in(role, event)])
    result = await room.wait(wanted, command_id="c", patience=0.05)
    assert (result.stage, result.disposition) == (STORED, PARKED._replace(role=role))
    await room.letters.unpark(role, ["a"])
    discard = Discard("a mistake", "ann", event.time)
    await room.letters.note_discarded([DiscardedEvent(role, "a", 1, event.id, discard)])
    result = await room.wait(wanted, command_id="c", patience=0.05)
    assert result.disposition == Disposition(DispositionKind.DISCARDED, role)
