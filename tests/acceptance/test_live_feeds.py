"""Clients of live feeds, on servers, while the services that they follow are killed."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from eventfleet.clients import follow
from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.http_service import HttpService
from tests.integration.copied_topic import until
from tests.servers.server import free_port

ORDERS, KILLS = 15, 3
PLACE = {"customer": "ann", "total": 1999, "currency": "EUR"}
FEEDS = {
    "all": "feed",
    "placed": "feed?types=Placed",
    "some": "feed?aggregates=o-1&aggregates=o-2",
    "one": "o-3/events",
}


@pytest.fixture
def fleet(kafka: str, mongo_url: str, redis_url: str, tmp_path: Path) -> Iterator[CommandFleet]:
    servers, module = (kafka, mongo_url, redis_url), "eventfleet.domains.orders"
    with CommandFleet(servers, tmp_path, module) as fleet:
        fleet.start("append")
        yield fleet


class Services:
    """Two services, each at a port that it keeps."""

    def __init__(self, fleet: CommandFleet, stack: ExitStack) -> None:
        self._fleet, self._stack = fleet, stack
        self.ports = [free_port(), free_port()]
        self.running: list[HttpService] = [self._start(port) for port in self.ports]

    def _start(self, port: int) -> HttpService:
        return self._stack.enter_context(self._fleet.serving(HTTP_PORT=str(port)))

    def kill(self, number: int) -> None:
        """Kill a service, and start it again."""
        killed = self.running[number].process
        killed.kill()
        killed.wait(10)
        self.running[number] = self._start(self.ports[number])


async def send(client: httpx.AsyncClient, path: str, body: Any) -> None:
    """Send a command until it is accepted, once."""
    key = {"Idempotency-Key": f"{path}-{body}"}
    while True:
        try:
            answer = await client.post(f"/domains/orders/{path}", json=body, headers=key)
            if answer.is_success:
                return
            assert answer.status_code in (429, 503), answer.text
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.2)


def test_each_copy_equals_the_store_though_services_are_killed(fleet: CommandFleet) -> None:
    copies: dict[str, list[tuple[str, int, str]]] = {name: [] for name in FEEDS}

    async def copy(name: str, url: str) -> None:
        async with follow(f"{url}/domains/orders/{FEEDS[name]}") as feed:
            async for update in feed:
                event = update.data
                copies[name].append((event["subject"], event["version"], event["type"]))

    async def run(services: Services) -> list[tuple[str, int, str]]:
        urls = [f"http://127.0.0.1:{port}" for port in services.ports]
        tasks = [
            asyncio.create_task(copy(name, urls[number % 2])) for number, name in enumerate(FEEDS)
        ]
        async with httpx.AsyncClient(base_url=urls[1], timeout=20) as client:
            for round in range(KILLS):
                killing = asyncio.create_task(asyncio.to_thread(services.kill, round % 2))
                for number in range(round * ORDERS, (round + 1) * ORDERS):
                    await send(client, f"o-{number}/commands/Place", PLACE)
                    await send(client, f"o-{number}/commands/Pay", {"amount": 1})
                await killing
            stored = []
            for number in range(KILLS * ORDERS):
                page = (await client.get(f"/domains/orders/o-{number}/events")).json()
                stored += [(e["subject"], e["version"], e["type"]) for e in page["events"]]
        try:
            await until(lambda: len(copies["all"]) >= len(stored) and len(copies["one"]) >= 2)
            return stored
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    with ExitStack() as stack:
        stored = asyncio.run(run(Services(fleet, stack)))
    assert len(stored) == 2 * KILLS * ORDERS
    assert sorted(copies["all"]) == sorted(stored)
    assert sorted(copies["placed"]) == sorted(each for each in stored if each[2] == "Placed")
    assert sorted(copies["some"]) == sorted(each for each in stored if each[0] in ("o-1", "o-2"))
    assert copies["one"] == [each for each in stored if each[0] == "o-3"]
    for order in {each[0] for each in stored}:
        versions = [version for subject, version, _ in copies["all"] if subject == order]
        assert versions == [1, 2]
