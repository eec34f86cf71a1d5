"""Waits at a start for servers that are away."""

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

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

LONGEST_PAUSE_SECONDS = 5.0

logger = logging.getLogger(__name__)


async def wait_for_servers(
    settings: Settings, domains: Mapping[str, Domain[Any]], *, markers: bool
) -> None:
    """Wait until the servers answer that these domains need; with `markers`, Redis where commands
    of one need it. Unreachable: one still does not after `start_timeout` seconds."""
    started = time.monotonic()
    checks = [connections.check_kafka, connections.check_mongo]
    if markers and any(domain.uses_marker for domain in domains.values()):
        checks.append(connections.check_redis)
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(Unreachable),
        wait=wait_random_exponential(multiplier=0.5, max=LONGEST_PAUSE_SECONDS),
        stop=stop_after_delay(settings.start_timeout),
        before_sleep=_log,
        reraise=True,
    )
    await retrying(_check_all, checks, settings)
    if retrying.statistics["attempt_number"] > 1:
        seconds = time.monotonic() - started
        logger.warning("all servers answer after %.1f s", seconds)


async def _check_all(
    checks: Iterable[Callable[[Settings], Awaitable[None]]], settings: Settings
) -> None:
    for check in checks:
        await check(settings)


def _log(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    logger.warning("%s; tried again (see %s)", error, variable("start_timeout"))
