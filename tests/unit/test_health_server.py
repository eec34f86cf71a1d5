"""The page of a worker: what is not ready, by name."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from eventfleet.roles.view_statistics import BuildStatus
from eventfleet.stores.background_task import BackgroundTask
from eventfleet.stores.readiness_report import ReadinessReason
from eventfleet.topics.parked import ParkedAggregate
from eventfleet.workers.health_server import HealthServer
from eventfleet.workers.metrics import Metrics


def obstacle(reason: str) -> ReadinessReason:
    return ReadinessReason(kind="waiting", reason=reason, blocking=True)


class App:
    """An app with these obstacles."""

    def __init__(self, *obstacles: ReadinessReason) -> None:
        self._obstacles = list(obstacles)

    def obstacles(self) -> list[ReadinessReason]:
        return self._obstacles

    def problems(self, bound: float) -> list[str]:
        return []


async def answer(path: str, *apps: Any, metrics: Metrics | None = None) -> tuple[int, str]:
    page = HealthServer(metrics or Metrics(), apps).served("127.0.0.1", 0)
    async with page as url, aiohttp.request("GET", url + path) as got:
        return got.status, await got.text()


async def readiness(*apps: Any, metrics: Metrics | None = None) -> tuple[int, Any]:
    status, text = await answer("/ready", *apps, metrics=metrics)
    return status, json.loads(text)


@pytest.fixture
async def failing_task(request: pytest.FixtureRequest) -> AsyncIterator[BackgroundTask]:
    """A background task that has failed, essential or not."""

    async def work() -> None:
        await asyncio.sleep(3600)

    task = BackgroundTask("the work", work, essential=request.param)
    task.start()
    task.report_failure(LookupError("a bug"))
    task.failing_since = datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)
    yield task
    await task.end()


READY = {"status": "ready", "reasons": []}
FAILED = {
    "kind": "task",
    "reason": "the work: LookupError: a bug",
    "since": "2026-01-02T03:04:05Z",
}


async def test_each_obstacle_of_each_app_is_named() -> None:
    apps = App(obstacle("one is stopped"), obstacle("two waits")), App(), App(obstacle("three"))
    status, report = await readiness(*apps)
    assert (status, report["status"]) == (503, "not ready")
    assert report["reasons"] == [
        {"kind": "waiting", "reason": reason, "blocking": True}
        for reason in ("one is stopped", "two waits", "three")
    ]
    assert await answer("/live", *apps) == (200, "ok\n")


@pytest.mark.parametrize("failing_task", [True], indirect=True)
async def test_without_an_essential_task_the_process_is_not_ready(
    failing_task: BackgroundTask,
) -> None:
    failed = {"status": "not ready", "reasons": [FAILED | {"blocking": True}]}
    assert await readiness(App()) == (503, failed)
    failing_task.report_well()
    assert await readiness(App()) == (200, READY)


@pytest.mark.parametrize("failing_task", [False], indirect=True)
async def test_any_other_task_that_fails_is_named(failing_task: BackgroundTask) -> None:
    failed = {"status": "ready", "reasons": [FAILED | {"blocking": False}]}
    assert await readiness(App()) == (200, failed)


async def test_what_a_role_parks_is_named_and_makes_nothing_unready() -> None:
    parked = ParkedAggregate(
        *("relay", 2, "o-17", 4, 6, "e1", "Placed", "LookupError: no price", "", 1),
        parked_at=datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC),
    )
    metrics = Metrics()
    metrics.watch_parking("orders", "relay", 2, SimpleNamespace(aggregates={"o-17": parked}))  # type: ignore[arg-type]
    reason = "relay of orders, partition 2 parks 1 aggregates, among them 'o-17' at version 4: "
    assert await readiness(App(), metrics=metrics) == (
        200,
        {
            "status": "ready",
            "reasons": [
                {
                    "kind": "parked",
                    "reason": f"{reason}LookupError: no price",
                    "blocking": False,
                    "domain": "orders",
                    "role": "relay",
                    "partition": 2,
                    "since": "2026-01-02T03:04:05Z",
                }
            ],
        },
    )
    _, report = await readiness(App(obstacle("one waits")), metrics=metrics)
    assert [each["kind"] for each in report["reasons"]] == ["waiting", "parked"]


async def test_a_held_build_is_named_and_makes_nothing_unready() -> None:
    metrics = Metrics()
    metrics.views("orders").builds[3] = [BuildStatus("totals", "next", False, 0, "parks more")]
    status, report = await readiness(App(), metrics=metrics)
    assert (status, report["status"]) == (200, "ready")
    (found,) = report["reasons"]
    assert (found["kind"], found["domain"], found["role"]) == ("held", "orders", "project")
    assert (found["partition"], "its next build is not made live" in found["reason"]) == (3, True)
