"""Commits records and an offset again and again, and dies a step later each time: STEP FOLDER.

A step is a `statement` of the commit, or a `write` to the file's log, half of which is done. The
try that dies after step N works on the copy `N` of the folder's `file`; the last one does not die.
"""

import asyncio
import os
import shutil
import sys
from itertools import count
from pathlib import Path
from typing import Any

import apsw

from eventfleet.stores.sqlite.database import open_database
from eventfleet.stores.sqlite.log import SqliteTransactionalWriter
from eventfleet.topics.record import ProducerRecord
from tests.contract.faulty_files import FaultyFiles, die

RECORDS = [
    ProducerRecord(f"rooms.{kind}", b"k", b"new " + b"." * 3_000, partition)
    for kind in ("stored", "snapshots")
    for partition in (0, 1)
]
OFFSET = 2


class Steps:
    """Counts them once it is armed, and kills the process after one of them."""

    def __init__(self, last: int) -> None:
        self.is_armed, self._left = False, last

    def is_last(self) -> bool:
        self._left -= self.is_armed
        return self.is_armed and self._left == 0


async def commit(path: Path, steps: Steps) -> None:
    async with open_database(path, 60) as database:
        owner = SqliteTransactionalWriter(database, "rooms.append", "rooms.events", 0)
        await owner.open()
        steps.is_armed = True
        await owner.commit(RECORDS, OFFSET)
        steps.is_armed = False


def die_at_statement(steps: Steps) -> None:
    def ended(_: Any) -> None:
        if steps.is_last():
            die()

    def trace(connection: apsw.Connection) -> None:
        connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, ended)

    apsw.connection_hooks.append(trace)


def die_within_write(steps: Steps) -> FaultyFiles:
    def write_half(file: apsw.VFSFile, data: bytes, offset: int) -> None:
        if steps.is_last():
            apsw.VFSFile.xWrite(file, data[: len(data) // 2], offset)
            die()

    return FaultyFiles(write_half)


def try_once(kind: str, path: Path, step: int) -> bool:
    """Return whether the commit came through, in a process of its own."""
    child = os.fork()
    if not child:
        steps = Steps(step)
        _kept = (die_at_statement if kind == "statement" else die_within_write)(steps)
        asyncio.run(commit(path, steps))
        os._exit(0)
    return not os.waitpid(child, 0)[1]


def main(kind: str, folder: str) -> None:
    for step in count(1):
        path = Path(folder, str(step))
        shutil.copy(Path(folder, "file"), path)
        if try_once(kind, path, step):
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
