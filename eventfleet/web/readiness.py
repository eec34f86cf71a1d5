"""Readiness: whether the servers that the service needs answer, and take what commands write."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from eventfleet.stores.readiness_report import second

logger = logging.getLogger(__name__)

CHECK_SECONDS = 2.0
LOOK_SECONDS = 1.0

Check = Callable[[], Awaitable[object]]


class WritesRefused(Exception):
    """A server answers, and refuses what commands write."""


class Fault(NamedTuple):
    """A fault of a server: its kind, in words for anybody, the reason for the log, and when a look
    found the first of its kind in a row."""

    kind: str
    reason: str
    since: datetime


class Readiness:
    """Checks servers by name, all at once and once in LOOK_SECONDS, however many ask.

    A check raises where its server does not answer, or WritesRefused, and has CHECK_SECONDS. What
    is found is logged when it changes, at the same level.
    """

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks
        self._looking = asyncio.Lock()
        self._looked_at = float("-inf")
        self._found: dict[str, Fault] = {}

    async def faults(self) -> Mapping[str, Fault]:
        """Returns what is wrong with each server that does not answer, or refuses."""
        async with self._looking:
            if time.monotonic() - self._looked_at >= LOOK_SECONDS:
                await self._look()
        return self._found

    async def _look(self) -> None:
        faults = await asyncio.gather(*map(_find_fault, self._checks.values()))
        found = {
            name: self._lasting(name, why)
            for name, why in zip(self._checks, faults, strict=True)
            if why
        }
        if _kinds(found) != _kinds(self._found):
            _log(found)
        self._found, self._looked_at = found, time.monotonic()

    def _lasting(self, name: str, fault: Fault) -> Fault:
        """Return the fault as one that has lasted since a look found the first of its kind."""
        known = self._found.get(name)
        return fault._replace(since=known.since) if known and known.kind == fault.kind else fault


async def _find_fault(check: Check) -> Fault | None:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except TimeoutError:
        return _fault("does not answer", f"no answer within {CHECK_SECONDS:g} s")
    except WritesRefused as error:
        return _fault("refuses what commands write", str(error))
    except Exception as error:  # whatever it is, requests would fail likewise
        return _fault("does not answer", str(error) or type(error).__name__)
    return None


def _fault(kind: str, reason: str) -> Fault:
    return Fault(kind, reason, second(datetime.now(UTC)))


def _kinds(faults: Mapping[str, Fault]) -> dict[str, str]:
    return {name: fault.kind for name, fault in faults.items()}


def _log(faults: Mapping[str, Fault]) -> None:
    if faults:
        told = "; ".join(f"{name} {each.kind}: {each.reason}" for name, each in faults.items())
        logger.warning("not ready: %s", told)
    else:
        logger.warning("ready again: all servers answer, and take what commands write")
