"""One token takes all of a service that it is let; another one's commands are answered."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from eventfleet.runtime.connections import select_domains
from eventfleet.runtime.http_server import http_application, listening_socket, serve, socket_url
from eventfleet.web import feed_sockets
from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.greedy_caller import GreedyCaller
from tests.unit.http_fixture import token

SCOPE = "chat:read chat:write"
COMMANDS = 50
PATIENCE_SECONDS = 60.0


@pytest.fixture
def fleet(kafka: str, mongo_url: str, redis_url: str, tmp_path: Path) -> Iterator[CommandFleet]:
    settings = {
        "TOKEN_KEY_FILE": str(tmp_path / "key"),
        "HTTP_PORT": "0",
        "HTTP_REQUESTS": "16",
        "HTTP_TIMEOUT": "30",
    }
    (tmp_path / "key").write_text("a secret of more than 32 characters\n")
    servers = kafka, mongo_url, redis_url
    with CommandFleet(servers, tmp_path, "examples.chat", **settings) as fleet:
        yield fleet


def test_a_greedy_token_is_refused_and_another_one_is_answered(
    fleet: CommandFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_sockets, "MAX_SOCKETS", 100)
    fleet.start("append")
    asyncio.run(_run(fleet))


async def _run(fleet: CommandFleet) -> None:
    settings, stop = fleet.settings, asyncio.Event()
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(http_application(settings, select_domains(settings)))
        listener = await stack.enter_async_context(listening_socket(settings))
        serving = asyncio.create_task(serve(app, listener, settings, stop))
        try:
            await _take_all(socket_url(listener))
        finally:
            stop.set()
            await serving


async def _take_all(url: str) -> None:
    greedy = GreedyCaller(url, token(scope=SCOPE, sub="greedy"))
    await greedy.fill_room(messages=5)
    headers = {"Authorization": f"Bearer {token(scope=SCOPE, sub='ben')}"}
    async with (
        greedy.taking(),
        httpx.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE_SECONDS) as ben,
    ):
        async with asyncio.timeout(PATIENCE_SECONDS):
            await greedy.has_all()
        for number in range(COMMANDS):
            path = f"/domains/chat/ben-{number}/commands/SendMessage"
            sent = await ben.post(path, json={"content": "hi"})
            assert sent.status_code == 200, sent.text
    of_requests = (429, "the limit of one caller is 8 of 16 concurrent requests")
    assert greedy.refusals == {
        "waits": {of_requests},
        "streams": {of_requests},
        "sockets": {(1013, "the limit of one caller is 50 of 100 open sockets")},
    }
