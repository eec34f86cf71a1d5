"""What the start makes in MongoDB, and what it refuses to start with."""

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from eventfleet.stores.contracts import DomainStores
from eventfleet.stores.errors import Misconfigured
from eventfleet.stores.mongo import open_stores
from eventfleet.stores.mongo.domain_metadata import SCHEMA
from tests.contract.samples import DOMAIN, KEPT, at, event

PLACED = {"epoch": {"$gte": 0}}
FIRST = {"version": 1}
Keys = list[tuple[str, int]]


@pytest.fixture
def database(mongo_url: str, prefix: str) -> Iterator[Database[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](mongo_url) as client:
        yield client[prefix]
        client.drop_database(prefix)


@pytest.fixture
async def stores(mongo_url: str, prefix: str) -> AsyncIterator[DomainStores]:
    async with open_stores(mongo_url, prefix, [DOMAIN], timeout=10, snapshots_kept=KEPT) as opened:
        yield opened[DOMAIN]


def reported(database: Database[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    indexes = database[f"{DOMAIN}.{kind}"].index_information()
    return {
        name: {"key": index["key"]}
        | {option: index[option] for option in index.keys() - {"key", "v", "ns"}}
        for name, index in indexes.items()
    }


async def test_the_start_makes_the_indexes(
    stores: DomainStores, database: Database[dict[str, Any]]
) -> None:
    await stores.events.prepare()
    await stores.snapshots.prepare()
    assert reported(database, "events") == {
        "_id_": {"key": [("_id", 1)]},
        "versions": {"key": [("aggregate_id", 1), ("version", 1)], "unique": True},
        "positions": {
            "key": [("epoch", 1), ("partition", 1), ("offset", 1), ("version", 1)],
            "partialFilterExpression": PLACED,
        },
        "unplaced": {
            "key": [("unplaced", 1), ("aggregate_id", 1), ("version", 1)],
            "partialFilterExpression": {"unplaced": {"$gte": 0}},
        },
        "aggregates": {
            "key": [("version", 1), ("aggregate_id", 1)],
            "partialFilterExpression": FIRST,
        },
        "partitions": {
            "key": [("version", 1), ("partition", 1), ("aggregate_id", 1)],
            "partialFilterExpression": FIRST,
        },
    }
    assert reported(database, "snapshots") == {
        "_id_": {"key": [("_id", 1)]},
        "snapshots": {
            "key": [
                *(("aggregate_id", 1), ("state_version", 1)),
                *(("fingerprint", 1), ("version", 1)),
            ]
        },
    }


async def test_an_index_that_was_dropped_is_made_again(
    stores: DomainStores, database: Database[dict[str, Any]]
) -> None:
    await stores.events.prepare()
    before = reported(database, "events")
    database[f"{DOMAIN}.events"].drop_index("positions")
    await stores.events.prepare()
    assert reported(database, "events") == before


VERSIONS: Keys = [("aggregate_id", 1), ("version", 1)]
POSITIONS: Keys = [("epoch", 1), ("partition", 1), ("offset", 1), ("version", 1)]
WEAKER: dict[str, tuple[str, Keys, dict[str, Any], str]] = {
    "not unique": ("versions", VERSIONS, {}, "but it is (aggregate_id, version)."),
    "other keys": (
        "versions",
        [("aggregate_id", 1)],
        {"unique": True},
        "but it is (aggregate_id), unique True.",
    ),
    "keys in another order": (
        "versions",
        VERSIONS[::-1],
        {"unique": True},
        "but it is (version, aggregate_id), unique True.",
    ),
    "not partial": (
        "positions",
        POSITIONS,
        {},
        "but it is (epoch, partition, offset, version).",
    ),
    "another filter": (
        "positions",
        POSITIONS,
        {"partialFilterExpression": {"epoch": {"$gte": 1}}},
        "partialFilterExpression {'epoch': {'$gte': 1}}",
    ),
    "one that expires": (
        "aggregates",
        [("version", 1)],
        {"expireAfterSeconds": 10},
        "expireAfterSeconds 10",
    ),
}


@pytest.mark.parametrize(("name", "keys", "options", "found"), WEAKER.values(), ids=WEAKER)
async def test_a_weaker_index_stops_the_start(
    stores: DomainStores,
    database: Database[dict[str, Any]],
    name: str,
    keys: Keys,
    options: dict[str, Any],
    found: str,
) -> None:
    database[f"{DOMAIN}.events"].create_index(keys, name=name, **options)
    before = reported(database, "events")[name]
    where = f"{database.name}.{DOMAIN}.events: index '{name}'"
    with pytest.raises(Misconfigured, match=f"^{re.escape(where)}") as caught:
        await stores.events.prepare()
    assert found in str(caught.value)
    assert "drop the conflicting index" in str(caught.value)
    assert reported(database, "events")[name] == before


async def test_the_same_index_under_another_name_stops_the_start(
    stores: DomainStores, database: Database[dict[str, Any]]
) -> None:
    database[f"{DOMAIN}.events"].create_index(VERSIONS, name="mine", unique=True)
    with pytest.raises(
        Misconfigured, match=r"index 'versions' must be .* but another index has these keys"
    ):
        await stores.events.prepare()
    assert "mine" in reported(database, "events")


async def test_documents_that_break_an_index_stop_the_start(
    stores: DomainStores, database: Database[dict[str, Any]]
) -> None:
    twice = {"aggregate_id": "a1", "version": 1}
    database["domains"].insert_one({"_id": DOMAIN, "schema": SCHEMA})
    database[f"{DOMAIN}.events"].insert_many([{"_id": "x"} | twice, {"_id": "y"} | twice])
    with pytest.raises(
        Misconfigured, match=r"'versions' must be .* but stored documents violate it"
    ):
        await stores.events.prepare()
    assert database[f"{DOMAIN}.events"].count_documents({}) == 2


async def test_the_start_registers_the_schema(
    stores: DomainStores, database: Database[dict[str, Any]]
) -> None:
    await stores.events.prepare()
    await stores.events.write([event(position=at(0))])
    await stores.events.prepare()
    assert database["domains"].find_one({"_id": DOMAIN}, {"schema": 1}) == {
        "_id": DOMAIN,
        "schema": SCHEMA,
    }


@pytest.mark.parametrize("schema", [None, SCHEMA - 1, SCHEMA + 1])
async def test_another_schema_stops_the_start(
    stores: DomainStores, database: Database[dict[str, Any]], schema: int | None
) -> None:
    if schema is not None:
        database["domains"].insert_one({"_id": DOMAIN, "schema": schema})
    database[f"{DOMAIN}.events"].insert_one({"_id": "e1", "aggregate_id": "a1", "version": 1})
    with pytest.raises(
        Misconfigured,
        match=rf"domain 'orders' is stored in schema {schema or 1}, but .* schema {SCHEMA}",
    ):
        await stores.events.prepare()
    assert "versions" not in reported(database, "events")


async def test_a_weaker_index_of_snapshots_stops_the_start(
    stores: DomainStores, database: Database[dict[str, Any]]
) -> None:
    database[f"{DOMAIN}.snapshots"].create_index([("version", 1)], name="snapshots")
    with pytest.raises(
        Misconfigured, match=r"snapshots: index 'snapshots' must be .* but it is \(version\)"
    ):
        await stores.snapshots.prepare()


async def test_the_document_of_an_event(
    stores: DomainStores, database: Database[dict[str, Any]]
) -> None:
    await stores.events.prepare()
    await stores.events.write([event("a1", 1, at(5, 3), actor="me", prev="")])
    await stores.events.put([event("s1", 1)], 2)
    kept = {
        "version": 1,
        "type": "placed",
        "time": event().time.replace(tzinfo=None),
        "schema_version": 1,
        "data": {"n": 1},
    }
    documents = database[f"{DOMAIN}.events"]
    assert documents.find_one("a1\0a1-1") == {
        "_id": "a1\0a1-1",
        "aggregate_id": "a1",
        **kept,
        "prev": "",
        "actor": "me",
        "epoch": 0,
        "partition": 3,
        "offset": 5,
    }
    assert documents.find_one("s1\0s1-1") == {
        "_id": "s1\0s1-1",
        "aggregate_id": "s1",
        **kept,
        "partition": 2,
        "unplaced": 2,
    }
    earlier = {"$set": {"reply_to": "notices:gone/1"}}  # as earlier releases wrote it
    documents.update_one({"_id": "a1\0a1-1"}, earlier)
    [found] = [each async for each in stores.events.read("a1")]
    assert (found.actor, found.reply_to) == ("me", None)


async def test_a_unique_index_of_an_operators_own_is_named(
    stores: DomainStores, database: Database[dict[str, Any]]
) -> None:
    await stores.events.prepare()
    keys: Keys = [("aggregate_id", 1), ("type", 1)]
    database[f"{DOMAIN}.events"].create_index(keys, name="one_of_each", unique=True)
    await stores.events.write([event("a1", 1, at(0))])
    puts = [stores.events.put([event("a1", 2)], 0), stores.events.put_each([(event("a1", 2), 0)])]
    for write in (stores.events.write([event("a1", 2, at(1))]), *puts):
        with pytest.raises(Misconfigured, match=r"'one_of_each' \(aggregate_id, type\)"):
            await write
