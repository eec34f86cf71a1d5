"""Copies of the SQLite file: what they hold, and that they are files of their own."""

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from itertools import count
from pathlib import Path
from typing import Any, Self

import apsw
import pytest

from eventfleet.stores.errors import Misconfigured, ServerUnavailable
from eventfleet.stores.sqlite import backup
from eventfleet.stores.sqlite.backup import back_up
from eventfleet.stores.sqlite.database import Database, open_database
from eventfleet.stores.sqlite.database_file import connect
from tests.contract.faulty_files import Change, FaultyFiles, faulty_files

TIMEOUT = 30
WRITERS = 4
OPENER = """
import asyncio, sys
from pathlib import Path
from eventfleet.stores.sqlite.database import open_database

async def main() -> None:
    async with open_database(Path(sys.argv[1]), 30) as database:
        print(database.incarnation, flush=True)
        sys.stdin.read()

asyncio.run(main())
"""
DYING = """
import os, sys
from pathlib import Path
from eventfleet.stores.sqlite import backup

backup._mark = lambda part: os.kill(os.getpid(), 9)
backup.back_up(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    (tmp_path / "copies").mkdir()
    return tmp_path / "copies" / "copy"


async def note(database: Database, name: str) -> None:
    insert = "INSERT INTO bus_notes VALUES ('d', ?, 'i', ?)"
    await database.write(lambda connection: connection.execute(insert, (name, "x" * 500)))


async def noted(path: Path) -> set[str]:
    async with open_database(path, TIMEOUT) as database:
        return await database.read(
            lambda connection: {
                name for (name,) in connection.execute("SELECT name FROM bus_notes")
            }
        )


async def incarnation(path: Path) -> str:
    async with open_database(path, TIMEOUT) as database:
        return database.incarnation


@asynccontextmanager
async def writing(database: Database) -> AsyncIterator[dict[int, int]]:
    """Write for the length of the block; yields how many notes each writer has had acknowledged."""
    acknowledged = dict.fromkeys(range(WRITERS), 0)

    async def write(writer: int) -> None:
        for number in count(1):
            await note(database, f"{writer}-{number}")
            acknowledged[writer] = number

    tasks = [asyncio.create_task(write(writer)) for writer in acknowledged]
    try:
        yield acknowledged
    finally:
        for task in tasks:
            task.cancel()


async def test_a_copy_has_what_was_acknowledged_before_and_writers_go_on(
    path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "STEP_PAGES", 1)
    async with open_database(path, TIMEOUT) as database:
        await asyncio.gather(*(note(database, f"first-{number}") for number in range(2_000)))
        async with writing(database) as acknowledged:
            await note(database, "last")
            before = dict(acknowledged)
            await database.back_up(copy)
            after = dict(acknowledged)
    names = await noted(copy)
    assert names >= {"last", *(f"first-{number}" for number in range(2_000))}
    for writer in before:
        copied = {int(each.partition("-")[2]) for each in names if each.startswith(f"{writer}-")}
        assert copied == {*range(1, len(copied) + 1)}
        assert before[writer] <= len(copied) <= after[writer] + 1
    assert sum(after.values()) > sum(before.values()) + WRITERS
    assert {each.name for each in copy.parent.iterdir()} == {"copy", "copy-lock"}


class SteppedBackup:
    """A backup that calls a function before each of its steps."""

    def __init__(self, backup: apsw.Backup, before_step: Callable[[], None]) -> None:
        self._backup, self._before_step = backup, before_step

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._backup.close()

    @property
    def done(self) -> bool:
        return self._backup.done

    def step(self, pages: int) -> None:
        self._before_step()
        self._backup.step(pages)


async def test_writes_between_its_steps_do_not_begin_a_copy_anew(
    path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, steps = asyncio.get_running_loop(), count(1)
    async with open_database(path, TIMEOUT) as database:

        def write() -> None:
            step = next(steps)
            assert step < 200
            asyncio.run_coroutine_threadsafe(note(database, f"{step}"), loop).result(TIMEOUT)

        class Target(apsw.Connection):
            def backup(self, *names: Any) -> Any:
                return SteppedBackup(super().backup(*names), write)

        monkeypatch.setattr(backup, "open_file", lambda part: Target(str(part)))
        monkeypatch.setattr(backup, "STEP_PAGES", 1)
        await note(database, "before")
        await database.back_up(copy)
        assert next(steps) > 10
    assert await noted(copy) == {"before"}


def test_a_copy_is_opened_beside_the_original_in_an_incarnation_of_its_own(
    path: Path, copy: Path
) -> None:
    original = asyncio.run(incarnation(path))
    back_up(path, copy)
    with subprocess.Popen(
        [sys.executable, "-c", OPENER, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline().strip() == original
        own = asyncio.run(incarnation(copy))
        process.communicate()
    assert own
    assert own != original
    assert asyncio.run(incarnation(copy)) == own
    assert asyncio.run(incarnation(path)) == original


def by_cp(path: Path, other: Path) -> None:
    shutil.copyfile(path, other)


def by_cp_a(path: Path, other: Path) -> None:
    shutil.copy2(path, other)


def by_tar(path: Path, other: Path) -> None:
    archive = path.with_name("archive.tar")
    with tarfile.open(archive, "w") as tar:
        tar.add(path, other.name)
    with tarfile.open(archive) as tar:
        tar.extractall(other.parent, filter="data")


def by_sqlite3(path: Path, other: Path) -> None:
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(other)) as target:
        source.backup(target)


def by_vacuum(path: Path, other: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"VACUUM INTO '{other}'")


@pytest.mark.parametrize("make", [by_cp, by_cp_a, by_tar, by_sqlite3, by_vacuum])
async def test_a_copy_by_other_tools_beside_the_original_is_noticed(
    path: Path, copy: Path, make: Callable[[Path, Path], None]
) -> None:
    original = await incarnation(path)
    make(path, copy)
    own = await incarnation(copy)
    assert own != original
    assert await incarnation(copy) == own
    assert await incarnation(path) == original


def test_a_moved_file_stays_the_same(path: Path, copy: Path) -> None:
    original = asyncio.run(incarnation(path))
    path.rename(copy)
    assert asyncio.run(incarnation(copy)) == original


def test_a_copy_in_the_place_of_its_original_begins_a_new_incarnation(
    path: Path, copy: Path
) -> None:
    original = asyncio.run(incarnation(path))
    back_up(path, copy)
    inode = path.stat().st_ino
    shutil.copyfile(copy, path)
    assert path.stat().st_ino == inode
    assert asyncio.run(incarnation(path)) != original


def test_a_copy_by_cp_in_the_place_of_its_original_is_marked_by_hand(
    path: Path, copy: Path
) -> None:
    original = asyncio.run(incarnation(path))
    shutil.copyfile(path, copy)
    shutil.copyfile(copy, path)
    assert asyncio.run(incarnation(path)) == original
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("UPDATE file SET incarnation = ''")
    shutil.copyfile(copy, path)
    assert asyncio.run(incarnation(path)) not in ("", original)


def there(path: Path, copy: Path) -> Path:
    copy.write_text("kept")
    return copy


def log_there(path: Path, copy: Path) -> Path:
    copy.with_name("copy-wal").write_text("kept")
    return copy


def no_folder(path: Path, copy: Path) -> Path:
    return copy.parent / "none" / "copy"


def no_file(path: Path, copy: Path) -> Path:
    path.unlink()
    return copy


def text_file(path: Path, copy: Path) -> Path:
    path.write_text("id,name\n" * 50)
    return copy


def others_file(path: Path, copy: Path) -> Path:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    return copy


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (there, r"copies/copy is there already: name a new file"),
        (log_there, r"copies/copy-wal is there already"),
        (no_folder, r"none/copy: there is no folder .*/copies/none"),
        (no_file, r"file is not there"),
        (text_file, r"file: it is no SQLite file"),
        (others_file, r"file is another program's"),
    ],
)
def test_what_can_t_be_copied_is_refused_and_nothing_is_left(
    path: Path, copy: Path, make: Callable[[Path, Path], Path], reason: str
) -> None:
    asyncio.run(incarnation(path))
    target = make(path, copy)
    before = {each: each.read_bytes() for each in copy.parent.iterdir()}
    with pytest.raises(Misconfigured, match=reason):
        back_up(path, target)
    assert {each: each.read_bytes() for each in copy.parent.iterdir()} == before


class FullDisk(FaultyFiles):
    """A disk without room for more than some pages of a copy."""

    def note(self, path: Path | None, change: Change) -> None:
        if path and path.parent.name == "copies" and change[0] > 20_000:
            raise apsw.FullError("FullError: database or disk is full")


@pytest.fixture
def full_disk() -> Iterator[None]:
    files = FullDisk()
    yield
    files.unregister()


@pytest.mark.usefixtures("full_disk")
async def test_a_full_disk_leaves_nothing(path: Path, copy: Path) -> None:
    async with open_database(path, TIMEOUT) as database:
        with pytest.raises(ServerUnavailable, match="copies/copy: the disk is full"):
            await database.back_up(copy)
        await note(database, "a")
    assert not [*copy.parent.iterdir()]


def test_a_copy_that_is_killed_in_the_midst_has_not_its_name(path: Path, copy: Path) -> None:
    asyncio.run(incarnation(path))
    died = subprocess.run([sys.executable, "-c", DYING, path, copy], check=False)
    assert died.returncode == -9
    assert [each.suffix for each in copy.parent.iterdir()] == [".part"]
    back_up(path, copy)
    assert asyncio.run(incarnation(copy))


def test_a_copy_and_its_incarnation_are_on_the_disk(path: Path, copy: Path, tmp_path: Path) -> None:
    asyncio.run(incarnation(path))
    with faulty_files() as files:
        files.disk = tmp_path / "disk"
        files.disk.mkdir()
        back_up(path, copy)
        [synced] = files.disk.iterdir()
        assert synced.read_bytes() == copy.read_bytes()
        synced = synced.rename(files.disk / copy.name)
        connection = connect(copy)
        own = connection.execute("SELECT incarnation FROM file").get
        with closing(sqlite3.connect(synced)) as disk:
            assert disk.execute("SELECT incarnation FROM file").fetchone() == (own,)
        connection.close()


def test_a_copy_is_as_private_as_the_file(path: Path, copy: Path) -> None:
    asyncio.run(incarnation(path))
    path.chmod(0o600)
    back_up(path, copy)
    assert copy.stat().st_mode & 0o777 == 0o600
