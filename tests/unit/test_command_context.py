"""CommandContext: what `decide` knows beside the payload, and the earlier events that it sees."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from msgspec.structs import replace

from eventfleet.deciders.command_parser import parse_command
from eventfleet.deciders.commander import Commander
from eventfleet.deciders.event_publisher import EventPublisher
from eventfleet.deciders.fast_command_decoder import FastCommandDecoder
from eventfleet.deciders.manager import Manager
from eventfleet.deciders.outcomes import Accepted, Failed, IdReused, Outcome, Rejected, Repeated
from eventfleet.deciders.state_command import StateCommand, decide_events
from eventfleet.model.command_rules import CommandContext, Decides, Rejection
from eventfleet.model.domain import Domain
from eventfleet.model.errors import DeclarationError
from eventfleet.model.event_shapes import declared_shapes
from eventfleet.model.payloads import Command, Event, State
from eventfleet.model.typed_decoder import make_typed_decoder
from eventfleet.snapshot_rules import on
from eventfleet.states.live_state import LiveState
from eventfleet.states.lru_cache import LruCache
from eventfleet.states.querier import Querier
from eventfleet.states.snapshot_saver import SnapshotSaver
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import DomainStores
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import MemoryLog, MemoryProducer
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.testing import given
from eventfleet.topics.codec import encode
from eventfleet.topics.event import CommandRecord
from eventfleet.topics.names import Topics
from eventfleet.topics.topic_specs import declare_topics
from tests.unit.sync_domain import Counted

NOW = datetime(2026, 5, 4, tzinfo=UTC)


class Pinned(Event):
    event_type: ClassVar[str] = "NOTE_PINNED"
    text: str
    by: str


class Torn(Event):
    note: str


class Board(State):
    notes: int = 0


class Pin(Command):
    text: str


class Tear(Command):
    note: str


class Look(Command):
    notes: list[str]


def evolve(board: Board, event: Event) -> Board:
    return Board(notes=board.notes + (1 if isinstance(event, Pinned) else -1))


def decide(board: Board, command: Command, context: CommandContext) -> Event | Rejection:
    match command:
        case Pin(text=text):
            return Pinned(text=text, by=context.actor or "")
        case Tear(note=note):
            pinned = context.seen.get(note)
            if not isinstance(pinned, Pinned):
                return Rejection("there is no such note")
            mine = pinned.by == context.actor
            return Torn(note=note) if mine else Rejection(f"it is {pinned.by}'s")
        case Look():
            at = context.time.date(), context.aggregate_id, context.command_id
            return Rejection(f"{sorted(context.seen)} {at[0]} {at[1]} {at[2]}")
    raise TypeError(command)


def torn(command: Tear) -> Collection[str]:
    if command.note == "raise":
        raise LookupError("no such note")
    return command.note if command.note == "text" else [command.note]


def declare(**changes: Any) -> Domain[Board]:
    declared: dict[str, Any] = {
        "state": Board,
        "evolve": evolve,
        "events": [Pinned, Torn],
        "commands": [Pin, Decides(Tear, sees=torn), Decides(Look, sees=lambda look: look.notes)],
        "decide": decide,
    }
    return Domain("board", **declared | changes)


board = declare()


class Desk:
    """A Manager of the board over the in-memory servers."""

    def __init__(self, cached: int = 100) -> None:
        log, self.events = MemoryLog(), MemoryEvents(domain="board")
        for spec in declare_topics(Topics.of("board", ""), 1, 1, -1):
            log.create(spec)
        self.store, snapshots, clock = Counted(self.events), MemorySnapshots(3), SystemClock()
        stores = DomainStores(self.store, snapshots)
        querier = Querier(board, stores, clock, cache=LruCache(cached))
        saver = SnapshotSaver(board, snapshots, clock, limit=1000)
        commander = Commander(self.store, saver, partitions=1)
        publisher = EventPublisher(MemoryProducer(log), "board.events", clock, partitions=1)
        self.manager = Manager(board, querier, commander, publisher, clock)
        self.clock = clock

    async def send(self, kind: Command, id: str, actor: str | None = "ann") -> Outcome:
        outcomes: dict[int, Outcome] = {}
        deadline = self.clock.steady() + timedelta(seconds=10)
        command = parse_command(board, record(kind, id, actor))
        assert isinstance(command, StateCommand)
        await self.manager.decide([command], deadline, outcomes.__setitem__)
        return outcomes[0]


def record(kind: Command, id: str, actor: str | None = "ann") -> CommandRecord:
    return CommandRecord(
        id=id,
        type=type(kind).__name__,
        domain="board",
        aggregate_id="b1",
        time=NOW,
        data={name: getattr(kind, name) for name in kind.__struct_fields__},
        actor=actor,
    )


async def test_decide_sees_an_earlier_commands_event_beside_the_state() -> None:
    desk = Desk()
    assert isinstance(await desk.send(Pin(text="milk"), "n1"), Accepted)
    for number in range(30):
        await desk.send(Pin(text="more"), f"more-{number}")
    assert await desk.send(Tear(note="n2"), "t1") == Rejected("there is no such note")
    assert await desk.send(Tear(note="n1"), "t2", "bob") == Rejected("it is ann's")
    assert isinstance(await desk.send(Tear(note="n1"), "t3"), Accepted)


async def test_decide_does_not_see_an_event_that_was_discarded() -> None:
    desk = Desk(cached=0)
    assert isinstance(await desk.send(Pin(text="milk"), "n1"), Accepted)
    (pinned,) = [event async for event in desk.events.read("b1")]
    await desk.events.mark_discarded(pinned.key)
    assert await desk.send(Tear(note="n1"), "t1") == Rejected("there is no such note")


async def test_a_seen_event_of_a_newer_schema_is_no_fault_of_the_domains_code() -> None:
    """A snapshot of a newer process has spared this one to fold it."""
    desk = Desk(cached=0)
    assert isinstance(await desk.send(Pin(text="milk"), "n1"), Accepted)
    (pinned,) = [event async for event in desk.events.read("b1")]
    command = parse_command(board, record(Tear(note="n1"), "t1", "ann"))
    assert isinstance(command, StateCommand)
    live = LiveState("b1", Board(notes=1), version=1)
    newer = {"n1": replace(pinned, schema_version=2)}
    failed = decide_events(board, command, live, 2, newer)
    assert isinstance(failed, Failed)
    assert failed.problem == "newer-schema"
    assert "the event has 2: deploy" in failed.reason


@pytest.mark.parametrize("cached", [0, 100])
async def test_state_and_seen_events_are_read_in_one_query(cached: int) -> None:
    desk = Desk(cached)
    await desk.send(Pin(text="milk"), "n1")
    desk.store.calls.clear()
    await desk.send(Tear(note="n1"), "t1")
    assert [name for name, *_ in desk.store.calls] == ["tails", "put_each"]


async def test_the_context_names_command_aggregate_time_and_what_is_stored() -> None:
    desk = Desk()
    await desk.send(Pin(text="milk"), "n1")
    found = await desk.send(Look(notes=["n1", "n2"]), "look-1")
    assert found == Rejected("['n1'] 2026-05-04 b1 look-1")


async def test_a_long_history_is_read_once_for_the_state_and_what_is_seen() -> None:
    desk = Desk(cached=0)
    await desk.send(Pin(text="first"), "n1")
    for number in range(600):
        await desk.send(Pin(text="more"), f"more-{number}")
    assert isinstance(await desk.send(Tear(note="n1"), "t1"), Accepted)


@pytest.mark.parametrize(
    ("note", "reason"), [("raise", "LookupError"), ("text", "TypeError")], ids=["raises", "text"]
)
async def test_a_sees_that_fails_fails_its_own_command(note: str, reason: str) -> None:
    desk = Desk()
    outcome = await desk.send(Tear(note=note), "t1")
    assert isinstance(outcome, Failed)
    assert reason in outcome.reason
    assert isinstance(await desk.send(Pin(text="milk"), "n1"), Accepted)


async def test_more_than_the_limit_is_not_read() -> None:
    outcome = await Desk().send(Look(notes=[f"n{i}" for i in range(101)]), "look")
    assert isinstance(outcome, Failed)
    assert "ValueError" in outcome.reason


async def test_the_same_command_of_another_actor_is_another_command() -> None:
    desk = Desk()
    await desk.send(Pin(text="milk"), "n1", "ann")
    assert isinstance(await desk.send(Pin(text="milk"), "n1", "ann"), Repeated)
    assert isinstance(await desk.send(Pin(text="milk"), "n1", "bob"), IdReused)


def test_both_decoders_give_a_command_the_same_fingerprint() -> None:
    command = record(Pin(text="milk"), "n1", "ann")
    slow, fast = parse_command(board, command), FastCommandDecoder(board).read(encode(command))
    assert fast
    assert fast[1] == slow


# The kit


def test_the_kit_names_who_sends_when_and_as_what() -> None:
    pinned = Pinned(text="milk", by="ann")
    given(board).when(Pin(text="milk"), actor="ann").then(pinned)
    given(board, pinned).when(Tear(note="id-1"), actor="ann").then(Torn(note="id-1"))
    given(board, pinned).when(Tear(note="id-1"), actor="bob").rejected("ann's")
    sent = given(board).when(Pin(text="milk"), command_id="n1", actor="ann")
    sent.when(Look(notes=["n1"]), command_id="x", time=NOW).rejected("['n1'] 2026-05-04")


# Declarations


def test_an_event_has_the_type_that_it_declares() -> None:
    assert [shape.type for shape in declared_shapes(board)] == ["NOTE_PINNED", "Torn"]
    (made,) = given(board).when(Pin(text="milk"), actor="ann")._events
    assert made.type == "NOTE_PINNED"
    decoded = make_typed_decoder(board)(encode(made))
    assert (decoded.type, decoded.data) == ("NOTE_PINNED", Pinned(text="milk", by="ann"))
    assert on(Pinned).types == {"NOTE_PINNED"}


def test_a_type_belongs_to_the_class_that_declares_it_alone() -> None:
    class Repinned(Pinned):
        pass

    assert [shape.type for shape in declared_shapes(declare(events=[Pinned, Repinned]))] == [
        "NOTE_PINNED",
        "Repinned",
    ]


class Unnamed(Event):
    event_type: ClassVar[str] = ""


class Twice(Event):
    event_type: ClassVar[str] = "Torn"


def without_context(board: Board, command: Command) -> Rejection:
    return Rejection("no")


def with_limit(board: Board, command: Command, limit: int = 3) -> Rejection:
    return Rejection("no")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"events": [Unnamed]}, "event Unnamed: event_type='' must be 1 to 255 characters"),
        ({"events": [Torn, Twice]}, "`events` has two of the same name: Torn"),
        ({"decide": without_context}, "Decides is for a `decide` that takes"),
        ({"decide": with_limit}, "Decides is for a `decide` that takes"),
        ({"decide": lambda state: None}, "`decide` must take (state, command) or (state, command,"),
        ({"decide": 5}, "`decide` is 5, which is no function"),
    ],
)
def test_what_can_not_work_is_refused(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        declare(**changes)
    assert fault in str(caught.value)


def test_an_optional_third_parameter_is_the_teams_own() -> None:
    assert not declare(commands=[Pin, Tear], decide=with_limit).takes_context
