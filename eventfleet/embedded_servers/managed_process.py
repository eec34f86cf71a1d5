"""Programs beside us that end with us, however we end."""

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

from eventfleet.embedded_servers import supervisor
from eventfleet.topics.errors import EventfleetError

TAIL = 20
LINE = 500
LEAVE = 10.0


class ProgramFailed(EventfleetError):
    """A program beside us ended by itself, or was not ready in time."""


class ManagedProcess:
    """A running program with a temporary folder of its own, which holds its log."""

    def __init__(self, name: str, folder: Path, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.folder = folder
        self._process = process
        self._status = asyncio.create_task(self._wait())

    @property
    def log(self) -> Path:
        return self.folder / "output.log"

    @property
    def running(self) -> bool:
        return not self._status.done()

    async def ended(self) -> int:
        """Wait until the program ends by itself; its status (below 0: the signal's number)."""
        return await asyncio.shield(self._status)

    def tail(self) -> str:
        """The last lines that it wrote."""
        with contextlib.suppress(OSError), self.log.open(errors="replace") as lines:
            return "\n".join(f"  {line.rstrip()[:LINE]}" for line in deque(lines, TAIL))
        return ""

    def failed(self, what: str) -> ProgramFailed:
        """The fault to raise, with what the program wrote last."""
        return ProgramFailed(
            "\n".join(filter(None, [f"{self.name} {what}; its output:", self.tail()]))
        )

    async def close(self) -> None:
        """End the program and remove its folder."""
        if self._process.stdin:
            self._process.stdin.close()
        await self._process.wait()
        self._status.cancel()

    async def _wait(self) -> int:
        assert self._process.stdout
        line = await self._process.stdout.readline()
        return int(line) if line else await self._process.wait()


@asynccontextmanager
async def start_process(
    name: str,
    command: Callable[[Path], Sequence[str]],
    environment: Mapping[str, str] | None = None,
    grace: float = 0.0,
) -> AsyncIterator[ManagedProcess]:
    """Run a program for the length of the block, and not longer, also when this process is killed.

    `command` gets the folder, which is removed in the end; `environment` is added to our own. The
    program has `grace` seconds to leave from SIGTERM on.
    """
    folder = Path(tempfile.mkdtemp(prefix="eventfleet-"))
    try:
        arguments = [str(folder), str(grace), *command(folder)]
        kept = await _start(name, folder, arguments, {**os.environ, **(environment or {})})
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    try:
        yield kept
    finally:
        await asyncio.shield(asyncio.wait_for(kept.close(), grace + LEAVE))


async def _start(
    name: str, folder: Path, arguments: Sequence[str], environment: Mapping[str, str]
) -> ManagedProcess:
    with (folder / "output.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", supervisor.__file__, *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
    return ManagedProcess(name, folder, process)
