"""Documents on MongoDB: round trips, clients of one's own, and what a failure leaves."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandListener

from eventfleet.buses import DocumentEvent, MemoryBus
from eventfleet.documents import (
    Documents,
    EventMapper,
    EventSourcedStorage,
    EventTypes,
    InvalidDocument,
    OpeningFailed,
    open_storage,
)
from eventfleet.errors import DeclarationError, ServerUnavailable
from tests.servers.mongodb import RefusingMongoDB
from tests.servers.server import free_port
from tests.unit.eventually import until

COUNTED: ContextVar[list[str] | None] = ContextVar("COUNTED", default=None)


class User(msgspec.Struct):
    """A user."""

    id: str
    name: str = ""
    email: str = ""
    version: int = 0


class Game(msgspec.Struct):
    """A game."""

    id: str
    gold: int = 0
    version: int = 0


@dataclass
class Player:
    """A player, whose fields for id and version have other names than the usual ones."""

    key: ObjectId
    name: str = ""
    revision: int = 0


class Counter(CommandListener):
    """Notes the commands of the tasks in whose context COUNTED is set."""

    def started(self, event: Any) -> None:
        if (counted := COUNTED.get()) is not None:
            counted.append(event.command_name)

    def succeeded(self, event: Any) -> None: ...
    def failed(self, event: Any) -> None: ...


@pytest.fixture
async def client(mongo_url: str, prefix: str) -> AsyncIterator[AsyncMongoClient[Any]]:
    async with AsyncMongoClient(mongo_url, event_listeners=[Counter()]) as client:
        yield client
        await client.drop_database(prefix)


def rename(name: str) -> Any:
    def edit(user: User) -> None:
        user.name = name

    return edit


async def commands(work: Any) -> list[str]:
    """The commands that are sent before the answer."""
    counted: list[str] = []
    token = COUNTED.set(counted)
    try:
        await work
    finally:
        COUNTED.reset(token)
    return counted


async def test_an_edit_of_a_cached_document_is_one_round_trip_a_creation_two_and_else_three(
    client: AsyncMongoClient[Any], prefix: str
) -> None:
    async with open_storage(client, prefix, "users", User) as users:
        created = await commands(users.find_one_and_upsert(User("u1")))
        assert created == ["find", "insert"]
        assert await commands(users.find_one_and_update("u1", rename("a"))) == ["insert"]
        assert await commands(users.get("u1")) == []
        assert await commands(users.delete_one("u1")) == ["insert"]
    async with open_storage(client, prefix, "users", User) as users:
        await users.find_one_and_upsert(User("u1"))
    async with open_storage(client, prefix, "users", User) as users:
        edited = await commands(users.find_one_and_update("u1", rename("a")))
        assert edited == ["find", "find", "insert"]


async def test_the_cache_keeps_so_many_documents_for_so_long(
    client: AsyncMongoClient[Any], prefix: str
) -> None:
    options = {"cache_documents": 2, "cache_seconds": 0.5}
    async with open_storage(client, prefix, "users", User, **options) as users:
        for id in ("u1", "u2", "u3"):
            await users.find_one_and_upsert(User(id))
        assert await commands(users.get("u1")) == ["find", "find"]
    options = {"cache_documents": 3, "cache_seconds": 600.0}
    async with open_storage(client, prefix, "users", User, **options) as users:
        await asyncio.gather(*map(users.get, ("u1", "u2", "u3")))
        for id in ("u1", "u2", "u3"):
            await users.get(id)
            assert await commands(users.get(id)) == []


async def test_a_client_that_is_handed_in_stays_open(
    client: AsyncMongoClient[Any], mongo_url: str, prefix: str
) -> None:
    async with open_storage(client, prefix, "users", User) as users:
        await users.find_one_and_upsert(User("u1", "John"))
    assert await client[prefix]["users"].find_one() == {
        "_id": "u1",
        "name": "John",
        "email": "",
        "version": 1,
    }
    motor: Any = AsyncIOMotorClient(mongo_url)
    async with open_storage(motor, prefix, "users", User) as users:
        assert (await users.find_one_and_update("u1", rename("Jane")))[0].name == "Jane"
        assert [user.name for user in await users.find()] == ["Jane"]
    assert await motor[prefix]["users"].count_documents({}) == 1
    motor.close()


async def test_events_lie_in_the_collection_that_was_named(
    client: AsyncMongoClient[Any], mongo_url: str, prefix: str
) -> None:
    async with open_storage(mongo_url, prefix, "users", User, event_collection="events") as users:
        await users.find_one_and_upsert(User("u1"), "web")
    [event] = await client[prefix]["events"].find().to_list()
    assert (event["aggregate_id"], event["type"], event["actor"]) == ("u1", "UserCreated", "web")


async def test_id_and_version_may_lie_in_fields_of_other_names(
    client: AsyncMongoClient[Any], prefix: str
) -> None:
    fields = {"id_field": "key", "version_field": "revision"}
    key = ObjectId("650000000000000000000001")
    await client[prefix]["players"].insert_one({"_id": key, "name": "Ann", "revision": 4})
    async with open_storage(client, prefix, "players", Player, **fields) as players:
        assert await players.get(key) == Player(key, "Ann", 4)

        def edit(player: Player) -> None:
            player.name, player.revision = "Bea", player.revision + 1

        assert (await players.find_one_and_update(key, edit))[0] == Player(key, "Bea", 5)
        assert await players.find(at_least={key: 5}) == [Player(key, "Bea", 5)]
        [change] = await players.get_missing_events(key, 4)
        assert change.diff.merge_patch == {"name": "Bea"}
    [stored] = await client[prefix]["players"].find().to_list()
    assert stored == {"_id": key, "name": "Bea", "revision": 5}


async def test_other_programs_know_a_deleted_document_by_its_tombstone(
    client: AsyncMongoClient[Any], prefix: str
) -> None:
    async with open_storage(client, prefix, "users", User) as users:
        await users.find_one_and_upsert(User("u1", "John"))
        await users.delete_one("u1")
    [stored] = await client[prefix]["users"].find().to_list()
    assert stored == {"_id": "u1", "_deleted": True, "version": 2}


@pytest.mark.parametrize(
    ("version", "adopted_at"),
    [({"version": 6}, 6), ({}, 1), ({"version": None}, 1), ({"version": "two"}, 1)],
)
async def test_what_was_there_is_adopted_at_its_version_or_1_and_that_is_logged(
    client: AsyncMongoClient[Any],
    prefix: str,
    caplog: pytest.LogCaptureFixture,
    version: dict[str, Any],
    adopted_at: int,
) -> None:
    await client[prefix]["users"].insert_one({"_id": "u1", "name": "John"} | version)
    logger = logging.getLogger("team.users")
    with caplog.at_level(logging.INFO, "team.users"):
        async with open_storage(client, prefix, "users", User, logger=logger) as users:
            assert await users.get("u1") == User("u1", "John", version=adopted_at)
            edited, diff = await users.find_one_and_update("u1", rename("Jane"))
            assert (edited.version, diff.version) == (adopted_at + 1, adopted_at + 1)
            [change] = await users.get_missing_events("u1")
            assert change.floor == adopted_at
            assert await users.find() == [User("u1", "Jane", version=adopted_at + 1)]
    assert [record.name for record in caplog.records if "adopted" in record.message] == [
        "team.users"
    ]
    assert f"users/u1 is adopted at version {adopted_at}" in caplog.text


async def test_a_stored_document_of_another_shape_is_refused_by_field(
    client: AsyncMongoClient[Any], prefix: str
) -> None:
    await client[prefix]["users"].insert_one({"_id": "u1", "name": 7, "version": 3})
    async with open_storage(client, prefix, "users", User) as users:
        for read in (users.get("u1"), users.find(), users.find_one_and_update("u1", rename("a"))):
            with pytest.raises(InvalidDocument, match="name: Expected `str`, got `int`"):
                await read
        assert await users.get_missing_events("u1") == []


async def test_each_part_that_fails_stops_the_opening_with_a_message(mongo_url: str) -> None:
    absent = f"mongodb://127.0.0.1:{free_port()}"
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"client": absent, "timeout": 0.3}, OpeningFailed, "users can't be opened"),
        ({"client": "http://x"}, OpeningFailed, "URL"),
        ({"collection": "Users"}, OpeningFailed, "'Users' must begin with a-z"),
        ({"id_field": "key"}, OpeningFailed, "User has no field 'key'"),
    ]
    for changed, error, text in cases:
        given: Any = {"client": mongo_url, "database": "t", "collection": "users", "kind": User}
        with pytest.raises(error, match=text):
            async with open_storage(**{**given, **changed}):
                pass


@pytest.mark.parametrize("name", ["versions", "pending"])
async def test_events_that_can_t_be_kept_in_their_collection_stop_the_opening(
    client: AsyncMongoClient[Any], prefix: str, name: str
) -> None:
    await client[prefix]["users.events"].create_index([("other", 1)], name=name)
    with pytest.raises(OpeningFailed, match=rf"users can't be opened: .*{name}"):
        async with open_storage(client, prefix, "users", User):
            pass


async def test_what_can_t_be_stored_is_the_callers_error_and_changes_nothing(
    own_mongo: RefusingMongoDB, prefix: str
) -> None:
    async with open_storage(own_mongo.url, prefix, "users", User, timeout=1.0) as users:
        await users.find_one_and_upsert(User("u1", "John"))
        await users.find()
        own_mongo.stop()
        with pytest.raises(ServerUnavailable):
            await users.find_one_and_update("u1", rename("Jane"))
        own_mongo.start()
        assert (await get(users, "u1")).name == "John"
        assert len(await users.get_missing_events("u1")) == 1


async def get(users: EventSourcedStorage[User], id: str) -> User:
    while True:
        try:
            found = await users.get(id)
        except ServerUnavailable:
            continue
        assert found
        return found


async def test_documents_of_many_collections(client: AsyncMongoClient[Any], prefix: str) -> None:
    async with Documents(client, prefix, {"users": User}) as documents:

        def change(user: User | None) -> User | None:
            user = user or User("user123", "John Doe", "john@example.com")
            user.email = "john.doe@example.com"
            return user

        user, diff = await documents.update("users", "user123", change)
        assert user == User("user123", "John Doe", "john.doe@example.com", 1)
        assert diff.is_new
        again, diff = await documents.update("users", "user123", change, "web")
        assert (again, diff.has_changes) == (user, False)
        assert await documents.update("users", "u2", lambda user: None) == (
            None,
            diff.__class__(version=0),
        )
        assert await documents["users"].get("user123") == user
        with pytest.raises(DeclarationError, match="declared: users"):
            documents["games"]


class Noted:
    """An object that handles events, as document 003's handlers are."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, int]] = []

    def handle_event(self, event: DocumentEvent) -> None:
        self.seen.append((event.event_type, event.aggregate_id, event.version))


async def test_the_basic_set_up_of_users(client: AsyncMongoClient[Any], prefix: str) -> None:
    """Document 003's: a client, a bus, a mapper, two handlers, and an update that creates."""
    bus, created, updated = MemoryBus(), Noted(), Noted()
    opening = Documents(
        client, prefix, {"users": User}, bus=bus, mapper=EventMapper(), version_field="version"
    )
    async with bus, opening as documents:
        bus.subscribe("UserCreated", created, "created")
        bus.subscribe("UserUpdated", updated, "updated")

        def change(user: User | None) -> User:
            user = user or User("user123", "John Doe", "john@example.com")
            user.email = "john.doe@example.com"
            return user

        await documents.update("users", "user123", change)
        await documents.update("users", "user123", rename("John"))
        await until(lambda: created.seen and updated.seen)
    assert created.seen == [("UserCreated", "user123", 1)]
    assert updated.seen == [("UserUpdated", "user123", 2)]
    assert await client[prefix]["users"].count_documents({"_id": "user123", "name": "John"}) == 1


async def test_collections_have_documents_versions_and_names_of_their_own(
    client: AsyncMongoClient[Any], prefix: str
) -> None:
    bus, seen, mapper = MemoryBus(), Noted(), EventMapper()
    mapper.register("games", EventTypes("GameBegun", "GamePlayed", "GameOver"))
    bus.subscribe("*", seen, "seen")
    kinds = {"users": User, "games": Game}
    async with bus, Documents(client, prefix, kinds, bus=bus, mapper=mapper) as documents:
        await documents.update("users", "a", lambda user: user or User("a", "Ann"), "web")
        await documents.update("games", "a", lambda game: game or Game("a"), "server")

        def earn(game: Game) -> None:
            game.gold += 5

        game, diff = await documents.update("games", "a", earn)
        assert (game, diff.merge_patch) == (Game("a", 5, 2), {"gold": 5})
        await documents["games"].delete_one("a")
        assert await documents["users"].get("a") == User("a", "Ann", version=1)
        assert [c.version for c in await documents["users"].get_missing_events("a")] == [1]
        await until(lambda: len(seen.seen) == 4)
    assert sorted(seen.seen) == [
        ("GameBegun", "a", 1),
        ("GameOver", "a", 3),
        ("GamePlayed", "a", 2),
        ("UserCreated", "a", 1),
    ]
    stored = await client[prefix]["games.events"].find().sort("version").to_list()
    assert [each["type"] for each in stored] == ["GameBegun", "GamePlayed", "GameOver"]


async def test_what_an_update_raises_passes_through_and_nothing_is_stored(
    client: AsyncMongoClient[Any], prefix: str
) -> None:
    async with Documents(client, prefix, {"users": User}) as documents:

        async def fail(user: User | None) -> User:
            raise LookupError("a bug")

        for _ in "absent", "present":
            with pytest.raises(LookupError, match="a bug"):
                await documents.update("users", "user123", fail)
            assert len(await documents["users"].get_missing_events("user123")) == (_ == "present")
            await documents["users"].find_one_and_upsert(User("user123"))


async def test_a_collection_that_can_t_be_opened_closes_the_others(
    client: AsyncMongoClient[Any], prefix: str
) -> None:
    documents = Documents(client, prefix, {"users": User, "Games": Game})
    with pytest.raises(OpeningFailed, match="Games can't be opened"):
        await documents.start()
    with pytest.raises(DeclarationError, match="'users' is not open"):
        documents["users"]
    assert not [task for task in asyncio.all_tasks() if "of users" in task.get_name()]


def test_importing_documents_loads_no_driver_of_another_server() -> None:
    program = (
        "import sys, eventfleet.documents;"
        "print([name for name in ('faust', 'mode', 'aiokafka', 'redis', 'nats') if name in"
        " sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
