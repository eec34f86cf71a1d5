"""Shows the warnings and errors in the logs of a local fleet on its terminal."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import click

from eventfleet.cli.output import printable

POLL_SECONDS = 1.0
MAX_READ_BYTES = 100_000
"""Of one log at once; of what is beyond that only the file tells."""
_RECORD = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ([A-Z]+) "
    r'|\{.*?"level": ?"([a-z]+)"|(Traceback|Exception) '
)
_SHOWN = {"WARNING", "ERROR", "CRITICAL", "TRACEBACK", "EXCEPTION"}


class NamedLog(NamedTuple):
    """The file that a part of a fleet logs to."""

    name: str
    path: Path


class FollowedLog:
    """A log, read on from the place that it was read to. One that was begun anew is shorter."""

    def __init__(self, log: NamedLog) -> None:
        self._name, self._path, self._place, self._shown = *log, 0, False

    def read(self) -> list[str]:
        """Return the lines of new warnings and errors, with their tracebacks."""
        with suppress(OSError), self._path.open("rb") as log:
            if self._place > log.seek(0, os.SEEK_END):
                self._place = 0
            log.seek(self._place)
            whole, newline, _ = log.read(MAX_READ_BYTES).rpartition(b"\n")
            self._place += len(whole + newline)
            if newline:
                lines = whole.decode(errors="replace").split("\n")
                return [shown for line in lines if (shown := self._show(line))]
        return []

    def _show(self, line: str) -> str:
        found = _RECORD.match(line)
        if found:
            self._shown = str(found[found.lastindex or 0]).upper() in _SHOWN
            line = f"{self._name}: {line}"
        return printable(line) if self._shown else ""


@asynccontextmanager
async def shown_logs(followed: Sequence[NamedLog]) -> AsyncIterator[Callable[[], None]]:
    """Show what the parts of a fleet warn of, on standard error, until the block ends.

    What is yielded shows at once what they have warned of by now.
    """
    logs = [FollowedLog(log) for log in followed]

    def show() -> None:
        for line in (line for log in logs for line in log.read()):
            click.echo(line, err=True)

    async def follow() -> None:
        while True:
            show()
            await asyncio.sleep(POLL_SECONDS)

    task = asyncio.create_task(follow())
    try:
        yield show
    finally:
        task.cancel()
        show()
