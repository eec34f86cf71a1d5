"""Programs that run beside this process and end with it, however it ends."""

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from eventfleet.cli import supervisor
from eventfleet.topics.errors import EventfleetError

TAIL_LINES = 20
MAX_LINE_CHARACTERS = 500
STOP_MARGIN_SECONDS = 10.0


class ProgramFailed(EventfleetError):
    """A program ended by itself, or was not ready in time."""


class ManagedProcess:
    """A running program with a temporary folder of its own, which holds its log."""

    def __init__(self, name: str, folder: Path, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.folder = folder
        self._process = process
        self._status = asyncio.create_task(self._read_status())

    @property
    def log(self) -> Path:
        return self.folder / "output.log"

    async def wait(self) -> int:
        """Wait until the program ends by itself. The status is below 0 for a signal's number."""
        return await asyncio.shield(self._status)

    def tail(self) -> str:
        """The last lines of the program's output."""
        return tail(self.log)

    def failure(self, what: str) -> ProgramFailed:
        """The error to raise, with the end of the program's output."""
        tail = self.tail()
        ending = f"; its output ends with:\n{tail}" if tail else " and wrote nothing"
        return ProgramFailed(f"{self.name} {what}{ending}")

    def request_end(self) -> None:
        """Let the program end, without waiting for it."""
        if self._process.stdin:
            self._process.stdin.close()

    async def close(self) -> None:
        """End the program and remove its folder."""
        self.request_end()
        await self._process.wait()
        self._status.cancel()

    async def _read_status(self) -> int:
        assert self._process.stdout
        line = await self._process.stdout.readline()
        return int(line) if line else await self._process.wait()


def tail(log: Path) -> str:
    """The last lines of a log, each indented."""
    with contextlib.suppress(OSError), log.open(encoding="utf-8", errors="replace") as lines:
        return "\n".join(
            f"  {line.rstrip()[:MAX_LINE_CHARACTERS]}" for line in deque(lines, TAIL_LINES)
        )
    return ""


@asynccontextmanager
async def start_process(
    name: str,
    command: Callable[[Path], Sequence[str]],
    environment: Mapping[str, str] | None = None,
    grace: float = 0.0,
) -> AsyncIterator[ManagedProcess]:
    """Run a program until the block ends, or this process, even by kill -9.

    `command` takes the program's temporary folder, which is removed in the end; `environment` is
    added to this process's own. The program gets SIGTERM, and SIGKILL `grace` seconds later.
    """
    folder = Path(tempfile.mkdtemp(prefix="eventfleet-"))
    try:
        arguments = [str(folder), str(grace), *command(folder)]
        process = await _start(name, folder, arguments, {**os.environ, **(environment or {})})
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    try:
        yield process
    finally:
        await asyncio.shield(asyncio.wait_for(process.close(), grace + STOP_MARGIN_SECONDS))


async def _start(
    name: str, folder: Path, arguments: Sequence[str], environment: Mapping[str, str]
) -> ManagedProcess:
    with (folder / "output.log").open("wb") as log:
        started = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", supervisor.__file__, *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
    return ManagedProcess(name, folder, started)
