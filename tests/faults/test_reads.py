"""Reads of one's own writes, over HTTP: written by one service process, read by another."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import aiohttp
import pytest

from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import ROOT, TIMEOUT_SECONDS
from tests.acceptance.kafka_by_hand import wait_for
from tests.program import start_program

CALLERS = 40
SECONDS = 60
_numbers = count(1)


def ready(url: str) -> bool:
    with suppress(OSError), urlopen(f"{url}/ready", timeout=10) as answer:
        return bool(answer.status == 200)
    return False


class ReadService:
    """A process of `eventfleet serve`."""

    def __init__(self, fleet: CommandFleet) -> None:
        self._log = fleet.folder / f"service-{next(_numbers)}.log"
        self.process = start_program(["serve"], fleet.environment, fleet.folder, self._log)

    def address(self) -> str:
        """Empty until it is ready."""
        said = self._log.read_text(errors="replace")
        assert self.process.poll() is None, said
        _, _, rest = said.partition(" at http://")
        url = f"http://{rest.split()[0]}" if "\n" in rest else ""
        return url if url and ready(url) else ""

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(TIMEOUT_SECONDS)


class DoorReadFleet(CommandFleet):
    def __init__(self, servers: tuple[str, str, str], folder: Path) -> None:
        more = {"HTTP_PORT": "0", "HTTP_TIMEOUT": str(SECONDS)}
        super().__init__(servers, folder, "tests.faults.doors", **more)
        self.environment["PYTHONPATH"] = str(ROOT)
        self.services: list[ReadService] = []

    def serve(self, processes: int) -> list[str]:
        """The addresses of so many services."""
        self.services = [ReadService(self) for _ in range(processes)]
        return [wait_for(service.address, "a service") for service in self.services]

    def __exit__(self, *_: object) -> None:
        for service in self.services:
            service.process.kill()
            service.process.wait(TIMEOUT_SECONDS)
        super().__exit__(*_)


@pytest.fixture
def fleet(kafka: str, mongo_url: str, redis_url: str, tmp_path: Path) -> Iterator[DoorReadFleet]:
    with DoorReadFleet((kafka, mongo_url, redis_url), tmp_path) as fleet:
        fleet.start("append snapshot relay", "append snapshot relay")
        yield fleet


class Caller:
    """Opens and closes a door of its own, through each service by turns, and looks each time, by
    the other service, whether what it has done is there."""

    def __init__(self, session: aiohttp.ClientSession, services: list[str], wait: str) -> None:
        self._session, self._services, self._wait = session, services, wait
        self._door = f"door-{next(_numbers)}"
        self.seen: Counter[bool] = Counter()

    async def work(self, commands: int) -> None:
        for number in range(1, commands + 1):
            here, there = self._services[number % 2], self._services[(number + 1) % 2]
            sent = await self._send(here, "Open" if number % 2 else "Close")
            self.seen[sent == await self._last(there, number)] += 1

    async def _send(self, service: str, command: str) -> str:
        url = f"{service}/domains/doors/{self._door}/commands/{command}"
        headers = {"Prefer": f"wait={SECONDS}"}
        asked = self._session.post(url, json={}, headers=headers, params={"wait": self._wait})
        async with asked as answer:
            said = await answer.json()
            assert (answer.status, said["stage"]) == (202, self._wait), said
            return str(said["event_id"])

    async def _last(self, service: str, version: int) -> str:
        """The id of the event with this version; empty where there is none."""
        url = f"{service}/domains/doors/{self._door}/events"
        async with self._session.get(url, params={"after": str(version - 1)}) as answer:
            said: Any = await answer.json() if answer.status == 200 else None
            assert answer.status in (200, 404), said
            events = said["events"] if said else []
            assert len(events) <= 1
            return events[0]["id"] if events else ""


@asynccontextmanager
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    bound = aiohttp.ClientTimeout(total=2 * SECONDS)
    async with aiohttp.ClientSession(timeout=bound) as session:
        yield session


async def seen(services: list[str], wait: str, commands: int) -> Counter[bool]:
    """The number of these commands whose events a read after the answer finds."""
    async with session() as one:
        callers = [Caller(one, services, wait) for _ in range(CALLERS)]
        await asyncio.gather(*(caller.work(commands // CALLERS) for caller in callers))
    return sum((caller.seen for caller in callers), Counter())


@pytest.mark.parametrize("commands", [400, pytest.param(10_000, marks=pytest.mark.faults)])
def test_a_read_after_appended_sees_the_write(fleet: DoorReadFleet, commands: int) -> None:
    """And a read after accepted need not: else nothing would be shown."""
    services = fleet.serve(2)
    waited = asyncio.run(seen(services, "appended", commands))
    unwaited = asyncio.run(seen(services, "accepted", commands // 2))
    assert waited == {True: commands}
    assert unwaited[False]
    missed = f"{unwaited[False]} of {unwaited.total()}"
    print(f"\nreads after appended: {commands}, all saw it; after accepted {missed} did not")
    assert [service.end() for service in fleet.services] == [0, 0]
