"""The drivers' clients: the only import of them. The URL brings addresses, credentials and TLS.

PyMongo's own asynchronous client works in the event loop; Motor, with the same operations, has
threads for it. Some answer an operation at once where the others are awaited: `maybe_await` takes both.
"""

import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC
from inspect import isawaitable
from typing import Any, TypeAlias

import pymongo
from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry
from bson.dbref import DBRef
from bson.int64 import Int64
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.read_concern import ReadConcern

from eventfleet.stores.errors import Misconfigured
from eventfleet.stores.mongo.errors import translate_errors

Client: TypeAlias = AsyncMongoClient[dict[str, Any]]
Collection: TypeAlias = AsyncCollection[dict[str, Any]]


class Int64Decoder(TypeDecoder):
    """64-bit integers come back as int, not as the driver's subclass of it."""

    bson_type = Int64

    def transform_bson(self, value: Any) -> int:
        return int(value)


class DBRefDecoder(TypeDecoder):
    """An object with a key `$ref` comes back as it was stored, not as a database reference."""

    bson_type = DBRef

    def transform_bson(self, value: Any) -> dict[str, Any]:
        return dict(value.as_doc())


CODEC: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True, tzinfo=UTC, type_registry=TypeRegistry([Int64Decoder(), DBRefDecoder()])
)


@asynccontextmanager
async def connect(url: str, timeout: float, *, threads: bool = False) -> AsyncIterator[Client]:
    """A client that connects at its first call. `timeout` in seconds bounds each operation.

    With `threads` it works, and reads what comes, beside the event loop: dearer for each call.
    """
    millis = int(timeout * 1000)
    kind: Any = AsyncIOMotorClient if threads else AsyncMongoClient
    with translate_errors("MongoDB"), _refusing_the_url():
        client: Client = kind(
            url,
            appname="eventfleet",
            timeoutMS=millis,
            serverSelectionTimeoutMS=millis,
            connectTimeoutMS=millis,
        )
    try:
        yield client
    finally:
        with pymongo.timeout(timeout):
            await maybe_await(client.close())


async def maybe_await(answer: Any) -> Any:
    """What an operation answers, whether or not it is to be awaited."""
    return await answer if isawaitable(answer) else answer


@contextmanager
def _refusing_the_url() -> Iterator[None]:
    """The driver only warns of an option that it can't read, and would go on without it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            yield
    except (OSError, TypeError, UserWarning, ValueError) as error:
        raise Misconfigured(f"MongoDB's URL can't be used: {error}") from None


def collection(client: Client, database: str, name: str) -> Collection:
    """A collection read and written as the contracts promise, whatever the URL says."""
    return client[database].get_collection(
        name,
        codec_options=CODEC,
        read_preference=ReadPreference.PRIMARY,
        read_concern=ReadConcern("majority"),
        write_concern=WriteConcern("majority", j=True),
    )


def full_name(collection: Collection) -> str:
    """Database and collection, as errors name them."""
    return str(collection.full_name)


def timeout(collection: Collection) -> float:
    """What the client was given, in seconds."""
    seconds = collection.database.client.options.timeout
    assert seconds
    return seconds
