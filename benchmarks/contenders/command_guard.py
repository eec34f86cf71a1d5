"""The lag guard of the hand-written loop: every second, how far append has surely come."""

import asyncio
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from benchmarks.contenders.command_scripts import LIFE, Pipes
from benchmarks.contenders.task import Task

HALF = 1800.0


class Guard:
    """Used as `async with`; looks once before it begins."""

    def __init__(self, task: Task, pipes: Pipes) -> None:
        self.incarnation, self.now = b"", b"0"
        self._group, self._pipes = f"eventfleet.{task.domain}.append", pipes
        self._parts = [TopicPartition(f"{task.domain}.events", p) for p in range(task.partitions)]
        self._upto = dict.fromkeys(range(task.partitions), 0.0)
        self._reader: Any = AIOKafkaConsumer(bootstrap_servers=task.kafka)
        self._admin: Any = AIOKafkaAdminClient(bootstrap_servers=task.kafka)

    async def __aenter__(self) -> Self:
        await self._reader.start()
        await self._admin.start()
        await self._look()
        self._beat = asyncio.create_task(self._go_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._beat.cancel()
        await asyncio.gather(self._beat, return_exceptions=True)
        await self._reader.stop()
        await self._admin.close()

    def check(self, partition: int) -> None:
        """RuntimeError where the store may not be trusted."""
        if self._upto[partition] < float(self.now) - HALF:
            raise RuntimeError(f"append is behind in partition {partition}")

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(1)
            await self._look()

    async def see(self) -> None:
        """The present life and time; a look at the store that is older than a marker is no use."""
        ((self.incarnation, self.now),) = await self._pipes.run(
            LIFE, [("life", self._pipes.run_id)]
        )

    async def _look(self) -> None:
        await self.see()
        ends = await self._reader.end_offsets(self._parts)
        offsets = await self._admin.list_consumer_group_offsets(self._group)
        for part, end in ends.items():
            if not end or (part in offsets and offsets[part].offset >= end):
                self._upto[part.partition] = float(self.now)
