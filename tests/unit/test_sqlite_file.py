"""The SQLite file: which one is opened, what is told of the others, and what a commit promises."""

import asyncio
import errno
import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from eventfleet.stores.errors import Misconfigured, ServerUnavailable
from eventfleet.stores.sqlite import database_file
from eventfleet.stores.sqlite.database import Database, open_database, parse_url
from eventfleet.stores.sqlite.schema import SCHEMA_VERSION

NOTE = "INSERT INTO bus_notes VALUES ('d', ?, 'i', '[]')"
HOLDER = """
import asyncio, sys
from pathlib import Path
from eventfleet.stores.sqlite.database import open_database

async def main() -> None:
    async with open_database(Path(sys.argv[1]), 5):
        print("open", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "file"


async def note(database: Database, name: str) -> None:
    await database.write(lambda connection: connection.execute(NOTE, (name,)))


async def noted(path: Path) -> list[str]:
    async with open_database(path, 5) as database:
        return await database.read(names)


def names(connection: apsw.Connection) -> list[str]:
    found = connection.execute("SELECT name FROM bus_notes ORDER BY name")
    return [str(name) for (name,) in found]


def own_file(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)

    async def make() -> None:
        async with open_database(path, 5) as database:
            await note(database, "a")

    asyncio.run(make())


def text_file(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("id,name\n" * 50)


def others_file(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()


def newer_file(path: Path) -> None:
    own_file(path)
    connection = apsw.Connection(str(path))
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()


def half_a_file(path: Path) -> None:
    own_file(path)
    os.truncate(path, path.stat().st_size // 2)


def log_alone(path: Path) -> None:
    path.parent.mkdir()
    path.with_name("file-wal").write_bytes(b"x" * 100)


def folder(path: Path) -> None:
    path.mkdir(parents=True)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (text_file, "is no SQLite file"),
        (others_file, "is another program's"),
        (newer_file, f"is of a newer release: its tables have version {SCHEMA_VERSION + 1}"),
        (half_a_file, "is copied in part"),
        (log_alone, "file-wal is there without"),
        (folder, "is a folder, not a file"),
    ],
)
def test_what_is_no_whole_file_of_ours_is_refused_and_stays_as_it_is(
    path: Path, make: Callable[[Path], None], reason: str
) -> None:
    make(path)
    before = {each.name: each.read_bytes() for each in path.parent.iterdir() if each.is_file()}
    with pytest.raises(Misconfigured, match=reason):
        asyncio.run(noted(path))
    after = {each.name: each.read_bytes() for each in path.parent.iterdir() if each.is_file()}
    after.pop("file-lock", None)
    before.pop("file-lock", None)
    assert after == before


def test_a_second_process_is_told_which_one_has_the_file(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout
        try:
            assert holder.stdout.readline() == "open\n"
            with pytest.raises(Misconfigured, match=f"is in use by process {holder.pid}"):
                asyncio.run(noted(path))
        finally:
            holder.kill()
    assert asyncio.run(noted(path)) == []


def test_a_file_system_without_locks_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(Misconfigured, match=r"keeps no locks \(No locks available\): use a local"):
        asyncio.run(noted(path))
    assert not path.exists()


async def test_a_process_shares_the_file_with_itself_until_the_last_closes_it(path: Path) -> None:
    async with open_database(path, 5) as one:
        async with open_database(path, 5) as other:
            assert other is one
        await note(one, "a")
    assert await noted(path) == ["a"]
    assert {each.name for each in path.parent.iterdir()} == {"file", "file-lock"}


async def test_writes_that_wait_are_committed_together(path: Path) -> None:
    commits = 0

    def count() -> bool:
        nonlocal commits
        commits += 1
        return False

    async with open_database(path, 5) as database:
        database._writer.set_commit_hook(count)
        await asyncio.gather(*(note(database, f"{number:03}") for number in range(100)))
    assert commits < 50
    assert len(await noted(path)) == 100


async def test_a_read_waits_for_no_search(path: Path) -> None:
    ended = threading.Event()

    def stand_still(connection: apsw.Connection) -> None:
        ended.wait(20)

    async with open_database(path, 30) as database:
        search = asyncio.create_task(database.search(stand_still))
        await asyncio.sleep(0)
        assert await database.read(lambda connection: connection.execute("SELECT 7").get) == 7
        assert not search.done()
        ended.set()
        await search


async def test_a_write_that_raises_undoes_itself_alone(path: Path) -> None:
    def half(connection: apsw.Connection) -> None:
        connection.execute(NOTE, ("half",))
        raise LookupError("no more")

    async with open_database(path, 5) as database:
        results = await asyncio.gather(
            note(database, "a"), database.write(half), note(database, "b"), return_exceptions=True
        )
        assert [type(each) for each in results] == [type(None), LookupError, type(None)]
    assert await noted(path) == ["a", "b"]


async def test_a_full_disk_fails_what_it_can_t_take_and_nothing_else(path: Path) -> None:
    async with open_database(path, 5) as database:
        await note(database, "a")
        database._writer.execute("PRAGMA max_page_count = 1")
        with pytest.raises(ServerUnavailable, match="the disk is full"):
            await note(database, "b" * 1_000_000)
        database._writer.execute("PRAGMA max_page_count = 1000000")
        await note(database, "c")
    assert await noted(path) == ["a", "c"]


class FailingWriter:
    """A connection on which the next ROLLBACK fails, as on a disk that fails."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection, self.failures = connection, 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: str, *values: Any) -> Any:
        if statement == "ROLLBACK" and self.failures:
            self.failures = 0
            raise apsw.IOError("IOError: disk I/O error")
        return self._connection.execute(statement, *values)


async def test_writes_go_on_after_one_that_could_not_even_be_rolled_back(path: Path) -> None:
    def fail(connection: apsw.Connection) -> None:
        connection.execute(NOTE, ("half",))
        raise apsw.FullError("FullError: database or disk is full")

    async with open_database(path, 5) as database:
        writer: Any = FailingWriter(database._writer)
        database._writer = writer
        with pytest.raises(ServerUnavailable, match="the disk is full"):
            await database.write(fail)
        assert not writer.failures
        await note(database, "b")
    assert await noted(path) == ["b"]


async def test_a_log_that_can_t_be_rewritten_is_rewritten_by_the_next_write(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise OSError(28, "No space left on device")

    async with open_database(path, 5) as database:
        database._has_lost_writes = True
        with monkeypatch.context() as patch:
            patch.setattr("eventfleet.stores.sqlite.database.rewrite_log", fail)
            with pytest.raises(ServerUnavailable, match="file: No space left on device"):
                await note(database, "a")
        await note(database, "b")
    assert await noted(path) == ["b"]


async def test_a_write_ends_in_time_though_another_one_stands_still(path: Path) -> None:
    started, ended = threading.Event(), threading.Event()

    def stand_still(connection: apsw.Connection) -> None:
        started.set()
        ended.wait(20)

    async with open_database(path, 0.2) as database:
        first = asyncio.create_task(database.write(stand_still))
        await asyncio.to_thread(started.wait, 20)
        with pytest.raises(ServerUnavailable, match=r"no answer in 0.2 s"):
            await note(database, "late")
        with pytest.raises(ServerUnavailable):
            await first
        ended.set()
    assert await noted(path) == []


def test_the_log_of_a_killed_process_is_read(path: Path, tmp_path: Path) -> None:
    """A copy of file and log, as a kill leaves them."""

    async def copy() -> None:
        async with open_database(path, 5) as database:
            await note(database, "a")
            shutil.copytree(path.parent, tmp_path / "copy")

    asyncio.run(copy())
    assert (tmp_path / "copy" / "file-wal").stat().st_size
    assert asyncio.run(noted(tmp_path / "copy" / "file")) == ["a"]


def test_a_checkpoint_that_was_killed_is_finished(path: Path, tmp_path: Path) -> None:
    """It writes the pages in order: the first, which says how many there are, before new ones."""
    killed = tmp_path / "killed" / "file"
    killed.parent.mkdir()

    async def make() -> None:
        async with open_database(path, 5) as database:
            await note(database, "a" * 100_000)
            for end in ("", "-wal"):
                shutil.copy(f"{path}{end}", f"{killed}{end}")

    asyncio.run(make())
    with killed.open("r+b") as file, open(f"{killed}-wal", "rb") as log:
        frames = log.read()[32:]
        page_size = int.from_bytes(file.read(18)[16:], "big")
        for start in range(0, len(frames), 24 + page_size):
            frame = frames[start : start + 24 + page_size]
            if frame[:4] == b"\0\0\0\1":
                file.seek(0)
                file.write(frame[24:])
    assert asyncio.run(noted(killed)) == ["a" * 100_000]


def test_an_old_sqlite_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_file.apsw, "sqlite_lib_version", lambda: "3.40.1")
    with pytest.raises(Misconfigured, match=r"SQLite 3\.40\.1 .* 3\.51\.3 or later is needed"):
        asyncio.run(noted(path))


@pytest.mark.parametrize("url", ["sqlite:file", "sqlite:///", "sqlite:///folder/", "sqlite3:///a"])
def test_an_url_without_a_file_is_refused(url: str) -> None:
    with pytest.raises(Misconfigured, match="names no file: write sqlite:///file"):
        parse_url(url)


def test_an_url_names_a_relative_or_an_absolute_file() -> None:
    assert parse_url("sqlite:///data/file") == Path("data/file")
    assert parse_url("sqlite:////data/file") == Path("/data/file")
