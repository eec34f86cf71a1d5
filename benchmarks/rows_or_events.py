"""`python -m benchmarks.rows_or_events` measures a chat of rows beside one of events, on one store.

Times are medians of single calls, one after the other; sizes are those of the documents
as BSON.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import bson
import click
from msgspec.structs import replace
from pymongo import AsyncMongoClient
from rich.console import Console
from rich.table import Table

from benchmarks.servers import provide_servers
from eventfleet.model.view_rows import encode_row
from eventfleet.states.querier import Querier
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import DomainStores, Snapshot
from eventfleet.stores.contracts.views import Comparison, RowFilter, RowQuery, StoredRow
from eventfleet.stores.cursors import FeedPoint
from eventfleet.stores.mongo import open_stores
from eventfleet.stores.mongo.documents import placed_document
from eventfleet.topics.event import EventRecord, event_id
from eventfleet.topics.names import wire_name
from examples.chat.domain import MessageSent, Room, chat, project_message
from examples.chat.room_reader import RoomReader

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CALLS = 200
NEWEST = 100
ROOM = "lobby"
DATABASE = "rows_or_events"


def event_of(version: int) -> EventRecord:
    """A message of some sixty characters."""
    moment, message = NOW + timedelta(seconds=version), f"m{version}"
    content = f"message {version} of a talk about nothing in particular, really"
    return EventRecord(
        id=event_id(chat.name, ROOM, message),
        type=wire_name(MessageSent),
        domain=chat.name,
        aggregate_id=ROOM,
        time=moment,
        data={
            "room_id": ROOM,
            "sender_id": "ann",
            "timestamp": moment.isoformat(),
            "content": content,
            "message_id": message,
        },
        version=version,
        position=f"0-0-{version}",
        actor="ann",
    )


def row_of(event: EventRecord) -> dict[str, Any]:
    """The same message as a row of the study's old structure."""
    return {
        "_id": event.data["message_id"],
        "room_id": ROOM,
        "sender_id": "ann",
        "content": event.data["content"],
        "timestamp": event.time,
    }


async def median_ms(call: Callable[[int], Awaitable[object]]) -> float:
    """The median of CALLS calls in milliseconds, after a tenth as many to warm up."""
    times = []
    for number in range(-CALLS // 10, CALLS):
        start = time.perf_counter()
        await call(number)
        if number >= 0:
            times.append((time.perf_counter() - start) * 1000)
    return median(times)


async def measure(url: str, messages: int) -> Table:
    events = [event_of(version) for version in range(1, messages + 1)]
    table = Table("", "rows", "events", f"a room of {messages:,} messages", box=None)
    async with (
        AsyncMongoClient(url) as client,
        open_stores(url, DATABASE, [chat.name], timeout=10.0, snapshots_kept=3) as stores,
    ):
        rows = client[DATABASE]["messages"]
        await rows.create_index([("room_id", 1), ("timestamp", 1)])
        await rows.insert_many([row_of(event) for event in events])
        opened = stores[chat.name]
        await opened.events.prepare()
        await opened.snapshots.prepare()
        for start in range(0, messages, 500):
            await opened.events.write(events[start : start + 500])
        await _show_times(table, rows, opened, events)
    _show_sizes(table, events)
    return table


async def _show_times(
    table: Table, rows: Any, opened: DomainStores, events: list[EventRecord]
) -> None:
    count = len(events)
    extra = [event_of(count + number + CALLS) for number in range(2 * CALLS)]
    others = [replace(event, aggregate_id="other") for event in extra]
    inserted = await median_ms(lambda n: rows.insert_one(row_of(extra[n + CALLS])))
    put = await median_ms(lambda n: opened.events.put_each([(others[n + CALLS], 0)]))
    table.add_row("store a message", f"{inserted:.2f} ms", f"{put:.2f} ms", "")
    await rows.delete_many({"_id": {"$in": [event.data["message_id"] for event in extra]}})

    found = rows.find({"room_id": ROOM}).sort("timestamp", -1).limit(NEWEST)
    read = await median_ms(lambda _: found.clone().to_list(None))
    reader = RoomReader(Querier(chat, opened, SystemClock()))
    replayed = await median_ms(lambda _: reader.messages(ROOM, NEWEST))
    table.add_row(f"newest {NEWEST}", f"{read:.2f} ms", f"{replayed:.2f} ms", "by replay")

    state = Room()
    for event in events:
        state = chat.fold(state, event)
    shape = chat.state_shape
    kept = chat.dump_state(state)
    await opened.snapshots.save(
        [Snapshot(ROOM, count, kept, shape.version, NOW, shape.fingerprint)]
    )
    snapped = await median_ms(lambda _: reader.messages(ROOM, NEWEST))
    table.add_row("", "", f"{snapped:.2f} ms", "from a snapshot")

    assert opened.views
    view = opened.views.rows("messages", "messages", 1)
    await view.prepare([["room_id", "version"]])
    for start in range(0, count, 500):
        await view.save([_view_row(event) for event in events[start : start + 500]])
    query = RowQuery([RowFilter("room_id", Comparison.EQUAL, ROOM)], "version", True)
    viewed = await median_ms(lambda _: view.find(query, NEWEST))
    table.add_row("", "", f"{viewed:.2f} ms", "from a view")
    past = NOW + timedelta(seconds=count // 2)
    was = await median_ms(lambda _: reader.messages(ROOM, NEWEST, at=past))
    table.add_row("as it was at a past moment", "-", f"{was:.2f} ms", "")


def _view_row(event: EventRecord) -> StoredRow:
    typed = replace(event, data=chat.payload(event))
    row = project_message(None, typed)
    assert row
    point = FeedPoint.of(event)
    return StoredRow(f"{ROOM}\0{row.message_id}", encode_row(row), point, NOW)


def _show_sizes(table: Table, events: list[EventRecord]) -> None:
    count = len(events)
    row_bytes = sum(len(bson.encode(row_of(event))) for event in events) / count
    event_bytes = sum(len(bson.encode(placed_document(event))) for event in events) / count
    table.add_row("bytes of a message", f"{row_bytes:.0f}", f"{event_bytes:.0f}", "the event alone")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--messages", envvar="MESSAGES", default=10_000, show_default=True)
def main(messages: int) -> None:
    """Measure; MESSAGES is an environment variable too."""
    with provide_servers() as servers:
        table = asyncio.run(measure(servers.mongo_url, messages))
    Console(highlight=False).print(table)


if __name__ == "__main__":
    main()
