"""Data of the bus scenarios: events in batches, as a publisher hands them over."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import nats
from redis.asyncio import Redis

from benchmarks.contenders.task import ContenderTask, Result, Stopwatch, write_result
from eventfleet.buses import DocumentEvent

BATCH_EVENTS = 500
TIME = datetime(2026, 1, 1, tzinfo=UTC)

Publish = Callable[[Sequence[DocumentEvent]], Awaitable[object]]


def make_batch(first: int) -> list[DocumentEvent]:
    """Return BATCH_EVENTS events of about 300 bytes."""
    return [
        DocumentEvent(
            id=f"0190c2a4-7d4e-7b6a-8f00-{number:012d}",
            event_type="UserUpdated",
            aggregate_id=f"user-{number % 1000}",
            aggregate_type="User",
            version=number // 1000 + 1,
            timestamp=TIME,
            data={"merge_patch": {"email": f"john.{number}@example.com", "visits": number}},
        )
        for number in range(first, first + BATCH_EVENTS)
    ]


async def measure_publishing(task: ContenderTask, publish: Publish) -> None:
    """Publish the task's records in batches, after one that makes connections, and report."""
    batches = [make_batch(first) for first in range(0, task.records, BATCH_EVENTS)]
    await publish(batches[0])
    clock = Stopwatch()
    clock.start()
    for batch in batches:
        await publish(batch)
    clock.stop()
    events = sum(map(len, batches))
    write_result(Result(events, clock.seconds, clock.cpu, 0, {"batch": BATCH_EVENTS}))


async def connect(stack: AsyncExitStack, task: ContenderTask) -> Any:
    """Return a client of the bus's server, which the stack closes."""
    if task.extra["bus"] == "redis":
        return await stack.enter_async_context(Redis.from_url(task.redis_url))
    return await stack.enter_async_context(await nats.connect(task.extra["nats_url"]))
