"""Waits at a start for servers that are away."""

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from eventfleet.model.domain import Domain
from eventfleet.runtime import connections
from eventfleet.runtime.errors import Unreachable
from eventfleet.runtime.settings import Settings, variable
from eventfleet.stores.errors import ServerUnavailable

LONGEST_PAUSE_SECONDS = 5.0
AWAY_ERRORS = (Unreachable, ServerUnavailable)
T = TypeVar("T")

logger = logging.getLogger(__name__)


class StartLimit:
    """The time that all steps of a start may take together, while they wait for servers."""

    def __init__(self, settings: Settings) -> None:
        self._ends = time.monotonic() + settings.start_timeout

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._ends - time.monotonic())

    async def retry(self, step: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Do a step, again after pauses while a server is away; its last error is raised."""
        started = time.monotonic()
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(AWAY_ERRORS),
            wait=wait_random_exponential(multiplier=0.5, max=LONGEST_PAUSE_SECONDS),
            stop=stop_after_delay(self.seconds_left),
            before_sleep=_log,
            reraise=True,
        )
        result: T = await retrying(step, *args)
        if retrying.statistics["attempt_number"] > 1:
            seconds = time.monotonic() - started
            logger.warning("all servers answer after %.1f s", seconds)
        return result

    @asynccontextmanager
    async def opened(
        self, opening: Callable[[], AbstractAsyncContextManager[T]]
    ) -> AsyncIterator[T]:
        """Enter a context, made anew for each try while a server is away."""
        async with AsyncExitStack() as stack:

            async def enter() -> T:
                return await stack.enter_async_context(opening())

            yield await self.retry(enter)


async def wait_for_servers(
    settings: Settings,
    domains: Mapping[str, Domain[Any]],
    *,
    markers: bool,
    limit: StartLimit | None = None,
) -> None:
    """Wait until the servers answer that these domains need; with `markers`, Redis where commands
    of one need it. Unreachable: one still does not after `start_timeout` seconds."""
    checks = [connections.check_kafka, connections.check_mongo]
    if markers and any(domain.uses_marker for domain in domains.values()):
        checks.append(connections.check_redis)
    limit = limit or StartLimit(settings)
    await limit.retry(_check_all, checks, settings)


async def _check_all(
    checks: Iterable[Callable[[Settings], Awaitable[None]]], settings: Settings
) -> None:
    for check in checks:
        await check(settings)


def _log(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    logger.warning("%s; tried again (see %s)", error, variable("start_timeout"))
