"""Each query of the stores examines as much in a collection of 20,000 as in one of 1,000.

The commands that the stores send are listened to, and explained by the server over both sizes. What
answers about a whole collection (counts, all that is parked in a partition) is left out.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from pymongo import AsyncMongoClient, MongoClient
from pymongo.monitoring import CommandListener

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
from tests.contract.samples import DOMAIN, KEPT, TIME, at, event
from tests.contract.store_calls import CALLS, INDEXES, name, parked

SMALL, LARGE = 1_000, 20_000
MOST_GROWTH = 1.5
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
        self.views = MongoViews(DOMAIN, domains)
        self.rows = self.views.rows("items", "items", 1)

    async def prepare(self) -> None:
        await self.documents.prepare()
        await self.snapshots.prepare()
        await self.letters.prepare()
        await self.rows.prepare(INDEXES)


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
