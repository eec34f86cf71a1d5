"""Does something again and again, and dies a step later each time: ACTION STEP FOLDER.

The action is to `commit` records and an offset, or to `put` events, which are produced later, or in
`put_awaited` at once. A step is a `statement` of it, or a `write` to the file's log, half of which
is done. The try that dies after step N works on the copy `N` of the folder's `file`; the last one
does not die.
"""

import asyncio
import os
import shutil
import sys
from itertools import count
from pathlib import Path
from typing import Any

import apsw
from msgspec.structs import replace

from eventfleet.stores.sqlite.database import open_database
from eventfleet.stores.sqlite.event_table import EventTable
from eventfleet.stores.sqlite.events import SqliteEvents
from eventfleet.stores.sqlite.log import SqliteTransactionalWriter
from eventfleet.topics.record import ProducerRecord
from tests.contract.faulty_files import FaultyFiles, die
from tests.contract.samples import DOMAIN, event

RECORDS = [
    ProducerRecord(f"rooms.{kind}", b"k", b"new " + b"." * 3_000, partition)
    for kind in ("stored", "snapshots")
    for partition in (0, 1)
]
OFFSET = 2
EVENTS = [event("a", 1, data={"text": "." * 3_000}), event("a", 2)]


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


async def put(path: Path, steps: Steps, reply_to: str | None = None) -> None:
    """The steps go on until the file is closed: by then all is produced."""
    *before, last = EVENTS
    async with open_database(path, 60) as database:
        events = SqliteEvents(database, EventTable(DOMAIN), "rooms.events")
        steps.is_armed = True
        await events.put([*before, replace(last, reply_to=reply_to)], 0)


async def put_awaited(path: Path, steps: Steps) -> None:
    await put(path, steps, "somewhere")


ACTIONS = {"commit": commit, "put": put, "put_awaited": put_awaited}


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


def try_once(action: str, kind: str, path: Path, step: int) -> bool:
    """Return whether the action came through, in a process of its own."""
    child = os.fork()
    if not child:
        steps = Steps(step)
        _kept = (die_at_statement if kind == "statement" else die_within_write)(steps)
        asyncio.run(ACTIONS[action](path, steps))
        os._exit(0)
    return not os.waitpid(child, 0)[1]


def main(action: str, kind: str, folder: str) -> None:
    for step in count(1):
        path = Path(folder, str(step))
        shutil.copy(Path(folder, "file"), path)
        if try_once(action, kind, path, step):
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
