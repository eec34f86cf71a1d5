"""Background tasks: begun again after any failure, and what they tell of it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from eventfleet.stores.background_task import BackgroundTask, background_tasks
from eventfleet.stores.errors import ServerUnavailable
from tests.unit.eventually import until


def failing(*errors: BaseException) -> tuple[list[int], Callable[[], Awaitable[None]]]:
    """Work that raises these errors one try after the other, and then goes on for ever."""
    tries: list[int] = []

    async def work() -> None:
        tries.append(len(tries))
        if len(tries) <= len(errors):
            raise errors[len(tries) - 1]
        await asyncio.sleep(3600)

    return tries, work


@pytest.mark.parametrize(
    "error", [ServerUnavailable("away"), ZeroDivisionError("a bug"), asyncio.CancelledError()]
)
async def test_work_that_fails_is_begun_again(error: BaseException) -> None:
    tries, work = failing(error, error)
    task = BackgroundTask("the work", work)
    task.start()
    await until(lambda: len(tries) == 3)
    assert task.failures == 2
    assert task.problem == f"the work: {type(error).__name__}: {error}"
    task.report_well()
    assert task.problem is None
    await task.end()


async def test_a_failure_is_logged_once_and_so_is_the_recovery(
    caplog: pytest.LogCaptureFixture,
) -> None:
    away = ServerUnavailable("away")
    tries, work = failing(away, away, LookupError("a bug"))
    task = BackgroundTask("the work", work)
    with caplog.at_level(logging.INFO):
        task.start()
        await until(lambda: len(tries) == 4)
        task.report_well()
        task.report_well()
    assert [record.getMessage() for record in caplog.records] == [
        "the work: ServerUnavailable: away; it is tried again",
        "the work: LookupError: a bug; it is tried again",
        "the work is well again",
    ]
    assert [bool(record.exc_info) for record in caplog.records] == [False, True, False]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    await task.end()


async def test_work_that_ends_by_itself_after_a_failure_is_well() -> None:
    tries: list[int] = []

    async def work() -> None:
        tries.append(len(tries))
        if len(tries) == 1:
            raise ServerUnavailable("away")

    task = BackgroundTask("the work", work)
    task.start()
    await until(lambda: len(tries) == 2 and task.problem is None)
    await task.end()


async def test_the_tasks_of_the_process_are_known_while_they_run() -> None:
    _, work = failing()
    tasks = [BackgroundTask(name, work) for name in ("b", "a")]
    for task in tasks:
        task.start()
        task.start()
    assert [task.name for task in background_tasks() if task in tasks] == ["a", "b"]
    for task in tasks:
        await task.end()
    assert [task for task in background_tasks() if task in tasks] == []


async def test_work_may_end_by_itself_within_the_grace_and_be_begun_anew() -> None:
    stop, ended = asyncio.Event(), []

    async def work() -> None:
        await stop.wait()
        await asyncio.sleep(0.02)
        ended.append(True)

    task = BackgroundTask("the work", work)
    task.start()
    await asyncio.sleep(0)
    stop.set()
    await until(lambda: len(ended) == 1)
    await asyncio.sleep(0)
    task.start()
    await task.end(grace=20)
    assert ended == [True, True]


async def test_it_ends_although_a_try_loses_the_cancellation() -> None:
    async def deaf() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise ServerUnavailable("cancelled") from None

    task = BackgroundTask("the work", deaf)
    task.start()
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await task.end()


async def test_it_ends_during_a_pause() -> None:
    tries, work = failing(*[ServerUnavailable("away")] * 1000)
    task = BackgroundTask("the work", work)
    task.start()
    await until(lambda: len(tries) == 3)
    async with asyncio.timeout(20):
        await task.end()


async def test_a_task_that_was_ended_and_started_again_is_begun_again_after_a_failure() -> None:
    tries, work = failing()
    task = BackgroundTask("the work", work)
    task.start()
    await until(lambda: len(tries) == 1)
    await task.end()
    tries, task._work = failing(ServerUnavailable("away"))
    task.start()
    await until(lambda: len(tries) == 2)
    await task.end()
