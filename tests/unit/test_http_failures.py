"""Errors of the service and of a domain's own code over HTTP: logged here, named to the client."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from eventfleet.cli.http_client import ServiceRefused
from eventfleet.deciders.outcomes import Failed
from eventfleet.domains.bank import bank
from eventfleet.domains.orders import Order, Placed, orders
from eventfleet.domains.process_log import process_log
from eventfleet.model.domain import Domain
from eventfleet.runtime import server_checks
from eventfleet.runtime.settings import Settings
from eventfleet.stores.background_task import BackgroundTask
from eventfleet.stores.errors import Misconfigured, ServerUnavailable
from eventfleet.web import DomainServices, readiness
from eventfleet.web.bodies import ProblemDetails
from tests.unit.http_fixture import PLACE, Web, problem, web
from tests.unit.log_fields import fields_of

SECRET = "the password is x"


def evolve(order: Order, event: Any) -> Order:
    raise ZeroDivisionError(SECRET)


@pytest.mark.parametrize("path", ["state", "state?version=1", "diff?first=0&second=1"])
async def test_a_query_that_fails_is_logged_with_the_line_that_raised(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Domain("broken", state=Order, evolve=evolve, events=[Placed])
    async with web(broken) as shop:
        await shop.memory.store("1", "o-1", type="Placed", data=PLACE)
        found = await shop.get(f"o-1/{path}", **{"x-correlation-id": "k-1"})
    assert problem(found) == (500, "replay-failed")
    assert "broken 'o-1' version 1, Placed" in found.json()["detail"]
    assert found.json()["correlation_id"] == "k-1"
    assert SECRET not in found.text
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert "k-1" in record.getMessage()
    assert "GET /domains/broken/o-1/" in record.getMessage()
    assert SECRET in caplog.text
    assert "in evolve" in caplog.text
    assert "test_http_failures.py" in caplog.text


@pytest.mark.parametrize("error", [ZeroDivisionError(SECRET), Misconfigured(SECRET)])
@pytest.mark.parametrize(("given", "known"), [({}, "c-1"), ({"X_Correlation_ID": "k"}, "k")])
async def test_an_internal_error_is_logged_under_the_id_that_the_client_gets(
    error: Exception, given: dict[str, str], known: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with web() as shop:
        shop.storing.error = error
        found = await shop.send(Idempotency_Key="c-1", **given)
        asked = shop.storing.asked[-1].event
    assert problem(found) == (500, "broken")
    assert SECRET not in found.text
    expected = known if given else found.json()["correlation_id"]
    assert found.json()["correlation_id"] == expected
    assert expected in found.json()["detail"]
    assert expected in caplog.text
    assert SECRET in caplog.text
    assert "Traceback" in caplog.text
    if given:
        assert asked.correlation_id == known


async def test_a_command_that_fails_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with web() as shop:
        details = f"Traceback ...\nZeroDivisionError: {SECRET}"
        shop.storing.outcome = Failed("decide-failed", "orders 'o-1': Place c-1", details)
        found = await shop.send(Idempotency_Key="c-1")
        asked = shop.storing.asked[-1].event
    assert problem(found) == (500, "decide-failed")
    assert found.json()["detail"] == "orders 'o-1': Place c-1"
    assert found.json()["correlation_id"] == asked.correlation_id == "c-1"
    assert SECRET not in found.text
    assert caplog.text.count(SECRET) == 1
    assert "correlation id c-1" in caplog.text
    (line,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert fields_of(line) == {
        "correlation_id": "c-1",
        "command_id": "c-1",
        "method": "POST",
        "path": "/domains/orders/o-1/commands/Place",
        "status": 500,
        "problem": "decide-failed",
        "exception": details,
    }


async def test_what_a_client_got_wrong_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with web() as shop:
        found = await shop.send("o-1/commands/Pay", {})
    assert "correlation_id" not in found.json()
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


# Readiness


class Server:
    """A server that may be away, slow or in order."""

    def __init__(self) -> None:
        self.looks, self.silent = 0, False
        self.error: Exception | None = None

    async def check(self) -> None:
        self.looks += 1
        if self.silent:
            await asyncio.Event().wait()
        if self.error:
            raise self.error


READY = {"status": "ready", "reasons": []}


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def probed(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Web]:
    monkeypatch.setattr(readiness, "LOOK_SECONDS", 0)
    async with web(checks={"Kafka": Server().check, "MongoDB": server.check}) as shop:
        yield shop


async def test_ready_says_which_server_is_away_and_when_it_is_back(
    probed: Web, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert (await probed.client.get("/ready")).json() == READY
    server.error = ServerUnavailable(SECRET)
    sinces: set[str] = set()
    for _ in range(3):
        found = await probed.client.get("/ready")
        assert (found.status_code, found.headers["Content-Type"]) == (503, "application/json")
        assert found.headers["Retry-After"] == "1"
        assert found.json()["status"] == "not ready"
        (reason,) = found.json()["reasons"]
        sinces.add(reason.pop("since"))
        assert reason == {"kind": "server", "reason": "MongoDB does not answer", "blocking": True}
        assert SECRET not in found.text, "anyone may ask"
    assert len(sinces) == 1, "the first failure of its kind in a row"
    assert (await probed.client.get("/live")).status_code == 200
    server.error = None
    assert (await probed.client.get("/ready")).status_code == 200
    logged = [each.getMessage() for each in caplog.records if each.name.endswith("readiness")]
    assert logged == [
        f"not ready: MongoDB does not answer: {SECRET}",
        "ready again: all servers answer, and take what commands write",
    ]


async def test_a_server_that_refuses_what_commands_write_is_not_ready(
    probed: Web, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.error = readiness.WritesRefused(SECRET)
    found = await probed.client.get("/ready")
    assert (found.status_code, "MongoDB refuses what commands write" in found.text) == (503, True)
    assert SECRET not in found.text, "anyone may ask"
    assert f"not ready: MongoDB refuses what commands write: {SECRET}" in caplog.messages


async def test_a_server_that_is_silent_is_not_ready(
    probed: Web, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "CHECK_SECONDS", 0.05)
    server.silent = True
    found = await probed.client.get("/ready")
    assert (found.status_code, found.json()["status"]) == (503, "not ready")


@pytest.mark.parametrize(("essential", "status"), [(True, 503), (False, 200)])
async def test_ready_names_a_background_task_that_fails(
    probed: Web, essential: bool, status: int
) -> None:
    task = BackgroundTask("the work", asyncio.Event().wait, essential=essential)  # type: ignore[arg-type]
    task.start()
    task.report_failure(LookupError(SECRET))
    found = await probed.client.get("/ready")
    assert found.status_code == status
    (reason,) = found.json()["reasons"]
    assert (reason["kind"], reason["reason"]) == ("task", "the work failed")
    assert (reason["blocking"], "since" in reason) == (essential, True)
    assert SECRET not in found.text, "anyone may ask"
    task.report_well()
    assert (await probed.client.get("/ready")).json() == READY
    await task.end()


async def test_many_who_ask_cost_one_look(server: Server) -> None:
    async with web(checks={"MongoDB": server.check}) as shop:
        found = await asyncio.gather(*(shop.client.get("/ready") for _ in range(50)))
    assert {each.status_code for each in found} == {200}
    assert server.looks == 1


class AwayReader:
    """A log reader, or markers, whose server is away."""

    async def watermarks(self, topic: str) -> None:
        assert topic.endswith(".events")
        raise ServerUnavailable("Kafka is away")

    async def incarnation(self) -> None:
        raise ServerUnavailable("Redis is away")


class QuietReader:
    """A log reader, or markers, whose server answers; Redis is out of memory."""

    async def watermarks(self, topic: str) -> None:
        """It answers."""

    async def incarnation(self) -> None:
        """It answers."""

    async def check_writable(self) -> None:
        raise ServerUnavailable("OOM command not allowed")


async def refuse() -> None:
    raise ServerUnavailable("there is no space left on the disk")


@asynccontextmanager
async def quiet(*_: Any) -> AsyncIterator[QuietReader]:
    yield QuietReader()


@asynccontextmanager
async def away(*_: Any) -> AsyncIterator[AwayReader]:
    yield AwayReader()


@pytest.mark.parametrize(
    ("domains", "needed"),
    [
        ([process_log], ["MongoDB", "Kafka"]),
        ([bank], ["MongoDB", "Kafka"]),
        ([bank, orders], ["MongoDB", "Kafka", "Redis"]),
    ],
)
async def test_the_service_checks_each_server_that_its_domains_need(
    domains: list[Domain[Any]], needed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_checks.connections, "log_reader", away)
    monkeypatch.setattr(server_checks.connections, "markers", away)
    async with web() as shop:

        async def epoch() -> int:
            raise ServerUnavailable("MongoDB is away")

        monkeypatch.setattr(shop.memory.events.registry, "epoch", epoch)
        unused: Any = None
        services = {
            each.name: DomainServices(each, unused, unused, shop.memory.events, unused)
            for each in domains
        }
        async with server_checks.server_checks(Settings(), services) as checks:
            assert [*await readiness.Readiness(checks).faults()] == needed


async def test_a_server_is_not_ready_while_it_answers_and_refuses_writes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_checks.connections, "log_reader", quiet)
    monkeypatch.setattr(server_checks.connections, "markers", quiet)
    async with web() as shop:
        unused: Any = None
        services = {"orders": DomainServices(orders, unused, unused, shop.memory.events, unused)}
        async with server_checks.server_checks(Settings(), services) as checks:
            assert [*await readiness.Readiness(checks).faults()] == ["Redis"]
            monkeypatch.setattr(shop.memory.events.registry, "check_writable", refuse)
            found = await readiness.Readiness(checks).faults()
            assert {name: fault.kind for name, fault in found.items()} == dict.fromkeys(
                ("MongoDB", "Redis"), "refuses what commands write"
            )


async def test_a_server_is_not_ready_while_it_refuses_the_calls_of_commands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused = {"Kafka": ["Kafka refuses produce"], "MongoDB": [], "Redis": []}
    monkeypatch.setattr(server_checks, "refused_operations", refused.__getitem__)
    monkeypatch.setattr(server_checks.connections, "log_reader", quiet)
    async with web() as shop:
        unused: Any = None
        services = {"bank": DomainServices(bank, unused, unused, shop.memory.events, unused)}
        async with server_checks.server_checks(Settings(), services) as checks:
            assert [*await readiness.Readiness(checks).faults()] == ["Kafka"]
            refused["Kafka"] = []
            assert [*await readiness.Readiness(checks).faults()] == []


def test_the_command_line_tells_the_id() -> None:
    told = {"type": "t", "title": "Internal error", "status": 500, "correlation_id": "k-1"}
    assert "k-1" in str(ServiceRefused(msgspec.convert(told, ProblemDetails)))
