"""A process that ends says why first, and once."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import click
import pytest
from click.testing import CliRunner

from eventfleet.cli import CommandGroup
from eventfleet.cli.output import is_told, tell_end
from eventfleet.topics.errors import EventfleetError
from eventfleet.workers.app_runner import run_apps

CAUSE = EventfleetError("append of orders, partition 3: this record can't be used")


class StubApp:
    """An app that fails after some steps, or runs until it is stopped; stopping takes a while."""

    fault = None

    def __init__(self, story: list[str], error: Exception | None, steps: int = 0) -> None:
        self._story, self._error, self._steps = story, error, steps

    async def work(self, stop: asyncio.Event, tell: Callable[[Exception], None]) -> None:
        for _ in range(self._steps):
            await asyncio.sleep(0)
        if self._error:
            tell(self._error)
        else:
            await stop.wait()
        self._story.append("stops")
        await asyncio.sleep(0.01)
        self._story.append("stopped")
        if self._error:
            raise self._error


async def run(*errors: Exception | None) -> tuple[list[str], Exception]:
    """What happens where apps fail, the last one first; and what is raised."""
    story: list[str] = []
    apps: Any = [StubApp(story, e, len(errors) - n) for n, e in enumerate(errors)]
    with pytest.raises(EventfleetError) as caught:
        await run_apps(apps, asyncio.Event(), lambda error: story.append(str(error)))
    return story, caught.value


async def test_the_cause_is_told_before_anything_is_stopped() -> None:
    story, raised = await run(None, CAUSE, None)
    assert story[0] == str(CAUSE)
    assert story.count(str(CAUSE)) == 1
    assert raised is CAUSE


async def test_of_several_errors_the_first_is_the_cause() -> None:
    consequence = EventfleetError("relay of orders: its consumer has ended")
    story, raised = await run(consequence, None, CAUSE)
    assert [line for line in story if "stop" not in line] == [str(CAUSE)]
    assert raised is CAUSE


@click.group(cls=CommandGroup)
def group() -> None:
    pass


@group.command()
@click.argument("kind")
def end(kind: str) -> None:
    error = CAUSE if kind == "fault" else ZeroDivisionError("a bug")
    tell_end(error)
    click.echo("stops", err=True)
    raise error


def test_what_was_told_is_not_said_again_at_the_end() -> None:
    done = CliRunner().invoke(group, ["end", "fault"])
    assert (done.exit_code, done.stderr) == (1, f"eventfleet: {CAUSE}\nstops\n")


def test_a_bug_is_one_traceback_before_the_stop() -> None:
    code = "from tests.unit.test_process_end import group; group(['end', 'bug'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("ZeroDivisionError: a bug") == 1
    assert done.stderr.endswith("stops\n")


def test_in_a_json_log_the_cause_is_one_critical_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("eventfleet.cli.logs.logs_json", lambda: True)
    error = EventfleetError("a cause")
    tell_end(error)
    assert is_told(error)
    assert [(each.levelno, each.getMessage()) for each in caplog.records] == [
        (logging.CRITICAL, "a cause")
    ]
