"""The request diagram of synchronous domains and the query diagram, arrow by arrow, in memory.

Each test is headed by its arrow, and looks at the component that the arrow names.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from eventfleet.deciders.commander import Commander
from eventfleet.deciders.event_publisher import EventPublisher
from eventfleet.deciders.manager import Manager
from eventfleet.deciders.outcomes import Accepted, Failed, Rejected, Unavailable
from eventfleet.service.event_service import EventService
from eventfleet.states import latest_states
from eventfleet.states.latest_states import LatestState, LatestStateQuery
from eventfleet.states.live_state import LiveState, ReplayFailed
from eventfleet.states.lru_cache import LruCache
from eventfleet.states.querier import Querier
from eventfleet.states.snapshot_saver import SnapshotSaver
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import DomainStores, Snapshot, TailQuery
from eventfleet.stores.errors import Duplicate, ServerUnavailable
from eventfleet.stores.ids import Uuid7Generator
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import MemoryLog, MemoryProducer
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.topics.codec import decode
from eventfleet.topics.event import EventRecord, event_id
from eventfleet.topics.names import Topics
from eventfleet.topics.topic_specs import declare_topics
from tests.unit.eventually import until
from tests.unit.sync_domain import NOW, Till, till

CLOCK = SystemClock()
FINGERPRINT = till.state_shape.fingerprint


class Traced:
    """A component whose calls are noted, in their order with those of the others."""

    def __init__(self, name: str, inner: Any, trace: list[tuple[str, Any]]) -> None:
        self._name, self._inner, self._trace = name, inner, trace
        self.failing: set[str] = set()

    def __getattr__(self, method: str) -> Any:
        function: Callable[..., Any] = getattr(self._inner, method)

        def call(*args: Any, **named: Any) -> Any:
            self._trace.append((f"{self._name}.{method}", args[0] if args else None))
            return self._fail(method) if method in self.failing else function(*args, **named)

        return call

    async def _fail(self, method: str) -> None:
        raise ServerUnavailable(f"{method} failed")


class Components:
    """The components of the diagrams, on storages and a stream in memory."""

    def __init__(self) -> None:
        self.trace: list[tuple[str, Any]] = []
        self.log, self.events = MemoryLog(), MemoryEvents(domain="till")
        self.snapshots = MemorySnapshots()
        for spec in declare_topics(Topics.of("till", ""), 1, 1, -1):
            self.log.create(spec)
        self.event_storage = self._traced("EventStorage", self.events)
        self.snapshot_storage = self._traced("SnapshotStorage", self.snapshots)
        self.stream = self._traced("MessageStream", MemoryProducer(self.log))
        stores = DomainStores(self.event_storage, self.snapshot_storage)
        self.querier: Querier[Till] = Querier(till, stores, CLOCK, cache=LruCache(10))
        saver = SnapshotSaver(till, self.snapshot_storage, CLOCK, limit=1000)
        self.commander = Commander(self.event_storage, saver, partitions=1)
        publisher = EventPublisher(self.stream, "till.events", CLOCK, partitions=1)
        querier = self._traced("Querier", self.querier)
        querier.latest_states = self._traced("Querier", self.querier.latest_states)
        commander = self._traced("Commander", self.commander)
        self.manager = Manager(till, querier, commander, publisher, CLOCK)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Components"]:
        traced = self._traced("Manager", self.manager)
        async with (
            self.manager.running(),
            EventService(till, traced, self.querier, CLOCK, Uuid7Generator()) as self.service,
        ):
            self.trace.clear()
            yield self

    def _traced(self, name: str, inner: Any) -> Any:
        return Traced(name, inner, self.trace)

    def calls(self, *components: str) -> list[str]:
        """The calls to these components, in their order."""
        return [call for call, _ in self.trace if call.split(".")[0] in components]

    def arguments(self, call: str) -> list[Any]:
        return [argument for name, argument in self.trace if name == call]

    async def put_in(self, *cents: int) -> None:
        """Stored events of `a`."""
        stored = [event async for event in self.events.read("a")]
        for version, each in enumerate(cents, len(stored) + 1):
            await self.events.put([event(version, cents=each)], 0)

    async def save(self, version: int, cents: int) -> None:
        await self.snapshots.save([Snapshot("a", version, {"cents": cents}, 1, NOW, FINGERPRINT)])

    async def find(self) -> Any:
        """What the Querier answers the Manager."""
        (result,) = await self.querier.latest_states.build_all([LatestStateQuery("a", "unknown")])
        return result

    async def saved(self) -> list[tuple[int, dict[str, Any]]]:
        found = await self.snapshots.latest(["a"], till.state_shape)
        return [(snapshot.version, snapshot.state) for snapshot in found.values()]

    def produced(self) -> list[EventRecord]:
        return [decode(e.record.value) for e in self.log.entries("till.events", 0) if e.record]


def event(version: int, kind: str = "Put", **data: Any) -> EventRecord:
    named = {"id": f"event-{version}", "aggregate_id": "a", "domain": "till", "time": NOW}
    return EventRecord(type=kind, version=version, data=data, **named)  # type: ignore[arg-type]


@pytest.fixture
async def components() -> AsyncIterator[Components]:
    async with Components().running() as components:
        yield components


# Provider ->> EventService: request event; EventService ->> Manager: validate


async def test_event_service_has_manager_decide_what_provider_requests(
    components: Components,
) -> None:
    await components.service.send("a", "PutIn", {"cents": 5}, command_id="1")
    assert components.calls("Manager") == ["Manager.decide"]
    (commands,) = components.arguments("Manager.decide")
    assert [command.command_id for command in commands] == ["1"]


# Manager ->> Manager: get validator; alt hasn't validator: pass


async def test_manager_without_validator_passes_without_a_state(components: Components) -> None:
    await components.put_in(5)
    assert isinstance(await components.service.send("a", "Note", {"text": "a"}), Accepted)
    assert "Querier.build_all" not in components.calls("Querier")
    assert components.calls("SnapshotStorage") == []


# Manager ->> Querier: get latest State


async def test_manager_gets_the_latest_state_from_querier_before_all_else(
    components: Components,
) -> None:
    await components.service.send("a", "PutIn", {"cents": 5}, command_id="1")
    called = [call for call in components.calls("Querier", "Commander") if "is_cached" not in call]
    assert called[:2] == ["Querier.peek_cached", "Querier.build_all"]
    query = LatestStateQuery("a", event_id("till", "a", "1"))
    assert components.arguments("Querier.build_all") == [[query]]


# Querier ->> SnapshotStorage: get snapshot


async def test_querier_gets_snapshot(components: Components) -> None:
    await components.put_in(5)
    await components.save(1, 1_000)
    found = await components.find()
    assert components.calls("SnapshotStorage") == ["SnapshotStorage.latest"]
    assert (found.live.version, found.live.state) == (1, Till(cents=1_000))


# alt has snapshot: Querier ->> EventStorage: get events after snapshot


# A short history is read whole, beside the snapshot; then only what is after it counts.


@pytest.mark.parametrize(("short", "reads"), [(3, [0]), (2, [0, 1])])
async def test_querier_gets_events_after_snapshot(
    components: Components, monkeypatch: pytest.MonkeyPatch, short: int, reads: list[int]
) -> None:
    monkeypatch.setattr(latest_states, "SHORT_HISTORY_EVENTS", short)
    await components.put_in(5, 6, 7)
    await components.save(1, 1_000)
    found = await components.find()
    wanted = [[TailQuery("a", after, "unknown")] for after in reads]
    assert components.arguments("EventStorage.tails") == wanted
    assert (found.live.version, found.live.state) == (3, Till(cents=1_013))


# else hasn't snapshot: Querier ->> EventStorage: get all events


async def test_querier_without_snapshot_gets_all_events(components: Components) -> None:
    await components.put_in(5, 6)
    found = await components.find()
    assert components.arguments("EventStorage.tails") == [[TailQuery("a", 0, "unknown")]]
    assert (found.live.version, found.live.state) == (2, Till(cents=11))


# Querier ->> Manager: state or error


async def test_querier_answers_with_the_state_or_the_error(components: Components) -> None:
    await components.put_in(5)
    assert isinstance(await components.find(), LatestState)
    await components.events.put([event(2, "Noted", text="unfoldable")], 0)
    assert isinstance(await components.find(), ReplayFailed)
    components.event_storage.failing.add("tails")
    with pytest.raises(ServerUnavailable):
        await components.find()


# alt has error: Manager ->> EventService: error; EventService ->> Provider: error


@pytest.mark.parametrize("broken", ["snapshot", "events", "replay"])
async def test_manager_answers_with_queriers_error_and_provider_has_it(
    components: Components, broken: str
) -> None:
    match broken:
        case "snapshot":
            components.snapshot_storage.failing.add("latest")
        case "events":
            components.event_storage.failing.add("tails")
        case "replay":
            await components.events.put([event(1, "Noted", text="unfoldable")], 0)
    outcome = await components.service.send("a", "PutIn", {"cents": 5})
    assert isinstance(outcome, Failed if broken == "replay" else Unavailable)
    assert "Commander.put" not in components.calls("Commander")


# Manager ->> Manager: replay events; Manager --) Commander: update state


@pytest.mark.parametrize(("name", "version"), [("PutIn", 3), ("TakeOut", 2)])
async def test_manager_hands_commander_the_state_of_all_events(
    components: Components, name: str, version: int
) -> None:
    """Of the command's own events too; a rejected command has none."""
    await components.put_in(1, 2)
    await components.service.send("a", name, {"cents": 9})
    (states,) = components.arguments("Commander.update_states")
    assert [(live.aggregate_id, live.version) for live in states] == [("a", version)]


# Commander ->> SnapshotStorage: save snapshot


async def test_commander_saves_snapshot(components: Components) -> None:
    components.commander.update_states([LiveState("a", Till(cents=8), version=2)])
    await until(lambda: components.calls("SnapshotStorage"))
    assert components.calls("SnapshotStorage") == ["SnapshotStorage.save"]
    assert await components.saved() == [(2, {"cents": 8})]


# Manager ->> Manager: validate; Manager ->> EventService: pass or no pass


async def test_manager_passes_what_the_state_allows(components: Components) -> None:
    await components.put_in(5)
    assert isinstance(await components.service.send("a", "TakeOut", {"cents": 4}), Accepted)
    assert await components.service.send("a", "TakeOut", {"cents": 4}) == Rejected("there are 0")


# alt no pass: EventService ->> Provider: failure


async def test_no_pass_is_a_failure_and_commander_puts_nothing(components: Components) -> None:
    await components.put_in(3)
    assert await components.service.send("a", "TakeOut", {"cents": 4}) == Rejected("there are 3")
    assert "Commander.put" not in components.calls("Commander")
    assert components.calls("MessageStream") == []


# EventService ->> Manager: put event; Manager ->> Commander: dispense event no


@pytest.mark.parametrize(
    ("name", "data", "call"),
    [("PutIn", {"cents": 1}, "dispense"), ("Note", {"text": "a"}, "dispense_all")],
)
async def test_manager_puts_events_with_the_numbers_that_commander_dispenses(
    components: Components, name: str, data: dict[str, Any], call: str
) -> None:
    await components.put_in(5, 6)
    await components.service.send("a", name, data)
    calls = components.calls("Commander")
    assert calls.index(f"Commander.{call}") < calls.index("Commander.put")
    (((put,),),) = components.arguments("Commander.put")
    assert put.version == 3


# Commander ->> Manager: event no or error


async def test_commander_dispenses_the_next_number_or_an_error(components: Components) -> None:
    await components.put_in(5, 6)
    assert components.commander.dispense(LiveState("a", Till(), version=2)) == 3
    assert await components.commander.dispense_all(["a", "new"]) == [3, 1]
    components.event_storage.failing.add("heads")
    with pytest.raises(ServerUnavailable):
        await components.commander.dispense_all(["a"])


async def test_each_number_is_put_by_one_only(components: Components) -> None:
    """Two may have the same number dispensed: the unique index decides."""
    other = replace(event(1, cents=2), id="other")
    assert await components.commander.put([[event(1, cents=1)]]) == [None]
    (error,) = await components.commander.put([[other]])
    assert isinstance(error, Duplicate)
    assert [each.id async for each in components.events.read("a")] == ["event-1"]


# alt has error: Manager ->> EventService: error; EventService ->> Provider: error


async def test_no_number_is_an_error_for_provider(components: Components) -> None:
    components.event_storage.failing.add("heads")
    outcome = await components.service.send("a", "Note", {"text": "a"})
    assert outcome == Unavailable("heads failed")
    assert "Commander.put" not in components.calls("Commander")


# Manager ->> Manager: make event


async def test_manager_makes_events(components: Components) -> None:
    await components.put_in(9)
    await components.service.send("a", "TakeOut", {"cents": 4}, command_id="1", actor="ann")
    ((events,),) = components.arguments("Commander.put")
    assert [(each.type, each.version, each.data) for each in events] == [
        ("Taken", 2, {"cents": 4}),
        ("Charged", 3, {"cents": 1}),
    ]
    assert [each.id for each in events] == [event_id("till", "a", "1", index) for index in (0, 1)]
    assert {(each.causation_id, each.actor) for each in events} == {("1", "ann")}


# Manager ->> Commander: put event; Commander ->> Manager: success or error


async def test_commander_puts_events_with_success_or_error(components: Components) -> None:
    assert await components.commander.put([[event(1, cents=1)]]) == [None]
    (taken,) = await components.commander.put([[event(1, cents=1), event(2, cents=1)]])
    assert isinstance(taken, Duplicate)
    assert [each.version async for each in components.events.read("a")] == [1]
    components.event_storage.failing.add("put_each")
    (unknown,) = await components.commander.put([[event(2, cents=1)]])
    assert isinstance(unknown, ServerUnavailable)


# alt has error: Manager ->> EventService: error; EventService ->> Provider: error


async def test_put_that_fails_is_an_error_for_provider(components: Components) -> None:
    components.event_storage.failing.add("put_each")
    outcome = await components.service.send("a", "PutIn", {"cents": 5})
    assert outcome == Unavailable("put_each failed")
    assert components.produced() == []


# Manager ->> MessageStream: produce event; Manager ->> EventService: success


async def test_manager_produces_the_stored_event_and_provider_has_success(
    components: Components,
) -> None:
    outcome = await components.service.send("a", "PutIn", {"cents": 5}, command_id="1")
    assert outcome == Accepted(event_id("till", "a", "1"), "till.events/0", 1, True)
    calls = components.calls("EventStorage", "MessageStream")
    assert calls == ["EventStorage.tails", "EventStorage.put_each", "MessageStream.produce"]
    assert components.produced() == [each async for each in components.events.read("a")]


# Queries

# Provider ->> EventService: get events; EventService ->> EventStorage: query


async def test_querier_gets_events(components: Components) -> None:
    await components.put_in(5, 6)
    assert [each.version async for each in components.querier.events("a")] == [1, 2]
    assert components.calls("EventStorage") == ["EventStorage.read"]


# Provider ->> EventService: get snapshot; EventService ->> SnapshotStorage: query


async def test_querier_gets_the_snapshot_that_provider_wants(components: Components) -> None:
    await components.save(2, 11)
    snapshot = await components.querier.snapshot("a")
    assert snapshot == Snapshot("a", 2, {"cents": 11}, 1, NOW, FINGERPRINT)
    assert components.calls("SnapshotStorage") == ["SnapshotStorage.latest"]


# Provider ->> EventService: get latest state; EventService ->> SnapshotStorage: query;
# EventService ->> EventStorage: get events after snapshot; EventService ->> EventService: replay


async def test_querier_replays_the_events_after_the_snapshot(components: Components) -> None:
    await components.put_in(5, 6)
    await components.save(1, 1_000)
    latest = await components.querier.latest("a")
    assert latest
    assert (latest.version, latest.state, latest.data) == (2, Till(cents=1_006), {"cents": 1_006})
    assert components.calls("SnapshotStorage", "EventStorage")[:2] == [
        "SnapshotStorage.latest",
        "EventStorage.read",
    ]


# Core rule: a latest state that was queried is saved as a snapshot


async def test_querier_saves_the_latest_state_that_provider_gets(components: Components) -> None:
    await components.put_in(5, 6)
    async with components.querier.running():
        await components.querier.latest("a")
    assert components.calls("SnapshotStorage") == ["SnapshotStorage.latest", "SnapshotStorage.save"]
    assert await components.saved() == [(2, {"cents": 11})]
