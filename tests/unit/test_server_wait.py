"""A start that finds a server away waits, says so, and ends after a while."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from eventfleet.domains.bank import bank
from eventfleet.domains.orders import orders
from eventfleet.runtime import server_wait
from eventfleet.runtime.errors import Unreachable
from eventfleet.runtime.server_backend import ServerBackend
from eventfleet.runtime.server_wait import StartLimit, wait_for_servers
from eventfleet.runtime.settings import Settings
from eventfleet.stores.errors import Misconfigured, ServerUnavailable
from eventfleet.stores.retry import RetryPolicy


class Servers:
    """Servers that do not answer for the next so many checks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.away = {"kafka": 0, "mongo": 0, "redis": 0}
        self.checks: list[str] = []
        parts = {"kafka": "log", "mongo": "stores", "redis": "markers"}
        for name, part in parts.items():
            monkeypatch.setattr(ServerBackend, f"check_{part}", self._check(name))
        monkeypatch.setattr(server_wait, "OUTAGE", RetryPolicy(0.001, 0.001))

    def _check(self, name: str) -> Any:
        async def check(backend: ServerBackend) -> None:
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


# The steps behind the first one


@asynccontextmanager
async def opening(tries: list[str], *errors: Exception) -> AsyncIterator[str]:
    """A step that fails with each of these errors once, and closes what it has opened."""
    tries.append("opens")
    try:
        if len(tries) // 2 < len(errors):
            raise errors[len(tries) // 2]
        yield "opened"
    finally:
        tries.append("closes")


AWAY = Unreachable("Kafka", "here:1", "kafka_brokers", "refused"), ServerUnavailable("a registry")


async def test_every_step_of_a_start_waits_as_the_first_does(
    servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    limit, tries = StartLimit(Settings()), list[str]()
    async with limit.opened(lambda: opening(tries, *AWAY)) as found:
        assert found == "opened"
        assert tries == ["opens", "closes"] * 2 + ["opens"]
    assert tries[-1] == "closes"
    *lines, well = [record.getMessage() for record in caplog.records]
    assert ["tried again (see EVENTFLEET_START_TIMEOUT)" in line for line in lines] == [True, True]
    assert well.startswith("all servers answer after ")


async def test_all_steps_have_one_limit(servers: Servers) -> None:
    limit, tries = StartLimit(Settings(start_timeout=0.05)), list[str]()
    servers.away["mongo"] = 1_000_000
    with pytest.raises(Unreachable):
        await wait_for_servers(Settings(), {"one": orders}, markers=False, limit=limit)
    assert limit.seconds_left == 0
    with pytest.raises(Unreachable):
        async with limit.opened(lambda: opening(tries, *AWAY)):
            pytest.fail("opened")
    assert tries == ["opens", "closes"]


async def test_what_waiting_does_not_mend_ends_a_start_at_once(servers: Servers) -> None:
    limit, tries = StartLimit(Settings()), list[str]()
    with pytest.raises(Misconfigured, match="no topic"):
        async with limit.opened(lambda: opening(tries, Misconfigured("no topic"))):
            pytest.fail("opened")
    assert tries == ["opens", "closes"]


async def test_a_failure_of_the_work_itself_is_no_reason_to_start_again(servers: Servers) -> None:
    limit, tries = StartLimit(Settings()), list[str]()
    with pytest.raises(ServerUnavailable, match="later"):
        async with limit.opened(lambda: opening(tries)):
            raise ServerUnavailable("later")
    assert tries == ["opens", "closes"]
