"""Each query of the stores examines as much in a collection of 20,000 as in one of 1,000.

The commands that the stores send are listened to, and explained by the server over both sizes. What
answers about a whole collection (counts, all that is parked in a partition) is left out.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import msgspec
from pymongo import AsyncMongoClient, MongoClient
from pymongo.monitoring import CommandListener

from eventfleet.model.shapes import StateShape
from eventfleet.stores.contracts import (
    AssignPosition,
    PlaceParked,
    RefuseParked,
    Snapshot,
    TailQuery,
    VersionRange,
)
from eventfleet.stores.contracts.dead_letters import ParkedQuery
from eventfleet.stores.contracts.documents import StoredDocument
from eventfleet.stores.contracts.outbox import BusPlace
from eventfleet.stores.contracts.views import (
    AggregateSelection,
    Comparison,
    RowFilter,
    RowQuery,
    StoredRow,
)
from eventfleet.stores.cursors import FeedPoint
from eventfleet.stores.mongo import (
    MongoDeadLetters,
    MongoEvents,
    MongoSnapshots,
    MongoViews,
)
from eventfleet.stores.mongo.client import open_collection
from eventfleet.stores.mongo.document_store import MongoDocuments
from eventfleet.stores.mongo.document_stores import open_document_store
from eventfleet.stores.mongo.documents import (
    parked_document,
    placed_document,
    unplaced_document,
)
from eventfleet.stores.mongo.outbox import PARKED_ONES, pending_fields
from eventfleet.topics.parked import Discard, ParkedAggregate
from tests.contract.samples import DOMAIN, KEPT, TIME, at, event, ids, key

SMALL, LARGE = 1_000, 20_000
MOST_GROWTH = 1.5
SHAPE = StateShape(1, "f")
SESSION_FIELDS = {"lsid", "txnNumber", "readConcern", "writeConcern", "maxTimeMS"}


class Stores:
    """All stores of one database, over one client."""

    def __init__(self, client: Any, database: str, documents: MongoDocuments) -> None:
        def opened(name: str) -> Any:
            return open_collection(client, database, name)

        domains, events = opened("domains"), opened(f"{DOMAIN}.events")
        self.documents, self.letters = documents, MongoDeadLetters(opened(f"{DOMAIN}.dead_letters"))
        self.events = MongoEvents(DOMAIN, events, domains, opened("leases"))
        self.snapshots = MongoSnapshots(opened(f"{DOMAIN}.snapshots"), KEPT)
        self.rows = MongoViews(DOMAIN, domains).rows("items", "items", 1)

    async def prepare(self) -> None:
        await self.documents.prepare()
        await self.snapshots.prepare()
        await self.letters.prepare()
        await self.rows.prepare([["n"], ["kind", "n"]])


class Commands(CommandListener):
    """Keeps the commands that are sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def started(self, event: Any) -> None:
        self.sent += parts(event.command_name, dict(event.command))

    def succeeded(self, event: Any) -> None: ...
    def failed(self, event: Any) -> None: ...


def parts(name: str, command: dict[str, Any]) -> list[dict[str, Any]]:
    """A command as the server explains it: of several writes each one."""
    kept = {
        field: value
        for field, value in command.items()
        if field not in SESSION_FIELDS and not field.startswith("$")
    }
    if name in ("update", "delete"):
        writes = f"{name}s"
        return [{name: kept[name], writes: [each]} for each in kept[writes]]
    return [kept] if name in ("find", "aggregate", "distinct", "findAndModify") else []


def filters(command: dict[str, Any]) -> list[dict[str, Any]]:
    """The filters of a command."""
    writes = command.get("updates", command.get("deletes", []))
    matches = [stage["$match"] for stage in command.get("pipeline", []) if "$match" in stage]
    others = [command[name] for name in ("filter", "query") if name in command]
    return [*(each["q"] for each in writes), *matches, *others]


def name(number: int) -> str:
    return f"a{number:06}"


def parked(number: int) -> ParkedAggregate:
    return ParkedAggregate("relay", 0, name(number), 1, 1, "e", "t", "R: x", "", 1, TIME)


def document(number: int) -> dict[str, Any]:
    """The document of a number's event; of the first hundred each kind that there is."""
    first = event(name(number), 1)
    placed = event(name(number), 1, at(number // 4, number % 4))
    if 5 < number < 8:
        return unplaced_document(first, 1) | PARKED_ONES
    if number == 8:
        return unplaced_document(first, 1) | {"published_in": "i", "published_at": 1}
    if number < 10:
        return unplaced_document(first, 1) | pending_fields(first, to_publish=bool(number % 2))
    if number < 20:
        return parked_document(first, at(number, 2))
    return placed_document(placed)


def fill(database: Any, size: int) -> None:
    """Store as many events, snapshots, rows, documents and parked aggregates."""
    numbers = range(size)
    database[f"{DOMAIN}.events"].insert_many([document(number) for number in numbers])
    database["domains"].update_one(
        {"_id": DOMAIN}, {"$set": {"partitions": [0, 1, 2, 3]}}, upsert=True
    )
    database[f"{DOMAIN}.snapshots"].insert_many(
        {
            "_id": f"{name(n)}/1-f/1",
            **{"aggregate_id": name(n), "version": 1, "state": {}, "state_version": 1},
            **{"taken_at": TIME, "fingerprint": "f"},
        }
        for n in numbers
    )
    kept = {"at": [0, 1, 1], "partition": 0, "written_at": TIME}
    database[f"{DOMAIN}.view.items.1.items"].insert_many(
        {"_id": name(n), "row": {"n": n, "kind": name(n // 20)}, **kept} for n in numbers
    )
    database["documents"].insert_many({"_id": name(n), "n": n, "version": 1} for n in numbers)
    database[f"{DOMAIN}.dead_letters"].insert_many(
        {"_id": f"relay/{name(n)}", **msgspec.structs.asdict(parked(n))} for n in numbers
    )


@asynccontextmanager
async def filled(url: str, database: str, size: int, *listeners: Any) -> AsyncIterator[Stores]:
    async with (
        AsyncMongoClient[Any](url, event_listeners=listeners) as client,
        open_document_store(
            *(client, database, "documents", f"{DOMAIN}.events"),
            version_field="version",
            partitions=4,
            timeout=20,
        ) as documents,
    ):
        stores = Stores(client, database, documents)
        await stores.prepare()
        with MongoClient[Any](url) as own:
            fill(own[database], size)
        yield stores
        await client.drop_database(database)


AGGREGATE, OTHER = name(30), name(31)
LATER = TIME + timedelta(days=1)
PLACED = event(AGGREGATE, 1, at(7, 2))
ONE_KIND = RowFilter("kind", Comparison.EQUAL, name(1))
OWN = AggregateSelection(prefixes=(AGGREGATE,))
FROM_N = RowFilter("n", Comparison.AT_LEAST, 25)


Call = Callable[[Stores], Awaitable[Any]]
CALLS: dict[str, Call] = {
    "read": lambda s: ids(s.events.read(AGGREGATE, 0, 9)),
    "read_all": lambda s: s.events.read_all([AGGREGATE, OTHER], 10),
    "find events": lambda s: s.events.find([key(AGGREGATE, 1), key(OTHER, 1)]),
    "heads": lambda s: s.events.heads([AGGREGATE, name(1)]),
    "tails": lambda s: s.events.tails([TailQuery(AGGREGATE, 0, "x", ("y",))], 10),
    "version_at": lambda s: s.events.version_at(AGGREGATE, TIME),
    "feed": lambda s: s.events.feed("", 10),
    "placed": lambda s: s.events.placed(FeedPoint(1, 0, 3, 1), 10),
    "parked": lambda s: s.events.parked(),
    "aggregates": lambda s: s.events.aggregates("", 10),
    "aggregates of a partition": lambda s: s.events.aggregates("", 10, 1),
    "newest_epoch": lambda s: s.events.newest_epoch(),
    "placed_at": lambda s: s.events.placed_at([at(30, 1), at(31, 2)]),
    "sweep": lambda s: s.events.sweep(1, 100),
    "unplaced": lambda s: s.events.unplaced([VersionRange(name(1), 0, 9)]),
    "mark_discarded": lambda s: s.events.mark_discarded(key(AGGREGATE, 1)),
    "mark_discarded parked": lambda s: s.events.mark_discarded(key(name(11), 1), parked=True),
    "write": lambda s: s.events.write(
        [
            AssignPosition(event(name(2)), at(9, 1)),
            PlaceParked(event(name(12)), at(90, 2, epoch=1)),
            RefuseParked(event(name(13)), at(90, 2, epoch=1)),
        ]
    ),
    "pending": lambda s: s.documents.outbox.pending(10, to_publish=True),
    "park publications": lambda s: s.documents.outbox.park([key(name(1), 1)]),
    "park pending publications": lambda s: s.documents.outbox.park_pending(name(2)),
    "parked publications": lambda s: s.documents.outbox.parked(name(6), 10),
    "aggregates of parked publications": lambda s: s.documents.outbox.parked_aggregates(),
    "parked among": lambda s: s.documents.outbox.parked_aggregates([name(1), name(30)]),
    "settle a parked one": lambda s: s.documents.outbox.settle_parked(key(name(1), 1)),
    "settle at a place": lambda s: s.documents.outbox.settle([key(name(3), 1)], BusPlace("i", 3)),
    "confirm": lambda s: s.documents.outbox.confirm(BusPlace("i", 2)),
    "publish again": lambda s: s.documents.outbox.publish_again("i"),
    "settle": lambda s: s.documents.outbox.settle([key(name(1), 1)]),
    "snapshots latest": lambda s: s.snapshots.latest([AGGREGATE], SHAPE),
    "snapshots at": lambda s: s.snapshots.at(AGGREGATE, 5, SHAPE),
    "snapshots save": lambda s: s.snapshots.save(
        [Snapshot(AGGREGATE, 2, {}, 1, TIME, fingerprint="f")]
    ),
    "rows load": lambda s: s.rows.load([AGGREGATE, OTHER]),
    "rows save": lambda s: s.rows.save(
        [StoredRow(AGGREGATE, {"n": 1}, FeedPoint(0, 0, 9, 1), TIME)]
    ),
    "rows by a filter": lambda s: s.rows.find(RowQuery([ONE_KIND]), 20),
    "rows by two filters": lambda s: s.rows.find(RowQuery([ONE_KIND, FROM_N], "n"), 20),
    "rows in order": lambda s: s.rows.find(RowQuery((), "n"), 20),
    "rows in order, down": lambda s: s.rows.find(RowQuery((), "n", True), 20),
    "rows of a kind in order, down": lambda s: s.rows.find(RowQuery([ONE_KIND], "n", True), 20),
    "rows behind": lambda s: s.rows.find(RowQuery((), "n", False, (40, name(40))), 20),
    "rows before": lambda s: s.rows.find(RowQuery((), "n", True, (40, name(40))), 20),
    "rows by id behind": lambda s: s.rows.find(RowQuery(after=(None, name(40))), 20),
    "rows of an aggregate": lambda s: s.rows.find(RowQuery(aggregates=OWN), 20),
    "rows of an aggregate, down": lambda s: s.rows.find(
        RowQuery((), None, True, (None, name(40)), OWN), 20
    ),
    "rows of an aggregate in order": lambda s: s.rows.find(RowQuery((), "n", aggregates=OWN), 20),
    "rows purge": lambda s: s.rows.purge(FeedPoint(0, 0, 9, 9), LATER),
    "load": lambda s: s.documents.load(AGGREGATE, AGGREGATE),
    "load an absent one": lambda s: s.documents.load("none", "none"),
    "head": lambda s: s.documents.head(AGGREGATE),
    "project": lambda s: s.documents.project([StoredDocument(AGGREGATE, 2, {"n": 5})]),
    "project again": lambda s: s.documents.project([StoredDocument(AGGREGATE, 2, {"n": 5})]),
    "versions": lambda s: s.documents.versions([AGGREGATE, OTHER]),
    "find by id": lambda s: s.documents.find({"_id": AGGREGATE}, [], 0, 10),
    "find by ids": lambda s: s.documents.find({"_id": {"$in": [AGGREGATE]}}, [], 0, 10),
    "find in order": lambda s: s.documents.find({}, [], 0, 10),
    "changes": lambda s: ids(s.documents.changes(AGGREGATE, 0)),
    "letters": lambda s: s.letters.find(ParkedQuery("relay"), 20),
    "letters of all roles": lambda s: s.letters.find(ParkedQuery(), 20),
    "letters behind": lambda s: s.letters.find(ParkedQuery("relay", after=("relay", name(9))), 20),
    "letters behind, all roles": lambda s: s.letters.find(
        ParkedQuery(after=("relay", name(9))), 20
    ),
    "letter of an aggregate": lambda s: s.letters.find(ParkedQuery("relay", AGGREGATE), 20),
    "park again": lambda s: s.letters.park([parked(30)]),
    "requests": lambda s: s.letters.requests("relay", 0, 20),
    "request": lambda s: s.letters.request(parked(30), None),
    "request a discard": lambda s: s.letters.request(parked(31), Discard("me", "why", TIME)),
    "discarded": lambda s: s.letters.discarded("relay", [AGGREGATE]),
    "unpark": lambda s: s.letters.unpark("relay", [AGGREGATE]),
}
UNIONS = {"tails", "unplaced"}
"""Reads of several aggregates at once, whose parts each have an index."""


def examined(database: Any, command: dict[str, Any]) -> int:
    reply = database.command({"explain": command, "verbosity": "executionStats"})
    if "stages" in reply:
        reply = reply["stages"][0]["$cursor"]
    stats = reply["executionStats"]
    return int(stats["totalKeysExamined"] + stats["totalDocsExamined"])


async def test_each_query_is_flat_in_its_collections_size(mongo_url: str, prefix: str) -> None:
    commands, grown = Commands(), []
    async with (
        filled(mongo_url, f"{prefix}-small", SMALL),
        filled(mongo_url, f"{prefix}-large", LARGE, commands) as stores,
    ):
        with MongoClient[Any](mongo_url) as client:
            small, large = client[f"{prefix}-small"], client[f"{prefix}-large"]
            for what, call in CALLS.items():
                commands.sent.clear()
                await call(stores)
                assert commands.sent, what
                for each in [*commands.sent]:
                    before, after = examined(small, each), examined(large, each)
                    if after > MOST_GROWTH * before + 1:
                        grown.append((what, before, after, each))
                    if what not in UNIONS:
                        tops = {key for one in filters(each) for key in one}
                        assert not tops & {"$or", "$and"}, (what, each)
                    assert "$unionWith" not in str(each), (what, each)
    assert not grown, "\n".join(map(str, grown))
