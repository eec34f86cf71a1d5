"""Whatever a driver raises within a call means that its server is away; our own bugs stay bugs."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import nats
import pymongo
import pytest
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import IllegalStateError, ProducerClosed, UnknownMemberIdError
from bson import BSON
from nats.js import errors as jetstream
from pymongo.errors import InvalidOperation, OperationFailure, ProtocolError
from redis.asyncio import Connection as RedisConnection

from eventfleet.buses import NatsBus
from eventfleet.stores.errors import AccessRefused, Misconfigured, ServerUnavailable
from eventfleet.stores.kafka.errors import translate_errors as translate_kafka
from eventfleet.stores.mongo.errors import OperationRefused
from eventfleet.stores.mongo.errors import translate_errors as translate_mongo
from eventfleet.stores.redis.errors import translate_errors as translate_redis

Translating = Callable[[], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def on_mongo() -> Any:
    with translate_mongo("a collection"):
        yield


@asynccontextmanager
async def on_redis() -> Any:
    with translate_redis("a key", 1):
        yield


def on_kafka() -> AbstractAsyncContextManager[None]:
    return translate_kafka("asking", 1)


def on_nats() -> AbstractAsyncContextManager[None]:
    return NatsBus(nats.aio.client.Client(), "stream")._translating("asking", 1)


SERVERS: dict[str, Translating] = {
    "kafka": on_kafka,
    "mongo": on_mongo,
    "redis": on_redis,
    "nats": on_nats,
}


async def look_up_without_a_broker() -> None:
    """As where the metadata names no broker: "Did we not perform bootstrap?"."""
    await AIOKafkaClient().coordinator_lookup(CoordinationType.GROUP, "a group")


async def ask_a_closed_client() -> None:
    client: Any = pymongo.AsyncMongoClient(connect=False)
    await client.close()
    await client.admin.command("ping")


async def sort_by_nothing() -> None:
    pymongo.AsyncMongoClient(connect=False).test.events.find().sort(None)  # type: ignore[arg-type]


async def read_without_a_connection() -> None:
    connection: Any = RedisConnection()
    await connection._parser.read_response()


async def read_twice_at_once() -> None:
    stream = asyncio.StreamReader()
    stream._waiter = asyncio.get_running_loop().create_future()
    await stream.read(1)


async def ping_without_a_connection() -> None:
    await nats.aio.client.Client()._send_ping()


@pytest.mark.parametrize(
    ("server", "call"),
    [
        ("kafka", look_up_without_a_broker),
        ("mongo", ask_a_closed_client),
        ("mongo", sort_by_nothing),
        ("redis", read_without_a_connection),
        ("redis", read_twice_at_once),
        ("nats", ping_without_a_connection),
    ],
)
async def test_what_a_drivers_code_raises_is_an_outage(server: str, call: Any) -> None:
    with pytest.raises(ServerUnavailable) as caught:
        async with SERVERS[server]():
            await call()
    assert caught.value.__cause__ or caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("server", "error"),
    [
        ("kafka", ProducerClosed()),
        ("kafka", IllegalStateError("not assigned")),
        ("kafka", UnknownMemberIdError()),
        ("mongo", ProtocolError("an unknown opcode")),
        ("mongo", InvalidOperation("the session has ended")),
        ("nats", jetstream.ServiceUnavailableError(code=503, err_code=10008)),
    ],
)
async def test_errors_of_a_driver_that_come_without_a_traceback_are_outages(
    server: str, error: Exception
) -> None:
    future = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    with pytest.raises(ServerUnavailable):
        async with SERVERS[server]():
            await future


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("bug", [AssertionError("ours"), KeyError("ours"), AttributeError("ours")])
async def test_the_same_errors_of_our_own_code_are_bugs(server: str, bug: Exception) -> None:
    with pytest.raises(type(bug), match="ours"):
        async with SERVERS[server]():
            raise bug


def our_function(code: str) -> Any:
    """A function of the product that fails."""
    names: dict[str, Any] = {"__name__": "eventfleet.a_module"}
    exec(code, names)
    return names["fail"]


@pytest.mark.parametrize("server", SERVERS)
async def test_our_own_mistake_below_a_driver_is_a_bug(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver calls code of ours, which fails."""
    fail = our_function("async def fail(*_): return {}['ours']")
    monkeypatch.setattr(AIOKafkaClient, "get_random_node", lambda self: 1)
    monkeypatch.setattr(AIOKafkaClient, "send", fail)
    with pytest.raises(KeyError, match="ours"):
        async with SERVERS[server]():
            await look_up_without_a_broker()


@pytest.mark.parametrize("server", SERVERS)
async def test_a_call_that_the_driver_cancels_is_an_outage(server: str) -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    with pytest.raises(ServerUnavailable, match="CancelledError"):
        async with SERVERS[server]():
            await future


@pytest.mark.parametrize("server", SERVERS)
async def test_a_call_that_its_caller_cancels_is_cancelled(server: str) -> None:
    async def call() -> None:
        async with SERVERS[server]():
            await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def test_what_only_an_operator_mends_stays_so() -> None:
    with pytest.raises(AccessRefused):
        async with on_mongo():
            raise OperationFailure("Authentication failed", 18)
    with pytest.raises(Misconfigured):
        async with on_nats():
            raise jetstream.BadRequestError(code=400, description="no such stream")


@pytest.mark.parametrize("data", [{"number": 2**64}, {"set": {1}}])
async def test_data_that_a_driver_can_not_write_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(OperationRefused):
        async with on_mongo():
            BSON.encode(data)
