"""Data of the documents scenario: users that writers edit, each document by one of them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.read_concern import ReadConcern

from benchmarks.contenders.task import ContenderTask, Result, Stopwatch, write_result

DOCUMENTS = 256
WRITERS = 16


class User(msgspec.Struct):
    """A document of about 250 bytes."""

    id: str
    name: str = "John Doe"
    email: str = "john.doe@example.com"
    street: str = "12 Long Street of the Old Town"
    city: str = "Springfield"
    tags: list[str] = msgspec.field(default_factory=lambda: ["customer", "newsletter"])
    visits: int = 0
    version: int = 0


def open_collection(
    client: AsyncMongoClient[dict[str, Any]], task: ContenderTask
) -> AsyncCollection[dict[str, Any]]:
    """Return the documents' collection, with the concerns of our stores."""
    return client[task.database].get_collection(
        task.domain,
        read_preference=ReadPreference.PRIMARY,
        read_concern=ReadConcern("majority"),
        write_concern=WriteConcern("majority", j=True),
    )


async def measure_edits(task: ContenderTask, edit: Callable[[str], Awaitable[object]]) -> None:
    """Have WRITERS edit their documents, once each to begin with, and report the result."""
    share = DOCUMENTS // WRITERS
    of_writer = [[f"u{w * share + n}" for n in range(share)] for w in range(WRITERS)]

    async def write(ids: list[str], edits: int) -> None:
        for number in range(edits):
            await edit(ids[number % share])

    await asyncio.gather(*(write(ids, share) for ids in of_writer))
    clock = Stopwatch()
    clock.start()
    await asyncio.gather(*(write(ids, task.records // WRITERS) for ids in of_writer))
    clock.stop()
    settings = {"documents": DOCUMENTS, "writers": WRITERS}
    write_result(Result(task.records, clock.seconds, clock.cpu, 0, settings))
