"""Hand-written commands of a lone caller: mark, produce with an acknowledgement, confirm.

For the first command of an aggregate it reads the store between two marks, as our marker does.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec
from aiokafka import AIOKafkaProducer
from pymongo import AsyncMongoClient

from benchmarks.contenders.command_loop import (
    CommandDecider,
    CommandRecord,
    LatestEvent,
    LoopCommand,
    encode,
)
from benchmarks.contenders.command_scripts import MARK_SCRIPT, RedisPool
from benchmarks.contenders.lone_command_data import measure_sends
from benchmarks.contenders.loop import open_collection
from benchmarks.contenders.task import EVENT_LOOP, ContenderTask, read_task, run, write_result

SETTINGS = {"acks": "all", "event loop": EVENT_LOOP}


class LoneCaller(CommandDecider):
    """Decides one new command at a time, all of one partition."""

    async def send(self, subject: str, name: str, data: bytes) -> dict[str, Any]:
        """Return the reply of an accepted command. RuntimeError for any other."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        envelope = CommandRecord(
            "1.0", str(uuid4()), name, self._domain, subject, now, msgspec.Raw(data)
        )
        command = LoopCommand(subject.encode(), envelope, self._domain)
        status, prev = await self._mark(command)
        if status == b"missing":
            command.head = await self._load_head(subject)
            status, prev = await self._mark(command)
        # Redis is young, and nothing was there before it.
        if status not in (b"ok", b"tentative"):
            raise RuntimeError(f"{name} of {subject}: {status!r}")
        await self._produce_and_confirm(0, [(command, prev)])
        if command.head:
            await self.guard.read_incarnation()
        assert command.reply
        return command.reply

    async def _mark(self, command: LoopCommand) -> tuple[bytes, bytes]:
        ((status, *rest),) = await self._redis.run(MARK_SCRIPT, [self._mark_call(command)])
        return status, rest[0] if rest else b""

    async def _load_head(self, subject: str) -> LatestEvent:
        self.guard.check(0)
        if await self._query_heads([subject]):
            raise RuntimeError(f"{subject} has events already")
        return LatestEvent("", "")


@asynccontextmanager
async def open_lone_caller(task: ContenderTask) -> AsyncIterator[LoneCaller]:
    redis = await RedisPool.open(task.redis_url, 1)
    producer = AIOKafkaProducer(bootstrap_servers=task.kafka, acks="all", max_batch_size=950_000)
    await producer.start()
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(task.mongo_url)
    caller = LoneCaller(task, open_collection(task, client, "events"), redis, producer)
    async with caller.guard:
        yield caller
    await producer.stop()
    redis.close()
    await client.close()


async def main(task: ContenderTask) -> None:
    async with open_lone_caller(task) as caller:

        async def send(order: str, name: str, data: dict[str, Any]) -> None:
            await caller.send(order, name, encode(data))

        result = await measure_sends(task, send, SETTINGS)
    write_result(result)


if __name__ == "__main__":
    run(main(read_task()))
