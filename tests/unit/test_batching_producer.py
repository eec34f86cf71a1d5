"""Batches of one partition, with a driver whose acknowledgements the test gives."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from eventfleet.stores.kafka.batching_producer import BatchingProducer, TopicMemory
from eventfleet.topics.record import ProducerRecord


class Driver:
    """Its batches hold the values that were sent; `acks` are their acknowledgements."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.acks: list[asyncio.Future[Any]] = []

    async def partitions_for(self, topic: str) -> set[int]:
        return {0}

    def create_batch(self) -> Any:
        values: list[bytes] = []

        def append(*, value: bytes, **_: Any) -> bool:
            values.append(value)
            return True

        return SimpleNamespace(append=append, values=values, size=lambda: 0)

    async def send_batch(self, batch: Any, topic: str, partition: int) -> asyncio.Future[Any]:
        self.batches.append(batch.values)
        self.acks.append(asyncio.get_running_loop().create_future())
        return self.acks[-1]

    async def acknowledge(self, offset: int) -> None:
        await settled()
        self.acks[-1].set_result(SimpleNamespace(offset=offset))
        await settled()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Desk:
    def __init__(self) -> None:
        self.driver = Driver()
        self.producer = BatchingProducer(self.driver, TopicMemory())

    async def begin(self, *values: bytes) -> asyncio.Task[Any]:
        records = [ProducerRecord("t", b"k", value, 0) for value in values]
        task = asyncio.create_task(self.producer.send(records))
        await settled()
        return task


async def test_what_comes_while_a_batch_is_out_goes_together_with_the_next() -> None:
    desk = Desk()
    tasks = [await desk.begin(b"1", b"2"), await desk.begin(b"3"), await desk.begin(b"4", b"5")]
    assert desk.driver.batches == [[b"1", b"2"]]
    await desk.driver.acknowledge(10)
    assert desk.driver.batches == [[b"1", b"2"], [b"3", b"4", b"5"]]
    tasks.append(await desk.begin(b"6"))
    await desk.driver.acknowledge(12)
    await desk.driver.acknowledge(15)
    acked = [(await task)[0].offsets for task in tasks]
    assert acked == [[10, 11], [12], [13, 14], [15]]


async def test_a_failure_fails_what_waits_too_and_the_next_is_sent() -> None:
    desk = Desk()
    tasks = [await desk.begin(b"1"), await desk.begin(b"2")]
    desk.driver.acks[-1].set_exception(ConnectionError("gone"))
    for task in tasks:
        with pytest.raises(ConnectionError, match="gone"):
            await task
    later = await desk.begin(b"3")
    await desk.driver.acknowledge(7)
    assert (await later)[0].offsets == [7]
    assert desk.driver.batches == [[b"1"], [b"3"]]


async def test_who_waits_is_sent_when_the_caller_before_is_cancelled() -> None:
    desk = Desk()
    first, second = await desk.begin(b"1"), await desk.begin(b"2")
    first.cancel()
    await desk.driver.acknowledge(3)
    assert (await second)[0].offsets == [3]
    assert desk.driver.batches == [[b"1"], [b"2"]]
    assert first.cancelled()
