"""EventService: batches, their order, and what callers get, over the in-memory servers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from msgspec.structs import replace

from eventfleet.deciders.decider import Answer
from eventfleet.deciders.direct_decider import DirectDecider
from eventfleet.deciders.outcomes import Accepted, Outcome, Repeated, Unavailable
from eventfleet.deciders.proposed_event import ProposedEvent
from eventfleet.domains.bank import Withdraw, bank
from eventfleet.domains.orders import Pay, Place, orders
from eventfleet.domains.process_log import process_log
from eventfleet.model.payloads import Command
from eventfleet.service import command_batcher
from eventfleet.service.event_service import EventService
from eventfleet.states.querier import Querier
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import DomainStores
from eventfleet.stores.ids import Uuid7Generator
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import MemoryLog, MemoryProducer, MemoryReader
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.topics.codec import decode
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EventRecord, event_id
from eventfleet.topics.names import Topics
from eventfleet.topics.topic_specs import declare_topics
from tests.unit.eventually import until

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PLACE = {"customer": "ann", "total": 1999, "currency": "EUR"}


class RecordingDecider:
    """A decider that remembers its batches, and holds those that `holds` says."""

    def __init__(self, holds: Callable[[ProposedEvent], bool] = lambda proposed: False) -> None:
        self.holds = holds
        self.release = asyncio.Event()
        self.batches: list[list[str]] = []
        self.new: list[str] = []
        self.deadlines: list[tuple[Any, Any]] = []
        self.running = 0
        self.most = 0
        self.error: Exception | None = None

    async def decide(
        self, commands: Sequence[ProposedEvent], deadline: datetime, answer: Answer
    ) -> None:
        self.deadlines += [(proposed.deadline, deadline) for proposed in commands]
        self.batches.append([proposed.event.aggregate_id for proposed in commands])
        self.new += [
            proposed.event.aggregate_id for proposed in commands if getattr(proposed, "new", False)
        ]
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        held = [index for index, proposed in enumerate(commands) if self.holds(proposed)]
        for index in set(range(len(commands))) - set(held):
            answer(index, Accepted(commands[index].event.id, "there"))
        if held:
            await self.release.wait()
        for index in held:
            answer(index, Accepted(commands[index].event.id, "there"))
        self.running -= 1


def service(
    decider: Any, domain: Any = orders, events: MemoryEvents | None = None
) -> EventService[Any]:
    clock = SystemClock()
    queries = Querier(domain, DomainStores(events or MemoryEvents(), MemorySnapshots()), clock)
    return EventService(domain, decider, queries, clock, Uuid7Generator())


async def pay(to: EventService[Any], order: str, **more: Any) -> Outcome:
    return await to.send(order, "Pay", {"amount": 1}, **more)


# Their ids


async def test_a_command_without_an_id_of_its_own_is_known_as_new() -> None:
    decider = RecordingDecider()
    async with service(decider) as sent_to:
        await pay(sent_to, "named", command_id="pay-1")
        await pay(sent_to, "nameless")
        await pay(sent_to, "fresh", command_id="pay-2", is_new=True)
    assert decider.new == ["nameless", "fresh"]


# Batches


async def test_what_is_sent_at_the_same_time_goes_together() -> None:
    decider = RecordingDecider()
    async with service(decider) as sent_to:
        await asyncio.gather(*(pay(sent_to, f"order-{n}") for n in range(100)))
    assert [len(batch) for batch in decider.batches] == [100]


async def test_each_command_of_a_batch_keeps_its_own_deadline() -> None:
    decider = RecordingDecider()
    async with service(decider) as sent_to:
        await asyncio.gather(pay(sent_to, "a", timeout=1), pay(sent_to, "b", timeout=60))
    (own, of_batch), (later, _) = decider.deadlines
    assert own < of_batch == later


async def test_what_is_sent_while_a_batch_is_recent_goes_into_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command_batcher, "MAX_SPACING_SECONDS", 60)
    decider = RecordingDecider(lambda proposed: proposed.event.aggregate_id == "first")
    async with service(decider) as sent_to:
        first = asyncio.create_task(pay(sent_to, "first"))
        await until(lambda: decider.batches)
        later = [asyncio.create_task(pay(sent_to, f"order-{n}")) for n in range(3)]
        await asyncio.sleep(0.05)
        assert decider.batches == [["first"]]
        decider.release.set()
        await asyncio.gather(first, *later)
    assert decider.batches == [["first"], ["order-0", "order-1", "order-2"]]


async def test_a_batch_starts_beside_one_that_is_no_longer_recent() -> None:
    decider = RecordingDecider(lambda proposed: proposed.event.aggregate_id == "first")
    async with service(decider) as sent_to:
        first = asyncio.create_task(pay(sent_to, "first"))
        await until(lambda: decider.batches)
        assert isinstance(await pay(sent_to, "second"), Accepted)
        assert not first.done()
        decider.release.set()
        await first


async def test_a_batch_and_the_batches_at_once_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command_batcher, "SLOW_BATCH_SECONDS", 60.0)
    decider = RecordingDecider(lambda proposed: True)
    async with service(decider) as sent_to:
        paying = asyncio.gather(*(pay(sent_to, f"order-{n}") for n in range(5000)))
        await until(lambda: decider.running == command_batcher.MAX_BATCHES)
        decider.release.set()
        await paying
    assert sum(map(len, decider.batches)) == 5000
    assert max(map(len, decider.batches)) == command_batcher.MAX_BATCH_COMMANDS
    assert decider.most == command_batcher.MAX_BATCHES


async def test_a_command_whose_caller_left_before_its_batch_is_in_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command_batcher, "MAX_SPACING_SECONDS", 60.0)
    decider = RecordingDecider(lambda proposed: True)
    async with service(decider) as sent_to:
        first = asyncio.create_task(pay(sent_to, "order-1"))
        await until(lambda: decider.running == 1)
        leaving = asyncio.create_task(pay(sent_to, "order-2"))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait({leaving})
        decider.release.set()
        await first
        assert isinstance(await pay(sent_to, "order-3"), Accepted)
    assert decider.batches == [["order-1"], ["order-3"]]


async def test_an_aggregate_has_one_command_in_a_batch_and_keeps_its_order() -> None:
    decider, answered = RecordingDecider(), list[str]()

    async def send(name: str) -> None:
        await pay(sent_to, "order-1", command_id=name)
        answered.append(name)

    async with service(decider) as sent_to:
        await asyncio.gather(*(send(str(n)) for n in range(20)), pay(sent_to, "order-2"))
    assert [batch.count("order-1") for batch in decider.batches] == [1] * 20
    assert decider.batches[0] == ["order-1", "order-2"]
    assert answered == [str(n) for n in range(20)]


async def test_an_answer_does_not_wait_for_the_others_of_its_batch() -> None:
    decider = RecordingDecider(lambda proposed: proposed.event.aggregate_id == "slow")
    async with service(decider) as sent_to:
        slow = asyncio.create_task(pay(sent_to, "slow"))
        assert isinstance(await pay(sent_to, "fast"), Accepted)
        assert isinstance(await pay(sent_to, "fast"), Accepted)
        assert decider.batches == [["fast", "slow"], ["fast"]]
        assert not slow.done()
        decider.release.set()
        assert isinstance(await slow, Accepted)


async def test_slow_batches_do_not_hold_up_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command_batcher, "SLOW_BATCH_SECONDS", 0.01)
    decider = RecordingDecider(lambda proposed: proposed.event.aggregate_id.startswith("slow"))
    async with service(decider) as sent_to:
        for number in range(command_batcher.MAX_BATCHES):
            held = asyncio.create_task(pay(sent_to, f"slow-{number}"))
            await until(lambda n=number: len(decider.batches) == n + 1)
        assert isinstance(await pay(sent_to, "fast"), Accepted)
        decider.release.set()
        await held


# What callers get


async def test_a_command_that_is_not_decided_in_time_is_unavailable() -> None:
    decider = RecordingDecider(lambda proposed: True)
    async with service(decider) as sent_to:
        first = asyncio.create_task(pay(sent_to, "order-1"))
        await until(lambda: decider.batches)
        outcome = await pay(sent_to, "order-1", timeout=0.01)
        assert outcome == Unavailable("not decided within 0.01 s")
        decider.release.set()
        assert isinstance(await first, Accepted)
    assert decider.batches == [["order-1"]], "nobody waited for the second any more"


async def test_more_than_may_wait_overflows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_batcher, "MAX_WAITING_COMMANDS", 3)
    decider = RecordingDecider(lambda proposed: not decider.release.is_set())
    async with service(decider) as sent_to:
        calls = [asyncio.create_task(pay(sent_to, f"order-{n}")) for n in range(6)]
        await until(lambda: decider.batches)
        calls[3].cancel()
        late = await pay(sent_to, "order-7", timeout=0.01)
        assert late == Unavailable("not decided within 0.01 s")
        assert decider.batches == [["order-0", "order-1", "order-2"]]
        decider.release.set()
        outcomes = await asyncio.gather(*calls[:3], *calls[4:])
    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    decided = [order for batch in decider.batches for order in batch]
    assert sorted(decided) == [f"order-{n}" for n in (0, 1, 2, 4, 5)]


async def test_what_overflows_is_answered_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_batcher, "MAX_WAITING_COMMANDS", 1)
    decider = RecordingDecider(lambda proposed: True)
    async with service(decider) as sent_to:
        calls = [asyncio.create_task(pay(sent_to, f"order-{n}")) for n in range(3)]
        await until(lambda: decider.batches)
    assert await asyncio.gather(*calls) == [Unavailable("the service is closed")] * 3


async def test_a_caller_that_goes_away_hinders_nobody() -> None:
    decider = RecordingDecider(lambda proposed: proposed.event.causation_id == "1")
    async with service(decider) as sent_to:
        calls = [asyncio.create_task(pay(sent_to, "order-1", command_id=str(n))) for n in (1, 2, 3)]
        await until(lambda: decider.batches)
        for call in calls[:2]:
            call.cancel()
        await asyncio.wait(calls[:2])
        decider.release.set()
        assert isinstance(await calls[2], Accepted)
    assert len(decider.batches) == 2


async def test_a_fault_of_the_decider_reaches_the_callers_and_the_next_go_on() -> None:
    decider = RecordingDecider()
    async with service(decider) as sent_to:
        decider.error = ZeroDivisionError("a bug")
        for outcome in await asyncio.gather(
            pay(sent_to, "order-1"), pay(sent_to, "order-2"), return_exceptions=True
        ):
            assert isinstance(outcome, ZeroDivisionError)
        decider.error = None
        assert isinstance(await pay(sent_to, "order-1"), Accepted)


async def test_leaving_answers_what_waits_and_what_is_in_a_batch() -> None:
    decider = RecordingDecider(lambda proposed: True)
    async with service(decider) as sent_to:
        calls = [asyncio.create_task(pay(sent_to, "order-1")) for _ in range(3)]
        await until(lambda: decider.batches)
    for outcome in await asyncio.gather(*calls):
        assert outcome == Unavailable("the service is closed")
    assert await pay(sent_to, "order-1") == Unavailable("the service is closed")


async def test_a_command_gets_an_id_and_its_event_says_where_it_comes_from() -> None:
    seen: list[EventRecord] = []
    decider = RecordingDecider(lambda proposed: bool(seen.append(proposed.event)))
    async with service(decider) as sent_to:
        await pay(sent_to, "o", command_id="c-1", correlation_id="k", actor="ann", traceparent="t")
        await pay(sent_to, "o")
        await pay(sent_to, "o", causation_id="e-1")
    first, second, third = seen
    assert (first.id, first.type) == (event_id("orders", "o", "c-1"), "Paid")
    assert (first.causation_id, first.correlation_id) == ("c-1", "k")
    assert (first.actor, first.traceparent) == ("ann", "t")
    assert second.causation_id
    assert second.causation_id == second.correlation_id
    assert second.id == event_id("orders", "o", second.causation_id)
    assert third.causation_id == "e-1"
    assert len({event.id for event in seen}) == 3


async def test_a_commands_time_is_its_events_in_utc_and_milliseconds() -> None:
    seen: list[EventRecord] = []
    decider = RecordingDecider(lambda proposed: bool(seen.append(proposed.event)))
    began = datetime.now(UTC)
    async with service(decider) as sent_to:
        await pay(sent_to, "o", time=NOW - timedelta(days=900))
        zone = timezone(timedelta(hours=9))
        await pay(sent_to, "o", time=datetime(2020, 5, 6, 8, 30, 0, 123_456, tzinfo=zone))
        await pay(sent_to, "o", time=None)
    past, elsewhere, present = (event.time for event in seen)
    assert past == NOW - timedelta(days=900)
    assert elsewhere == datetime(2020, 5, 5, 23, 30, 0, 123_000, tzinfo=UTC)
    assert present >= began.replace(microsecond=began.microsecond // 1000 * 1000)


async def test_a_commands_time_is_that_of_a_synchronous_domains_events() -> None:
    seen: list[EventRecord] = []
    decider = RecordingDecider(lambda command: bool(seen.append(command.event)))
    async with service(decider, bank) as sent_to:
        await sent_to.send("a", Withdraw(amount=1), time=NOW)
    assert [event.time for event in seen] == [NOW]


@pytest.mark.parametrize(
    ("aggregate_id", "command", "data", "more", "field"),
    [
        ("", "Pay", {"amount": 1}, {}, "subject"),
        ("o" * 256, "Pay", {"amount": 1}, {}, "subject"),
        ("o\0", "Pay", {"amount": 1}, {}, "subject"),
        ("o", "Pay", {"amount": 1}, {"command_id": ""}, "id"),
        ("o", "Pay", {"amount": 1}, {"command_id": "c" * 256}, "id"),
        ("o", "Pay", {"amount": 1}, {"actor": 7}, "actor"),
        ("o", "Pay", {"amount": 1}, {"time": datetime(2026, 1, 1)}, "time"),
        ("o", "Pay", {"amount": 1}, {"time": "yesterday"}, "time"),
        ("o", "Bribe", {"amount": 1}, {}, "type"),
        ("o", "Paid", {"amount": 1}, {}, "type"),
        ("o", "Pay", {"amount": 0}, {}, "data.amount"),
        ("o", "Pay", {"amount": 2**63}, {}, "data.amount"),
        ("o", "Pay", {}, {}, "data.amount"),
        ("o", "Pay", {"amount": 1, "tip": 1}, {}, "data.tip"),
        ("o", "Pay", [1], {}, "data"),
        ("o", "Pay", {"amount": object()}, {}, "data"),
    ],
)
async def test_bad_input_names_its_field(
    aggregate_id: str, command: str, data: Any, more: dict[str, Any], field: str
) -> None:
    decider = RecordingDecider()
    async with service(decider) as sent_to:
        with pytest.raises(InvalidRecord) as caught:
            await sent_to.send(aggregate_id, command, data, **more)
    assert caught.value.field == field
    assert decider.batches == []


# Typed commands


class Bribe(Command):
    amount: int = 1


def impostor() -> Command:
    """Of another class than the domain's Pay."""
    return type("Pay", (Command,), {"__annotations__": {"amount": int}})(amount=1)


async def test_a_typed_command_becomes_the_same_event_as_its_name_and_data() -> None:
    seen: list[ProposedEvent] = []
    decider = RecordingDecider(lambda proposed: bool(seen.append(proposed)))
    async with service(decider) as sent_to:
        await sent_to.send("o", Pay(amount=7), command_id="c")
        await sent_to.send("o", "Pay", {"amount": 7}, command_id="c")
    first, second = (replace(proposed.event, time=NOW) for proposed in seen)
    assert first == second
    assert first.type == "Paid"
    assert decode(seen[0].value).data == {"amount": 7}


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (Pay(amount=0), "data.amount"),
        (Pay(amount="5"), "data.amount"),  # type: ignore[arg-type]
        (Pay(amount=2**63), "data.amount"),
        (Pay(amount=object()), "data"),  # type: ignore[arg-type]
        (Place(customer="ann", total=1, currency="euro"), "data.currency"),
        (Bribe(), "type"),
        (impostor(), "type"),
        (Withdraw(amount=1), "type"),
    ],
)
async def test_a_typed_command_is_validated_as_data_is(command: Command, field: str) -> None:
    decider = RecordingDecider()
    async with service(decider) as sent_to:
        with pytest.raises(InvalidRecord) as caught:
            await sent_to.send("o", command)
    assert caught.value.field == field
    assert decider.batches == []


async def test_a_typed_command_of_a_synchronous_domain_keeps_its_payload() -> None:
    seen: list[Any] = []
    decider = RecordingDecider(lambda command: bool(seen.append(command.payload)))
    async with service(decider, bank) as sent_to:
        await sent_to.send("a", Withdraw(amount=3))
        with pytest.raises(InvalidRecord):
            await sent_to.send("a", Withdraw(amount=-3))
    assert seen == [Withdraw(amount=3)]


async def test_a_typed_command_takes_no_data_beside_it() -> None:
    async with service(RecordingDecider()) as sent_to:
        with pytest.raises(TypeError, match="with a name only"):
            await sent_to.send("o", Pay(amount=1), {"amount": 1})  # type: ignore[call-overload]


async def test_a_domain_without_command_classes_takes_no_typed_command() -> None:
    async with service(RecordingDecider(), process_log) as sent_to:
        with pytest.raises(InvalidRecord, match="Bribe is not a command class of process_log"):
            await sent_to.send("case-1", Bribe())


# Queries


@asynccontextmanager
async def asked() -> AsyncIterator[EventService[Any]]:
    """Over an order with two events."""
    store = MemoryEvents()
    data = {"Placed": PLACE, "Paid": {"amount": 1999}}
    for version, kind in enumerate(data, 1):
        event = EventRecord(
            id=f"e-{version}",
            type=kind,
            domain="orders",
            aggregate_id="o",
            time=NOW + timedelta(hours=version),
            data=data[kind],
            schema_version=orders.latest_schema_version(kind),
            version=version,
            position=f"0-0-{version}",
        )
        await store.write([event])
    async with service(RecordingDecider(), events=store) as asked_of, asked_of.queries.running():
        yield asked_of


async def test_it_answers_the_queries_of_its_domain() -> None:
    async with asked() as service:
        assert [event.type async for event in service.events("o")] == ["Placed", "Paid"]
        assert (await service.feed("", 1)).items[0].type == "Placed"
        assert await service.snapshot("o") is None
        latest = await service.latest("o")
        assert latest
        assert (latest.version, latest.state.status) == (2, "paid")
        await until(lambda: service.queries.saver.saved)
        snapshot = await service.snapshot("o")
        assert snapshot
        assert snapshot.version == 2
        placed, then = await service.at("o", 1), await service.at_time("o", NOW.replace(hour=1))
        assert placed == then
        assert placed
        assert placed.state.status == "placed"
        diff = await service.diff("o", 1, 2)
        assert diff
        assert {"op": "replace", "path": "/status", "value": "paid"} in diff.patch
        missing = await service.missing("o", 1)
        assert (missing.latest, [event.type for event in missing.events]) == (2, ["Paid"])


@pytest.mark.parametrize("collection", [list, set, tuple, frozenset])
async def test_types_are_any_collection(collection: Callable[[list[str]], Any]) -> None:
    async with asked() as service:
        found = service.events("o", types=collection(["Paid"]))
        assert [event.type async for event in found] == ["Paid"]


async def test_types_as_a_str_are_refused() -> None:
    async with asked() as service:
        with pytest.raises(TypeError, match="types is the str 'Paid'"):
            service.events("o", types="Paid")


# Domains without rules


@asynccontextmanager
async def direct() -> AsyncIterator[tuple[EventService[Any], MemoryLog, MemoryEvents]]:
    log, store = MemoryLog(), MemoryEvents(3)
    for spec in declare_topics(Topics.of("process_log", ""), 3, 1, -1):
        log.create(spec)
    decider = DirectDecider(
        *(store, MemoryProducer(log), "process_log.events", SystemClock()), partitions=3
    )
    async with service(decider, process_log) as sent_to:
        yield sent_to, log, store


async def test_without_rules_every_command_becomes_the_event_of_its_name() -> None:
    async with direct() as (sent_to, log, _):
        outcomes = [await sent_to.send("case-1", name, {"n": 1}) for name in ("open", "close")]
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)
        [place] = {outcome.place for outcome in outcomes if isinstance(outcome, Accepted)}
        topic, partition = place.split("/")
        reader = MemoryReader(log)
        records = [record async for record in reader.read(topic, int(partition), 0, 9)]
        assert [decode(record.value).type for record in records] == ["open", "close"]


async def test_without_rules_a_stored_command_is_a_repeat() -> None:
    async with direct() as (sent_to, log, store):
        first = await sent_to.send("case-1", "open", {"n": 1}, command_id="c")
        assert isinstance(first, Accepted)
        topic, partition = first.place.split("/")
        [record] = [r async for r in MemoryReader(log).read(topic, int(partition), 0, 9)]
        await store.put([decode(record.value)], 0)
        again = await sent_to.send("case-1", "open", {"n": 1}, command_id="c")
        assert again == Repeated(first.event_id, first.place)
