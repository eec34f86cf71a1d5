"""Makes the client ask less often while its consumer is at rest."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from aiokafka.consumer.fetcher import Fetcher


class PatientFetcher(Fetcher):  # type: ignore[misc]
    """Asks before each request how long the broker may let it wait for records.

    A broker answers as soon as it has a record of a partition that the request names. A partition
    that it does not name has to wait for the answer: while some are not fetched, since their chunks
    are still at work, a wait must be short.
    """

    wait_ms: Callable[[], int]

    @property
    def _fetch_max_wait_ms(self) -> int:
        return self.wait_ms()


def fetch_patiently(consumer: Any, wait_ms: Callable[[], int], longest_ms: int) -> None:
    """Let the fetcher of a consumer that was just started ask `wait_ms`.

    By itself it wakes up only after the longest wait: whatever concerns it wakes it up.
    """
    fetcher = consumer._fetcher
    fetcher.wait_ms = wait_ms
    fetcher._fetcher_timeout = longest_ms / 1000
    fetcher.__class__ = PatientFetcher


def beat_patiently(consumer: Any, is_at_rest: Callable[[], bool], seconds: float) -> None:
    """Let some seconds lie between the heartbeats of a consumer that was just started, at rest.

    By the answers a member hears of a rebalance, for which the others wait.
    """
    coordinator = consumer._coordinator
    beat, beaten_at = coordinator._do_heartbeat, float("-inf")

    async def beat_when_due() -> bool:
        nonlocal beaten_at
        if is_at_rest() and (left := beaten_at + seconds - time.monotonic()) > 0:
            await asyncio.sleep(left)
        success = bool(await beat())
        beaten_at = time.monotonic() if success else float("-inf")
        return success

    coordinator._do_heartbeat = beat_when_due
