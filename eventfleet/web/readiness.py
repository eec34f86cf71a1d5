"""Readiness: whether the servers that the service needs answer."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

logger = logging.getLogger(__name__)

CHECK_SECONDS = 2.0
LOOK_SECONDS = 1.0

Check = Callable[[], Awaitable[object]]


class Readiness:
    """Checks servers by name, all at once and once in LOOK_SECONDS, however many ask.

    A check raises where its server does not answer, and has CHECK_SECONDS. What is found is logged
    when it changes, at the same level.
    """

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks
        self._looking = asyncio.Lock()
        self._looked_at = float("-inf")
        self._unready: list[str] = []

    async def unready(self) -> list[str]:
        """Returns the names of the servers that do not answer."""
        async with self._looking:
            if time.monotonic() - self._looked_at >= LOOK_SECONDS:
                await self._look()
        return self._unready

    async def _look(self) -> None:
        reasons = await asyncio.gather(*map(_reason, self._checks.values()))
        found = {name: why for name, why in zip(self._checks, reasons, strict=True) if why}
        if [*found] != self._unready:
            _log(found)
        self._unready, self._looked_at = [*found], time.monotonic()


async def _reason(check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except TimeoutError:
        return f"no answer within {CHECK_SECONDS:g} s"
    except Exception as error:  # whatever it is, requests would fail likewise
        return str(error) or type(error).__name__
    return ""


def _log(reasons: Mapping[str, str]) -> None:
    if reasons:
        told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        logger.warning("not ready: %s", told)
    else:
        logger.warning("ready again: all servers answer")
