"""MongoDB clients: the only import of the drivers. The URL brings addresses, credentials and TLS.

PyMongo's own asynchronous client works in the event loop; Motor, with the same operations, works in
threads. Some operations are awaited in one driver only: `maybe_await` takes both.
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
from pymongo.errors import ConfigurationError
from pymongo.read_concern import ReadConcern

from eventfleet.stores.errors import Misconfigured
from eventfleet.stores.mongo.driver_fix import fix_driver
from eventfleet.stores.mongo.errors import translate_errors
from eventfleet.stores.url_secrets import mask_credentials

fix_driver()

Client: TypeAlias = AsyncMongoClient[dict[str, Any]]
Collection: TypeAlias = AsyncCollection[dict[str, Any]]


class Int64Decoder(TypeDecoder):
    """Decodes 64-bit integers to int, not to the driver's subclass of it."""

    bson_type = Int64

    def transform_bson(self, value: Any) -> int:
        return int(value)


class DBRefDecoder(TypeDecoder):
    """Decodes an object with a key `$ref` as it was stored, not to a database reference."""

    bson_type = DBRef

    def transform_bson(self, value: Any) -> dict[str, Any]:
        return dict(value.as_doc())


DEFAULT_TIMEOUT_SECONDS = 10.0
"""For the client of a team's own that has none."""

CLOSE_TIMEOUT_SECONDS = 2.0
"""A client that leaves tells the server, which forgets its sessions by itself, too."""

CODEC: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True, tzinfo=UTC, type_registry=TypeRegistry([Int64Decoder(), DBRefDecoder()])
)


@asynccontextmanager
async def connect(url: str, timeout: float, *, threads: bool = False) -> AsyncIterator[Client]:
    """Yield a client that connects at its first call. `timeout` in seconds bounds each operation.

    With `threads` it works, and decodes what it reads, beside the event loop: dearer for each call.
    Misconfigured: the URL can't be used.
    """
    millis = int(timeout * 1000)
    kind: Any = AsyncIOMotorClient if threads else AsyncMongoClient
    with translate_errors("MongoDB"), _refuse_bad_url(url):
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
        with pymongo.timeout(min(timeout, CLOSE_TIMEOUT_SECONDS)):
            await maybe_await(client.close())


async def maybe_await(result: Any) -> Any:
    """Return the result of an operation, awaited where the driver returns an awaitable."""
    return await result if isawaitable(result) else result


@contextmanager
def _refuse_bad_url(url: str) -> Iterator[None]:
    """The driver only warns of an option that it can't read, and would go on without it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            yield
    except (ConfigurationError, OSError, TypeError, UserWarning, ValueError) as error:
        reason = mask_credentials(str(error), url)
        raise Misconfigured(f"MongoDB's URL can't be used: {reason}") from None


def open_collection(client: Client, database: str, name: str) -> Collection:
    """Return a collection that is read and written as the contracts promise, whatever the URL."""
    return client[database].get_collection(
        name,
        codec_options=CODEC,
        read_preference=ReadPreference.PRIMARY,
        read_concern=ReadConcern("majority"),
        write_concern=WriteConcern("majority", j=True),
    )


def full_name(collection: Collection) -> str:
    """Return database and collection, as errors name them."""
    return str(collection.full_name)


def timeout_seconds(collection: Collection) -> float:
    """Return the timeout that the collection's client was made with, or DEFAULT_TIMEOUT_SECONDS."""
    return collection.database.client.options.timeout or DEFAULT_TIMEOUT_SECONDS
