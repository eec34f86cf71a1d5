"""Shows the warnings and errors in the logs of a local fleet's processes on its terminal."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import click

from eventfleet.cli.output import printable
from eventfleet.embedded_servers import ManagedProcess

POLL_SECONDS = 0.5
MAX_READ_BYTES = 100_000
"""Of one log at once; of what is beyond that only the file tells."""
_RECORD = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ([A-Z]+) "
    r'|\{.*?"level": ?"([a-z]+)"|(Traceback|Exception) '
)
_SHOWN = {"WARNING", "ERROR", "CRITICAL", "TRACEBACK", "EXCEPTION"}


class ProcessLog:
    """The log of a process, read on from the place that it was read to."""

    def __init__(self, process: ManagedProcess) -> None:
        self._process, self._place, self._shown = process, 0, False

    def read(self) -> list[str]:
        """Return the lines of new warnings and errors, with their tracebacks."""
        with suppress(OSError), self._process.log.open("rb") as log:
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
            line = f"{self._process.name}: {line}"
        return printable(line) if self._shown else ""


@asynccontextmanager
async def shown_logs(processes: Sequence[ManagedProcess]) -> AsyncIterator[Callable[[], None]]:
    """Show what the processes warn of, on standard error, until the block ends.

    What is yielded shows at once what they have warned of by now.
    """
    logs = [ProcessLog(process) for process in processes]

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
