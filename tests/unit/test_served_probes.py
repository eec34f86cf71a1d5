"""The metrics and probes of an HTTP service at a port of their own."""

import asyncio
import json
import socket
from collections.abc import Iterator

import aiohttp
import pytest

from eventfleet.deciders.outcomes import Rejected
from eventfleet.runtime.http_server import ListenFailed, served_probes
from eventfleet.runtime.settings import Settings, load_settings
from eventfleet.web import KeyFile, Limits, TokenAccess
from tests.unit.http_fixture import Web, web

ANY_PORT = Settings(http_metrics_port=0)


class Unreachable(Exception):
    """A server does not answer."""


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.request("GET", url) as found:
        return found.status, await found.text()


def samples(page: str) -> Iterator[tuple[str, float]]:
    for line in page.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            yield name, float(value)


async def metrics_of(shop: Web) -> dict[str, float]:
    async with served_probes(shop.app.probes, ANY_PORT) as url:
        status, page = await get(f"{url}/metrics")
    assert status == 200
    return dict(samples(page))


async def test_who_reaches_the_port_needs_no_token_there_and_nowhere_else(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    key = tmp_path_factory.mktemp("keys") / "key"
    key.write_text("a secret of more than 32 characters")
    async with (
        web(access=TokenAccess(KeyFile(str(key)), "", "")) as shop,
        served_probes(shop.app.probes, ANY_PORT) as url,
    ):
        assert (await shop.client.get("/metrics")).status_code == 401
        assert (await get(f"{url}/metrics"))[0] == 200
        assert await get(f"{url}/live") == (200, "ok\n")
        status, body = await get(f"{url}/ready")
        assert (status, json.loads(body)) == (200, {"status": "ready", "reasons": []})
        for path in ("/domains", "/domains/orders/o-1/state", "/openapi.json"):
            assert (await get(f"{url}{path}"))[0] == 404


async def test_any_host_is_answered_there() -> None:
    async with web() as shop, served_probes(shop.app.probes, ANY_PORT) as url:
        assert url
        headers = {"Host": "10.1.2.3"}
        async with aiohttp.request("GET", f"{url}/metrics", headers=headers) as found:
            assert found.status == 200
        assert (await shop.client.get("/metrics", headers=headers)).status_code == 421


async def test_what_is_not_ready_is_named_there_too() -> None:
    async def check() -> None:
        raise Unreachable

    async with (
        web(checks={"MongoDB": check}) as shop,
        served_probes(shop.app.probes, ANY_PORT) as url,
    ):
        status, body = await get(f"{url}/ready")
        assert (status, "MongoDB" in body) == (503, True)


async def test_the_pages_show_requests_their_limit_and_commands() -> None:
    async with web(limits=Limits(concurrent_requests=7)) as shop:
        await shop.send()
        shop.storing.outcome = Rejected("too late")
        for path in ("o-1/commands/Place", "o-2/commands/Place?wait=appended"):
            await shop.send(path)
        shown = await metrics_of(shop)
        assert shown["eventfleet_http_requests_limit"] == 7
        commands = "eventfleet_commands_total"
        assert shown[f'{commands}{{domain="orders",outcome="accepted"}}'] == 1
        assert shown[f'{commands}{{domain="orders",outcome="rejected"}}'] == 2
        assert shown[f'{commands}{{domain="orders",outcome="conflict"}}'] == 0
        assert not [name for name in shown if 'route="/metrics"' in name]


async def test_a_command_that_raises_has_no_outcome() -> None:
    async with web() as shop:
        shop.storing.error = LookupError("a bug")
        assert (await shop.send()).status_code == 500
        shown = await metrics_of(shop)
        assert sum(n for name, n in shown.items() if name.startswith("eventfleet_commands_")) == 0


async def test_without_the_setting_there_is_no_such_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVENTFLEET_HTTP_METRICS_PORT", raising=False)
    async with web() as shop, served_probes(shop.app.probes, load_settings()) as url:
        assert url is None


async def test_a_port_that_is_taken_is_named_with_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(http_metrics_port=taken.getsockname()[1])
        async with web() as shop:
            with pytest.raises(ListenFailed, match="set EVENTFLEET_HTTP_METRICS_PORT to another"):
                async with served_probes(shop.app.probes, settings):
                    await asyncio.sleep(0)
