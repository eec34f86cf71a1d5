"""A start that finds a server away waits, says so, and ends after a while."""

import asyncio
import logging
from typing import Any

import pytest

from eventfleet.domains.bank import bank
from eventfleet.domains.orders import orders
from eventfleet.runtime import connections, server_wait
from eventfleet.runtime.errors import Unreachable
from eventfleet.runtime.server_wait import wait_for_servers
from eventfleet.runtime.settings import Settings


class Servers:
    """Servers that do not answer for the next so many checks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.away = {"kafka": 0, "mongo": 0, "redis": 0}
        self.checks: list[str] = []
        for name in self.away:
            monkeypatch.setattr(connections, f"check_{name}", self._check(name))
        monkeypatch.setattr(server_wait, "LONGEST_PAUSE_SECONDS", 0.001)

    def _check(self, name: str) -> Any:
        async def check(settings: Settings) -> None:
            await asyncio.sleep(0)
            self.checks.append(name)
            if self.away[name]:
                self.away[name] -= 1
                raise Unreachable(name.title(), "here:1", f"{name}_url", "refused")

        return check


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    return Servers(monkeypatch)


async def test_a_start_waits_for_what_is_away_and_says_so(
    servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    servers.away |= {"kafka": 2, "redis": 1}
    await wait_for_servers(Settings(), {"orders": orders}, markers=True)
    assert servers.checks == [*["kafka"] * 3, "mongo", "redis", "kafka", "mongo", "redis"]
    *lines, well = [record.getMessage() for record in caplog.records]
    assert [line.split()[0] for line in lines] == ["Kafka", "Kafka", "Redis"]
    assert all("tried again (see EVENTFLEET_START_TIMEOUT)" in line for line in lines)
    assert well.startswith("all servers answer after ")
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


async def test_a_start_that_finds_all_servers_logs_nothing(
    servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    await wait_for_servers(Settings(), {"orders": orders}, markers=True)
    assert caplog.records == []


async def test_a_start_ends_when_the_time_is_up(servers: Servers) -> None:
    servers.away["mongo"] = 1_000_000
    with pytest.raises(Unreachable, match="Mongo does not answer at here:1"):
        await wait_for_servers(Settings(start_timeout=0.05), {"orders": orders}, markers=True)


@pytest.mark.parametrize(("domain", "markers"), [(bank, True), (orders, False)])
async def test_redis_is_waited_for_only_where_commands_need_it(
    servers: Servers, domain: Any, markers: bool
) -> None:
    servers.away["redis"] = 1_000_000
    await wait_for_servers(Settings(start_timeout=0.05), {"one": domain}, markers=markers)
    assert "redis" not in servers.checks
