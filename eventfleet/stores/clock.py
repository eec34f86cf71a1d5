"""The system's clock."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

STEADY_START = datetime(1970, 1, 1, tzinfo=UTC)


class SystemClock:
    """Clock of the machine."""

    def now(self) -> datetime:
        now = datetime.now(UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def steady(self) -> datetime:
        return STEADY_START + timedelta(seconds=time.monotonic())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
