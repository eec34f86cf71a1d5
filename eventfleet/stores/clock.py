"""The real clock, real ids, and a parked set with nothing in it."""

import asyncio
import os
import time
from datetime import UTC, datetime
from uuid import UUID


class SystemClock:
    def now(self) -> datetime:
        now = datetime.now(UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Uuid7Generator:
    """RFC 9562 UUIDv7; ids of the same millisecond are told apart, and ordered, by a counter."""

    def __init__(self) -> None:
        self._last = 0

    def new(self) -> str:
        millis, fresh = time.time_ns() // 1_000_000, int.from_bytes(os.urandom(9), "big")
        # 12 bits of counter room: the random part starts below half of it.
        self._last = max((millis << 12) | (fresh & 0x7FF), self._last + 1)
        stamp, counter = self._last >> 12, self._last & 0xFFF
        tail = fresh >> 10 & ((1 << 62) - 1)
        return str(UUID(int=stamp << 80 | 7 << 76 | counter << 64 | 2 << 62 | tail))


class NoParkedAggregates:
    async def load(self, partition: int) -> frozenset[str]:
        return frozenset()
