"""A process of four writers that edit random documents, and note each acknowledged edit.

`python -m tests.faults.document_writers URL DATABASE EDITS SEED LOG [BUS ADDRESS CHANNEL]` ends
when it has made its edits. With a bus it publishes the collection's changes too.
"""

import asyncio
import random
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, TextIO

import msgspec
import nats
from redis.asyncio import Redis

from eventfleet.buses import NatsBus, RedisBus
from eventfleet.documents import EditConflict, EventSourcedStorage, open_storage
from eventfleet.errors import OpeningFailed, ServerUnavailable

DOCUMENTS = 100
WRITERS = 4
COLLECTION = "counters"
CONFIRM_PAUSE_SECONDS = 0.2
MAX_STARTS = 100


class CounterDocument(msgspec.Struct):
    """A document that each edit counts up, and whose last edit it names."""

    id: str
    count: int = 0
    last: str = ""
    version: int = 0


async def write(
    counters: EventSourcedStorage[CounterDocument],
    edits: int,
    name: str,
    chance: random.Random,
    log: TextIO,
) -> None:
    """Make edits; of each that is acknowledged, write name, document and version."""
    for number in range(edits):
        edit_name, id = f"{name}-{number}", f"d{chance.randrange(DOCUMENTS)}"

        def edit(counter: CounterDocument, edit_name: str = edit_name) -> None:
            counter.count += 1
            counter.last = edit_name

        try:
            await counters.find_one_and_upsert(CounterDocument(id), name)
            edited, _ = await counters.find_one_and_update(id, edit, name)
        except (EditConflict, ServerUnavailable):
            await asyncio.sleep(CONFIRM_PAUSE_SECONDS)
            continue
        log.write(f"{edit_name} {id} {edited.version}\n")
        log.flush()


async def main(url: str, database: str, edits: int, seed: int, log: Path, bus: list[str]) -> None:
    async with AsyncExitStack() as stack:
        options: dict[str, Any] = {}
        if bus:
            opened = await open_bus(stack, *bus)
            options["bus"] = await entered(stack, lambda: opened)
        output = stack.enter_context(log.open("a"))
        counters = await entered(
            stack, lambda: open_storage(url, database, COLLECTION, CounterDocument, **options)
        )
        async with asyncio.TaskGroup() as group:
            for writer in range(WRITERS):
                name, chance = f"{seed}.{writer}", random.Random(f"{seed}.{writer}")
                group.create_task(write(counters, edits // WRITERS, name, chance, output))


async def entered(stack: AsyncExitStack, make: Callable[[], Any]) -> Any:
    """Enter a bus or a storage, again while its server is away."""
    for _ in range(MAX_STARTS):
        with suppress(ServerUnavailable, OpeningFailed):
            return await stack.enter_async_context(make())
        await asyncio.sleep(CONFIRM_PAUSE_SECONDS)
    return await stack.enter_async_context(make())


async def open_bus(stack: AsyncExitStack, kind: str, address: str, channel: str) -> Any:
    """Return a bus of a server, which the stack closes."""
    match kind:
        case "redis":
            client = await stack.enter_async_context(Redis.from_url(address))
            return RedisBus(client, channel)
        case "nats":
            connection = await stack.enter_async_context(await nats.connect(address))
            return NatsBus(connection, channel)
    raise ValueError(kind)


if __name__ == "__main__":
    url, database, edits, seed, log, *bus = sys.argv[1:]
    asyncio.run(main(url, database, int(edits), int(seed), Path(log), bus))
