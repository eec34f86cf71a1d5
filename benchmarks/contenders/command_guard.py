"""The lag guard of the hand-written loop: checks append's lag every second."""

import asyncio
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from benchmarks.contenders.command_scripts import INCARNATION_SCRIPT, RedisPool
from benchmarks.contenders.task import ContenderTask

HALF_EXPIRY_SECONDS = 1800.0


class LoopLagGuard:
    """Tracks when append was last caught up; an async context manager, refreshed on entry."""

    def __init__(self, task: ContenderTask, redis: RedisPool) -> None:
        self.incarnation, self.now = b"", b"0"
        self._group, self._redis = f"eventfleet.{task.domain}.append", redis
        self._topic_partitions = [
            TopicPartition(f"{task.domain}.events", p) for p in range(task.partitions)
        ]
        self._caught_up_at = dict.fromkeys(range(task.partitions), 0.0)
        self._reader: Any = AIOKafkaConsumer(bootstrap_servers=task.kafka)
        self._admin: Any = AIOKafkaAdminClient(bootstrap_servers=task.kafka)

    async def __aenter__(self) -> Self:
        await self._reader.start()
        await self._admin.start()
        await self._refresh()
        self._refreshing = asyncio.create_task(self._refresh_forever())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._refreshing.cancel()
        await asyncio.gather(self._refreshing, return_exceptions=True)
        await self._reader.stop()
        await self._admin.close()

    def check(self, partition: int) -> None:
        """RuntimeError when append lags behind, so that the store cannot be trusted."""
        if self._caught_up_at[partition] < float(self.now) - HALF_EXPIRY_SECONDS:
            raise RuntimeError(f"append is behind in partition {partition}")

    async def _refresh_forever(self) -> None:
        while True:
            await asyncio.sleep(1)
            await self._refresh()

    async def read_incarnation(self) -> None:
        """Read Redis' incarnation and time; an older read of the store is useless."""
        ((self.incarnation, self.now),) = await self._redis.run(
            INCARNATION_SCRIPT, [("life", self._redis.run_id)]
        )

    async def _refresh(self) -> None:
        await self.read_incarnation()
        ends = await self._reader.end_offsets(self._topic_partitions)
        offsets = await self._admin.list_consumer_group_offsets(self._group)
        for topic_partition, end in ends.items():
            if not end or (topic_partition in offsets and offsets[topic_partition].offset >= end):
                self._caught_up_at[topic_partition.partition] = float(self.now)
