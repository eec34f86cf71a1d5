"""RetryPolicy: how long to wait between attempts, and how often to try; the policies by name."""

import asyncio
import math
import random
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
WITHOUT_LIMIT = sys.maxsize


@dataclass(frozen=True)
class RetryPolicy:
    """Pauses that double from `first_seconds` up to `longest_seconds`, each cut by up to half at
    random, so that those who failed together do not try again together.

    Without a limit of `attempts` the caller has a deadline, or goes on until it is ended. What has
    failed later than `within_seconds` after the first attempt began is not tried again.
    """

    first_seconds: float
    longest_seconds: float
    attempts: int = WITHOUT_LIMIT
    within_seconds: float = math.inf

    def pause(self, failures: int, chance: Callable[[], float] = random.random) -> float:
        """Return the seconds to wait after that many failures; `chance` is in [0, 1)."""
        longest = min(self.first_seconds * 2.0 ** min(failures - 1, 32), self.longest_seconds)
        return longest * (1 + chance()) / 2

    async def retry(
        self,
        call: Callable[[], Awaitable[T]],
        can_help: Callable[[Exception], bool],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> T:
        """Return a call's result, after repeats where its error says that they can help.

        Raises the last error.
        """
        failures, loop = 0, asyncio.get_running_loop()
        repeats_until = loop.time() + self.within_seconds
        while True:
            try:
                return await call()
            except Exception as error:
                failures += 1
                is_last = failures >= self.attempts or loop.time() >= repeats_until
                if is_last or not can_help(error):
                    raise
            await sleep(self.pause(failures))


CONFLICT = RetryPolicy(0.01, 0.1, attempts=10)
"""Another writer came first."""

REQUEST = RetryPolicy(0.05, 0.5)
"""A server that answers has not done it yet, or its answer is no proof."""

REPEATED_WRITE = RetryPolicy(0.05, 0.2, attempts=3, within_seconds=1.0)
"""The answer to a write that may be repeated was lost: soon, since a server that has taken a whole
timeout is not back yet."""

RESUMED_READ = RetryPolicy(0.05, 0.5, attempts=20)
"""A stream of records broke off."""

MARKER = RetryPolicy(0.05, 0.05)
"""What a command waits for is not there yet: append, or the end of another command."""

CLASH = RetryPolicy(0.02, 10.0, attempts=10)
"""What explains a clash can't be read yet."""

OPEN_TRANSACTION = RetryPolicy(0.5, 4.0)
"""The open transactions of others have been ended, and may hold an aggregate again."""

OUTAGE = RetryPolicy(0.1, 5.0)
"""A server is away."""

DELIVERY = RetryPolicy(0.1, 5.0, attempts=5)
"""A subscriber's function has failed."""

BACKGROUND = RetryPolicy(0.05, 2.0)
"""Work in the background has failed."""

KEY_SET = RetryPolicy(2.0, 60.0)
"""The URL of the keys for tokens is away, and the former ones are in use."""

FEED_CLIENT = RetryPolicy(1.0, 30.0)
"""A client connects to its feed again."""
