"""Waits at a start for servers that are away."""

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from eventfleet.model.domain import Domain
from eventfleet.runtime import connections
from eventfleet.runtime.errors import Unreachable
from eventfleet.runtime.settings import Settings, variable
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.retry import OUTAGE

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
        started, failures = time.monotonic(), 0

        def is_awaited(error: Exception) -> bool:
            nonlocal failures
            if not isinstance(error, AWAY_ERRORS) or not self.seconds_left:
                return False
            failures += 1
            logger.warning("%s; tried again (see %s)", error, variable("start_timeout"))
            return True

        result = await OUTAGE.retry(partial(step, *args), is_awaited)
        if failures:
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
    backend = connections.backend(settings)
    with_markers = markers and any(domain.uses_marker for domain in domains.values())
    checks = [each.run for each in backend.checks(markers=with_markers) if each.needed]
    limit = limit or StartLimit(settings)
    await limit.retry(_run_all, checks)


async def _run_all(checks: Iterable[Callable[[], Awaitable[None]]]) -> None:
    for run in checks:
        await run()
