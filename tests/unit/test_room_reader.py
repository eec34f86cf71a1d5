"""RoomReader: replay and view agree, whatever was edited and deleted, and little is read."""

import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from eventfleet.states.querier import Querier
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import DomainStores, Snapshot
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.testing import NOW
from eventfleet.topics.event import EventRecord
from examples.chat.domain import (
    MAX_KEPT_MESSAGES,
    ChatEvent,
    ChatMessageView,
    Message,
    MessageDeleted,
    MessageEdited,
    MessageSent,
    MessagesRead,
    Room,
    chat,
    message_of,
    project_message,
)
from examples.chat.room_reader import PAGE_EVENTS, RoomReader, to_message
from tests.unit.room_events import common, record, sent

ROOMS = 1_000
MAX_EVENTS = 5_000
WHOLE = 1_000_000


class CountedEvents(MemoryEvents):
    """An event store that counts the events that are read of it."""

    reads = 0

    async def read(self, *asked: Any, **options: Any) -> Any:  # type: ignore[override]
        async for event in super().read(*asked, **options):
            self.reads += 1
            yield event


class Rooms:
    """Rooms in memory, and their reader."""

    def __init__(self) -> None:
        self.events, self.snapshots = CountedEvents(domain="chat"), MemorySnapshots(3)
        stores = DomainStores(self.events, self.snapshots)
        self.reader = RoomReader(Querier(chat, stores, SystemClock()))

    async def add(self, room: str, payloads: list[ChatEvent]) -> list[EventRecord]:
        events = [record(room, version, each) for version, each in enumerate(payloads, 1)]
        placed = [replace(each, position=f"0-0-{each.version}") for each in events]
        await self.events.write(placed)
        return events

    async def ids(self, room: str, **asked: Any) -> list[str]:
        return [each.id for each in await self.reader.messages(room, **asked)]


def talk(chance: random.Random, length: int) -> Iterator[ChatEvent]:
    """A talk in which messages of any age are edited and deleted, also deleted ones."""
    messages: list[str] = []
    for version in range(1, length + 1):
        kind = chance.random() if messages else 0.0
        target = {"target_message_id": chance.choice(messages)} if messages else {}
        if kind < 0.5:
            messages.append(f"m{version}")
            yield sent(version)
        elif kind < 0.7:
            yield MessageEdited(content=f"edit {version}", **target, **common(version))
        elif kind < 0.95:
            yield MessageDeleted(**target, **common(version))
        else:
            yield MessagesRead(**target, **common(version, "bob"))


def of_view(events: list[EventRecord]) -> list[Message]:
    """The messages as the view has them."""
    rows: dict[str, ChatMessageView | None] = {}
    for event in events:
        typed = replace(event, data=chat.payload(event))
        if (key := message_of(typed)) is not None:
            rows[key] = project_message(rows.get(key), typed)
    found = [to_message(row) for row in rows.values() if row]
    return sorted(found, key=lambda each: each.version)


async def test_replay_and_view_agree_on_random_rooms() -> None:
    chance = random.Random(20_261_123)
    for number in range(ROOMS):
        length = MAX_EVENTS if number < 5 else int(MAX_EVENTS ** chance.random())
        rooms = Rooms()
        events = await rooms.add("r", list(talk(chance, length)))
        expected = of_view(events)
        limit = chance.choice([1, 100, 1_000, WHOLE])
        assert await rooms.reader.messages("r", limit) == expected[-limit:]


async def test_the_kept_messages_are_those_of_a_replay() -> None:
    chance, rooms = random.Random(7), Rooms()
    events = await rooms.add("r", list(talk(chance, 1_000)))
    room = Room()
    for event in events:
        room = chat.fold(room, event)
    replayed = await rooms.reader.messages("r", WHOLE)
    assert [each for each in replayed if each.version >= room.from_version] == list(room.messages)


@pytest.mark.parametrize("length", [100, 100_000])
async def test_the_newest_messages_are_read_without_the_old_ones(length: int) -> None:
    rooms = Rooms()
    await rooms.add("r", [sent(version) for version in range(1, length + 1)])
    assert await rooms.ids("r", limit=100) == [f"m{n}" for n in range(length - 99, length + 1)]
    assert rooms.events.reads <= PAGE_EVENTS


async def test_deleted_messages_are_not_counted_and_more_is_read_for_them() -> None:
    rooms = Rooms()
    talk = [sent(version) for version in range(1, 1_001)]
    gone = [
        MessageDeleted(target_message_id=f"m{n}", **common(1_001 + n)) for n in range(201, 1_001)
    ]
    await rooms.add("r", [*talk, *gone])
    assert await rooms.ids("r", limit=100) == [f"m{n}" for n in range(101, 201)]


async def test_a_snapshot_near_the_end_suffices() -> None:
    rooms, count = Rooms(), 10_000
    events = await rooms.add("r", [sent(version) for version in range(1, count + 1)])
    state = Room()
    for event in events[: count - 20]:
        state = chat.fold(state, event)
    kept, shape = chat.dump_state(state), chat.state_shape
    snapshot = Snapshot("r", count - 20, kept, shape.version, NOW, shape.fingerprint)
    await rooms.snapshots.save([snapshot])
    assert len(await rooms.ids("r", limit=MAX_KEPT_MESSAGES)) == MAX_KEPT_MESSAGES
    assert rooms.events.reads == 20


async def test_a_room_as_it_was() -> None:
    rooms = Rooms()
    edit = MessageEdited(target_message_id="m1", content="new", **common(3))
    gone = MessageDeleted(target_message_id="m2", **common(4))
    await rooms.add("r", [sent(1), sent(2), edit, gone])
    found = [
        [each.content for each in await rooms.reader.messages("r", at=NOW + timedelta(seconds=n))]
        for n in range(5)
    ]
    assert found == [
        [],
        ["text 1"],
        ["text 1", "text 2"],
        ["new", "text 2"],
        ["new"],
    ]


async def test_the_history_of_a_message_is_its_own_events() -> None:
    rooms = Rooms()
    edit = MessageEdited(target_message_id="m1", content="new", **common(3))
    other = MessageEdited(target_message_id="m2", content="newer", **common(4))
    gone = MessageDeleted(target_message_id="m1", **common(5))
    await rooms.add("r", [sent(1), sent(2), edit, other, gone])
    history = await rooms.reader.history("r", "m1")
    assert [(event.type, event.version) for event in history] == [
        ("MESSAGE_SENT", 1),
        ("MESSAGE_EDITED", 3),
        ("MESSAGE_DELETED", 5),
    ]
    assert await rooms.reader.history("r", "c3") == []
    assert await rooms.reader.history("r", "unknown") == []


async def test_an_unknown_room_is_empty() -> None:
    rooms = Rooms()
    assert await rooms.reader.messages("nowhere") == []
    assert await rooms.reader.messages("nowhere", at=NOW) == []
    assert await rooms.reader.room("nowhere") == Room()


@pytest.mark.parametrize("version", range(1, 6))
async def test_a_discarded_event_is_in_no_answer_about_a_room(version: int) -> None:
    rooms, by_ann = Rooms(), {"room_id": "r", "sender_id": "ann", "timestamp": NOW}
    payloads: list[ChatEvent] = [
        MessageSent(message_id="m1", content="one", **by_ann),
        MessageSent(message_id="m2", content="two", **by_ann),
        MessageEdited(target_message_id="m1", content="edited", **by_ann),
        MessageDeleted(target_message_id="m2", **by_ann),
        MessageSent(message_id="m3", content="three", **by_ann),
    ]
    events = await rooms.add("r", payloads)
    await rooms.events.mark_discarded(events[version - 1].key)
    expected = of_view([event for event in events if event.version != version])
    assert await rooms.reader.messages("r") == expected
    assert await rooms.reader.messages("r", at=NOW) == expected
    assert (await rooms.reader.room("r")).version == 5
    shown = [await rooms.reader.history("r", f"m{number}") for number in (1, 2, 3)]
    histories = {event.version for history in shown for event in history}
    gone = {1: {1, 3}, 2: {2, 4}}.get(version, {version})
    assert histories == {1, 2, 3, 4, 5} - gone
    assert not any(event.discarded for history in shown for event in history)
