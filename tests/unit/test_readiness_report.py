"""ReadinessReport: the blocking reasons decide and come first; and what reads it."""

import json
import math
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import get_args

import aiohttp
import pytest
from aiohttp import web

from eventfleet.cli.health import _check_service
from eventfleet.cli.http_client import ServiceFailed
from eventfleet.cli.local_fleet import _count_waiting
from eventfleet.stores.readiness_report import (
    REASONS,
    ReadinessReason,
    ReadinessReport,
    ReasonKind,
    read_reasons,
    time_of,
)


def reason(kind: ReasonKind, text: str, *, blocking: bool = True) -> ReadinessReason:
    return ReadinessReason(kind=kind, reason=text, blocking=blocking)


PARKED = reason("parked", "parks a", blocking=False)
WAITS = reason("waiting", "waits: b")
STOPPED = reason("stopped", "is stopped: c")


@asynccontextmanager
async def answering(status: int, body: bytes) -> AsyncIterator[str]:
    """A server whose `/ready` has this answer; its URL."""

    async def ready(request: web.Request) -> web.Response:
        return web.Response(status=status, body=body)

    app = web.Application()
    app.router.add_get("/ready", ready)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def test_blocking_reasons_decide_and_come_first() -> None:
    ready = ReadinessReport.of([], [PARKED])
    assert (ready.status, ready.http_status) == ("ready", 200)
    not_ready = ReadinessReport.of([PARKED], [WAITS, STOPPED])
    assert (not_ready.status, not_ready.http_status) == ("not ready", 503)
    assert not_ready.reasons == [WAITS, STOPPED, PARKED]


def test_a_report_has_only_what_is_known_and_is_read_back() -> None:
    since = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    of_one = ReadinessReason(
        kind="waiting", reason="waits", domain="orders", role="append", partition=0, since=since
    )
    report = ReadinessReport.of([of_one, PARKED])
    assert json.loads(report.encode())["reasons"] == [
        {
            "kind": "waiting",
            "reason": "waits",
            "blocking": False,
            "domain": "orders",
            "role": "append",
            "partition": 0,
            "since": "2026-01-02T03:04:05Z",
        },
        {"kind": "parked", "reason": "parks a", "blocking": False},
    ]
    assert read_reasons(report.encode()) == report.reasons


def test_without_names_it_has_the_status_and_each_kind_once() -> None:
    private = [STOPPED, STOPPED, PARKED, reason("task", "the work of orders failed")]
    found = ReadinessReport.of(private).without_names()
    assert (found.status, found.http_status) == ("not ready", 503)
    assert found.reasons == [
        reason("stopped", "a fault has stopped a role at a partition"),
        reason("task", "a background task fails"),
        reason("parked", "a role parks aggregates at a partition", blocking=False),
    ]
    assert ReadinessReport.of([]).without_names() == ReadinessReport.of([])


@pytest.mark.parametrize("body", [b"", b"ok\n", b"<html>", b"[]", b'{"status": "ready"}', b"\xff"])
def test_what_is_no_report_has_no_reasons(body: bytes) -> None:
    assert read_reasons(body) == []


def test_a_value_of_the_steady_clock_is_a_time() -> None:
    found = time_of(monotonic() - 3600)
    assert abs(datetime.now(UTC) - timedelta(hours=1) - found) < timedelta(minutes=1)
    assert found.microsecond == 0


@pytest.mark.parametrize(
    ("reasons", "message"),
    [([WAITS, STOPPED, PARKED], "waits: b; is stopped: c"), ([], "answers /ready with status 503")],
)
async def test_the_health_command_says_why_a_service_is_not_ready(
    reasons: list[ReadinessReason], message: str
) -> None:
    body = ReadinessReport.of(reasons).encode()
    async with answering(503, body) as url:
        with pytest.raises(ServiceFailed) as failed:
            await _check_service(url)
    assert str(failed.value) == message
    async with answering(200, body) as url:
        assert await _check_service(url) == "ready"


@pytest.mark.parametrize(
    ("status", "reasons", "waiting"),
    [
        (200, [PARKED], 0),
        (503, [WAITS, WAITS, STOPPED, PARKED], 2),
        (503, [STOPPED, PARKED], 0),
        (503, [], math.inf),
    ],
)
async def test_a_start_waits_for_all_but_what_is_stopped(
    status: int, reasons: list[ReadinessReason], waiting: float
) -> None:
    async with (
        answering(status, ReadinessReport.of(reasons).encode()) as url,
        aiohttp.ClientSession() as session,
    ):
        assert await _count_waiting(session, f"{url}/ready") == waiting


def test_the_guide_has_each_kind_of_reason_and_an_answer_as_it_is() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "http.md").read_text()
    section = guide.split("## For operators\n")[1].split("\n## ")[0]
    told = re.findall(r"^\| `(\w+)` \| ([^|(]+?) (?:\(.*\) )?\|", section, re.MULTILINE)
    assert told == [*REASONS.items()]
    assert [*REASONS] == [*get_args(ReasonKind)]
    (shown,) = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    assert ReadinessReport.of(read_reasons(shown.encode())).encode().decode() == shown
