"""The access log of the HTTP service: one line a request, without what must stay secret."""

import json
import logging
from contextlib import nullcontext
from typing import Any

import pytest

from eventfleet.cli.json_log import JsonLogFormatter
from eventfleet.runtime import http_server
from eventfleet.runtime.settings import Settings
from eventfleet.stores.errors import Misconfigured
from eventfleet.web import TokenAccess
from tests.unit.http_fixture import SECRET, token, web
from tests.unit.log_fields import fields_of


@pytest.fixture(autouse=True)
def at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def access_lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [each for each in caplog.records if each.name == "eventfleet.web.access_log"]


async def test_a_line_has_route_path_status_time_subject_and_correlation_id(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bearer = token(sub="ann", scope="orders:write orders:read")
    async with web(access=TokenAccess(SECRET), access_log=True) as shop:
        headers = {"authorization": f"Bearer {bearer}", "X_Correlation_ID": "k-1"}
        found = await shop.send("o%2F1/commands/Place?wait=stored", **headers)
        assert found.status_code == 422, "there is no such stage"
        found = await shop.send("o%2F1/commands/Place", **headers)
        assert found.status_code == 202
    refused, accepted = access_lines(caplog)
    fields = fields_of(accepted)
    milliseconds = fields.pop("milliseconds")
    assert 0 < milliseconds < 60_000
    assert fields == {
        "method": "POST",
        "route": "/domains/{domain}/{id}/commands/{command}",
        "path": "/domains/orders/o%2F1/commands/Place",
        "status": 202,
        "subject": "ann",
        "correlation_id": "k-1",
    }
    assert accepted.getMessage() == (
        "POST /domains/{domain}/{id}/commands/{command} /domains/orders/o%2F1/commands/Place 202 "
        f"{milliseconds:.1f} ms, subject 'ann', correlation id k-1"
    )
    assert (fields_of(refused)["status"], fields_of(refused)["parameters"]) == (422, ["wait"])
    line = json.loads(JsonLogFormatter().format(accepted))
    assert (line["status"], line["level"], line["subject"]) == (202, "info", "ann")


async def test_no_token_body_or_value_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    bearer = token(sub="ann", scope="orders:read")
    async with web(access=TokenAccess(SECRET), access_log=True) as shop:
        query = "limit=hunter2&after=hunter2&hunter2&access_token=hunter2"
        await shop.send(f"o-1/commands/Place?{query}", {"customer": "hunter2"}, cookie="hunter2")
        await shop.get(f"o-1/events?{query}", authorization=f"Bearer {bearer}")
        await shop.get("o-1/events", authorization="Bearer hunter2")
    lines = access_lines(caplog)
    assert [fields_of(each)["status"] for each in lines] == [401, 422, 401]
    assert [fields_of(each).get("subject") for each in lines] == [None, "ann", None]
    assert fields_of(lines[1])["parameters"] == ["limit", "after", "access_token"]
    logged = str([(each.getMessage(), fields_of(each)) for each in lines])
    assert "hunter2" not in logged
    assert bearer not in logged
    assert "subject -, correlation id -" in lines[0].getMessage()


async def test_a_caller_without_the_scope_is_known(caplog: pytest.LogCaptureFixture) -> None:
    bearer = token(sub="a\nb", scope="bank:read")
    async with web(access=TokenAccess(SECRET), access_log=True) as shop:
        await shop.get("o-1/events", authorization=f"Bearer {bearer}")
    (line,) = access_lines(caplog)
    assert (fields_of(line)["status"], fields_of(line)["subject"]) == (403, "a\nb")
    assert r"subject 'a\nb'" in line.getMessage()


async def test_probes_and_metrics_are_not_logged_and_strange_paths_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with web(access_log=True) as shop:
        for path in ("/live", "/ready", "/metrics", "/openapi.json", "/no/such", "/" + "x" * 5000):
            await shop.client.get(path, headers={"X-Correlation-ID": "\x7f"})
    described, strange, long = access_lines(caplog)
    assert fields_of(described)["route"] == "/openapi.json"
    assert (fields_of(strange)["route"], fields_of(strange)["status"]) == ("none", 404)
    assert "correlation_id" not in fields_of(strange)
    assert len(long.getMessage()) < 1200


@pytest.mark.parametrize("error", [Misconfigured("no"), ZeroDivisionError("no")])
async def test_a_failure_is_logged_as_a_request_too(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async with web(access_log=True) as shop:
        shop.storing.error = error
        await shop.send(X_Correlation_ID="k-1")
    (line,) = access_lines(caplog)
    assert (fields_of(line)["status"], fields_of(line)["correlation_id"]) == (500, "k-1")


async def test_by_default_there_is_no_access_log(caplog: pytest.LogCaptureFixture) -> None:
    async with web() as shop:
        await shop.send()
    assert access_lines(caplog) == []
    assert not Settings().http_access_log


@pytest.mark.parametrize("chosen", [False, True])
async def test_the_setting_reaches_the_application(
    chosen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def record(*_: Any, **named: Any) -> None:
        given.append(named["access_log"])

    monkeypatch.setattr(http_server, "Application", record)
    for name in ("stage_waiters", "server_checks"):
        monkeypatch.setattr(http_server, name, lambda *_: nullcontext())
    monkeypatch.setattr(http_server, "followed_domains", lambda *_: nullcontext({}))
    monkeypatch.setattr(http_server.connections, "stores", lambda *_, **__: nullcontext({}))
    async with http_server.http_application(Settings(http_access_log=chosen), {}):
        assert given == [chosen]
