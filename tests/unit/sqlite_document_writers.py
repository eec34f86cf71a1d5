"""Edits of documents in a file, printed once they are answered: `FILE WRITERS`."""

import asyncio
import sys
from typing import Any

import msgspec

from eventfleet.documents import open_storage


class Counter(msgspec.Struct):
    id: str
    count: int = 0
    version: int = 0


def raise_count(counter: Any) -> None:
    counter.count += 1


async def main(file: str, writers: int) -> None:
    async with open_storage(f"sqlite:///{file}", "db", "counters", Counter) as counters:

        async def write(id: str) -> None:
            await counters.find_one_and_upsert(Counter(id), "writer")
            while True:
                counter, _ = await counters.find_one_and_update(id, raise_count, "writer")
                print(id, counter.version, flush=True)

        await asyncio.gather(*(write(f"c{number}") for number in range(writers)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
