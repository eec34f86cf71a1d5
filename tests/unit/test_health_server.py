"""The page of a worker: what is not ready, by name."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from eventfleet.stores.background_task import BackgroundTask
from eventfleet.workers.health_server import HealthServer
from eventfleet.workers.metrics import Metrics


class App:
    """An app with these obstacles."""

    def __init__(self, *obstacles: str) -> None:
        self._obstacles = list(obstacles)

    def obstacles(self) -> list[str]:
        return self._obstacles

    def problems(self, bound: float) -> list[str]:
        return []


async def answer(path: str, *apps: Any) -> tuple[int, str]:
    page = HealthServer(Metrics(), apps).served("127.0.0.1", 0)
    async with page as url, aiohttp.request("GET", url + path) as got:
        return got.status, await got.text()


@pytest.fixture
async def failing_task(request: pytest.FixtureRequest) -> AsyncIterator[BackgroundTask]:
    """A background task that has failed, essential or not."""

    async def work() -> None:
        await asyncio.sleep(3600)

    task = BackgroundTask("the work", work, essential=request.param)
    task.start()
    task.report_failure(LookupError("a bug"))
    yield task
    await task.end()


async def test_each_obstacle_of_each_app_is_named() -> None:
    apps = App("one is stopped: a", "two is stopped: b"), App(), App("three: not ready")
    expected = "one is stopped: a\ntwo is stopped: b\nthree: not ready\n"
    assert await answer("/ready", *apps) == (503, expected)
    assert await answer("/live", *apps) == (200, "ok\n")


@pytest.mark.parametrize("failing_task", [True], indirect=True)
async def test_without_an_essential_task_the_process_is_not_ready(
    failing_task: BackgroundTask,
) -> None:
    assert await answer("/ready", App()) == (503, "the work: LookupError: a bug\n")
    failing_task.report_well()
    assert await answer("/ready", App()) == (200, "ok\n")


@pytest.mark.parametrize("failing_task", [False], indirect=True)
async def test_any_other_task_that_fails_is_named(failing_task: BackgroundTask) -> None:
    assert await answer("/ready", App()) == (200, "ok\nthe work: LookupError: a bug\n")
