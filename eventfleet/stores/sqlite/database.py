"""Database: one file, written by one thread and read by another."""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import apsw

from eventfleet.stores.errors import Misconfigured, ServerUnavailable
from eventfleet.stores.leases import Leases
from eventfleet.stores.sqlite.backup import back_up
from eventfleet.stores.sqlite.database_file import connect, connect_reader, locked, rewrite_log
from eventfleet.stores.sqlite.errors import translated

T = TypeVar("T")

MAX_GROUP_JOBS = 200
MAX_WAITING_JOBS = 10_000
CHECKPOINT_PAGES = 1_000
"""The length of the log from which on its pages are moved to their places."""

Job = Callable[[apsw.Connection], T]
"""What is done within one transaction; it may run in a group with others."""


class WrittenTopics(NamedTuple):
    """The topics that records were written to, and those with records that somebody waits for."""

    topics: set[str]
    awaited: set[str]

    def clear(self) -> None:
        self.topics.clear()
        self.awaited.clear()


class _WriteJob(NamedTuple):
    run: Job[Any]
    result: Future[Any]
    is_synced: bool


class Database:
    """A file that holds the stores.

    Writes that wait at the same time are committed together, and answered once that is on the disk.
    A job that raises undoes its own writes alone.
    """

    def __init__(self, path: Path, writer: apsw.Connection, timeout: float) -> None:
        """`timeout` in seconds bounds each call."""
        self.path, self._timeout = path, timeout
        self.incarnation: str = writer.execute("SELECT incarnation FROM file").get
        self.leases = Leases()
        """By domain and name: no other process can hold one."""
        self._writer, self._reader = writer, connect_reader(path)
        self._jobs: queue.Queue[_WriteJob | None] = queue.Queue(MAX_WAITING_JOBS)
        self._reads = ThreadPoolExecutor(1, thread_name_prefix="sqlite-reader")
        self._log_pages, self._has_lost_writes = 0, False
        writer.set_wal_hook(self._note_log_pages)
        self._watchers: set[_Watcher] = set()
        self.written = WrittenTopics(set(), set())
        """Of the jobs of the group being committed."""
        self._thread = threading.Thread(
            target=self._write_groups, name="sqlite-writer", daemon=True
        )
        self._thread.start()

    async def write(self, job: Job[T], *, sync: bool = True) -> T:
        """Run a job in a transaction; return what it returns once that is committed.

        Without `sync` the commit may be lost with the power, though never alone: only with all that
        came after it. ServerUnavailable: it is not known to be committed.
        """
        result: Future[T] = Future()
        try:
            self._jobs.put_nowait(_WriteJob(job, result, sync))
        except queue.Full:
            raise ServerUnavailable(f"{self.path}: {MAX_WAITING_JOBS} writes wait") from None
        return await self._wait(result)

    async def sync(self) -> None:
        """Return once all that was committed before is on the disk."""
        await self.write(_count_check)

    async def read(self, job: Job[T]) -> T:
        """Run a job that only reads, on what is committed at one moment."""
        return await self._wait(self._reads.submit(self._run_read, job))

    @contextmanager
    def watching(
        self, topic: str | None = None, awaited: asyncio.Event | None = None
    ) -> Iterator[asyncio.Event]:
        """Yield an event that is set after each commit, or after those of records of a topic.

        `awaited` is set, too, after those of records that somebody waits for.
        """
        events = asyncio.Event(), awaited or asyncio.Event()
        watcher = _Watcher(asyncio.get_running_loop(), *events, topic)
        self._watchers.add(watcher)
        try:
            yield watcher.changed
        finally:
            self._watchers.discard(watcher)

    async def back_up(self, copy: Path) -> None:
        """Copy all that is committed to a new file; see `back_up`."""
        await asyncio.to_thread(back_up, self.path, copy)

    def close(self) -> None:
        """Finish what waits, and close the file."""
        self._jobs.put(None)
        self._thread.join()
        self._reads.shutdown()
        self._reader.close()
        self._writer.close()

    async def _wait(self, result: Future[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.wrap_future(result)
        except TimeoutError:
            raise ServerUnavailable(f"{self.path}: no answer in {self._timeout:g} s") from None

    def _run_read(self, job: Job[T]) -> T:
        try:
            with self._reader:
                found = job(self._reader)
        except apsw.Error as error:
            raise translated(self.path, error) from error
        return found

    def _write_groups(self) -> None:
        while (job := self._jobs.get()) is not None:
            group, closing = [job], False
            with suppress(queue.Empty):
                while len(group) < MAX_GROUP_JOBS and not closing:
                    if (more := self._jobs.get_nowait()) is None:
                        closing = True
                    else:
                        group.append(more)
            # Who stopped waiting is not served: so a result is set on none but running futures.
            self._write_group(
                [each for each in group if each.result.set_running_or_notify_cancel()]
            )
            self._checkpoint()
            if closing:
                return

    def _note_log_pages(self, _: apsw.Connection, name: str, pages: int) -> int:
        self._log_pages = pages
        return apsw.SQLITE_OK

    def _checkpoint(self) -> None:
        """Move the pages of a long log to their places. SQLite's own checkpoints hide failures."""
        if self._log_pages < CHECKPOINT_PAGES or self._has_lost_writes:
            return
        try:
            self._writer.wal_checkpoint()
        except apsw.Error as error:  # the next one does it
            self._has_lost_writes = isinstance(error, apsw.IOError)

    def _write_group(self, group: list[_WriteJob]) -> None:
        try:
            self._roll_back()
            if self._has_lost_writes:
                rewrite_log(self.path)
                self._has_lost_writes = False
            self.written.clear()
            mode = "FULL" if any(each.is_synced for each in group) else "NORMAL"
            self._writer.execute(f"PRAGMA synchronous = {mode}")
            self._writer.execute("BEGIN IMMEDIATE")
            outcomes = [(each.result, *self._run_write(each.run)) for each in group]
            self._writer.execute("COMMIT")
        except BaseException as error:
            self._has_lost_writes |= isinstance(error, apsw.IOError)
            with suppress(apsw.Error):  # the next group rolls back what this one leaves
                self._roll_back()
            for each in group:
                each.result.set_exception(translated(self.path, error))
            return
        for result, value, failure in outcomes:
            if failure is None:
                result.set_result(value)
            else:
                result.set_exception(failure)
        for watcher in tuple(self._watchers):
            if watcher.topic is None or watcher.topic in self.written.topics:
                watcher.notify(watcher.changed)
            if watcher.topic in self.written.awaited:
                watcher.notify(watcher.awaited)

    def _roll_back(self) -> None:
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")

    def _run_write(self, job: Job[Any]) -> tuple[Any, BaseException | None]:
        """Return what the job returned, or what it raised when its own writes are undone."""
        self._writer.execute("SAVEPOINT job")
        try:
            value = job(self._writer)
        except (apsw.FullError, apsw.IOError, apsw.CorruptError):
            raise  # of the whole group
        except Exception as error:
            self._writer.execute("ROLLBACK TO job; RELEASE job")
            return None, error
        self._writer.execute("RELEASE job")
        return value, None


def _count_check(connection: apsw.Connection) -> None:
    """Write something: a transaction that changes no page is not synced."""
    connection.execute("UPDATE file SET checks = checks + 1")


class _Watcher(NamedTuple):
    loop: asyncio.AbstractEventLoop
    changed: asyncio.Event
    awaited: asyncio.Event
    topic: str | None

    def notify(self, event: asyncio.Event) -> None:
        with suppress(RuntimeError):  # its loop has ended
            self.loop.call_soon_threadsafe(event.set)


class _Opened:
    """A database, and how many have it open in this process."""

    def __init__(self, path: Path, timeout: float) -> None:
        self.users = 0
        self._lock = locked(path)
        self._lock.__enter__()
        try:
            self.database = Database(path, connect(path), timeout)
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise

    def close(self) -> None:
        self.database.close()
        self._lock.__exit__(None, None, None)


_opened: dict[Path, _Opened] = {}
_opening = threading.Lock()


@asynccontextmanager
async def open_database(path: Path, timeout: float) -> AsyncIterator[Database]:
    """Open a file, or share it with those in this process that have it open.

    Misconfigured: another process has it, or it can't be used.
    """
    opened = await asyncio.to_thread(_open, path, timeout)
    try:
        yield opened.database
    finally:
        await asyncio.to_thread(_release, opened)


def shared_database(path: Path) -> Database:
    """Return the database of a file that this process has open, within that opening."""
    with _opening:
        return _opened[path.absolute()].database


def _open(path: Path, timeout: float) -> _Opened:
    path = path.absolute()
    with _opening:
        opened = _opened.get(path) or _Opened(path, timeout)
        _opened[path] = opened
        opened.users += 1
        return opened


def _release(opened: _Opened) -> None:
    with _opening:
        opened.users -= 1
        if not opened.users:
            del _opened[opened.database.path]
            opened.close()


def parse_url(url: str) -> Path:
    """Return the file of `sqlite:///relative/file` or `sqlite:////absolute/file`."""
    scheme, _, path = url.partition("///")
    if scheme != "sqlite:" or not path or path.endswith("/"):
        raise Misconfigured(f"{url!r} names no file: write sqlite:///file")
    return Path(path)
