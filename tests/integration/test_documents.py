"""Documents on MongoDB: round trips, clients of one's own, and what a failure leaves."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import msgspec
import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandListener

from eventfleet.documents import Documents, EventSourcedStorage, OpeningFailed, open_storage
from eventfleet.errors import DeclarationError, ServerUnavailable
from tests.servers.mongodb import RefusingMongoDB
from tests.servers.server import free_port

COUNTED: ContextVar[list[str] | None] = ContextVar("COUNTED", default=None)


class User(msgspec.Struct):
    """A user."""

    id: str
    name: str = ""
    email: str = ""
    version: int = 0


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


async def test_an_edit_of_a_cached_document_is_one_round_trip_and_else_two(
    client: AsyncMongoClient[Any], prefix: str
) -> None:
    async with open_storage(client, prefix, "users", User) as users:
        created = await commands(users.find_one_and_upsert(User("u1")))
        assert created == ["aggregate", "insert"]
        assert await commands(users.find_one_and_update("u1", rename("a"))) == ["insert"]
        assert await commands(users.get("u1")) == []
        assert await commands(users.delete_one("u1")) == ["insert"]
    async with open_storage(client, prefix, "users", User) as users:
        await users.find_one_and_upsert(User("u1"))
    async with open_storage(client, prefix, "users", User) as users:
        edited = await commands(users.find_one_and_update("u1", rename("a")))
        assert edited == ["aggregate", "insert"]


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
