"""Database: one file, written by one thread and read by others."""

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

import apsw

from eventfleet.stores.errors import Misconfigured, ServerUnavailable
from eventfleet.stores.leases import Leases
from eventfleet.stores.sqlite.backup import back_up
from eventfleet.stores.sqlite.calls import Action, Call, Calls, Job, run_soon
from eventfleet.stores.sqlite.database_file import connect, connect_reader, locked, rewrite_log
from eventfleet.stores.sqlite.errors import translated

T = TypeVar("T")

MAX_GROUP_JOBS = 200
MAX_WAITING_JOBS = 10_000
DEFERRED_SECONDS = 0.02
CHECKPOINT_PAGES = 1_000
"""The length of the log from which on its pages are moved to their places."""


class WrittenTopics(NamedTuple):
    """The topics that records were written to, and those with records that somebody waits for."""

    topics: set[str]
    awaited: set[str]

    def clear(self) -> None:
        self.topics.clear()
        self.awaited.clear()


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
        self._writer, self._readers = writer, [connect_reader(path) for _ in range(2)]
        self._calls: list[Calls] = [SimpleQueue() for _ in range(3)]
        self._writes, self._reads, self._searches = self._calls
        self._log_pages, self._has_lost_writes = 0, False
        self._is_synced: bool | None = None
        writer.set_wal_hook(self._note_log_pages)
        self._watchers: defaultdict[str | None, set[_Watcher]] = defaultdict(set)
        self.written = WrittenTopics(set(), set())
        """Of the jobs of the group being committed."""
        self._deferring: list[Job[object]] = []  # by the jobs of the group being committed
        self._deferred: list[Job[object]] = []
        self._due = 0.0
        readers = zip(self._readers, self._calls[1:], strict=True)
        loops: list[Action] = [self._write_groups, *(partial(self._run_reads, *r) for r in readers)]
        self._threads = [
            threading.Thread(target=each, name="sqlite", daemon=True) for each in loops
        ]
        for thread in self._threads:
            thread.start()

    async def write(self, job: Job[T], *, sync: bool = True) -> T:
        """Run a job in a transaction; return what it returns once that is committed.

        Without `sync` the commit may be lost with the power, though never alone: only with all that
        came after it. ServerUnavailable: it is not known to be committed.
        """
        return await self._call(job, self._writes, sync)

    def defer(self, job: Job[object]) -> None:
        """Within a job: run another in a later transaction, if this one is committed.

        That is synced, too, and begins within DEFERRED_SECONDS, unless the process ends before.
        """
        self._deferring.append(job)

    def run_deferred(self) -> None:
        """Within a job: run now what was deferred, even if that is not due yet."""
        jobs = [*self._deferred, *self._deferring]
        self._deferred, self._deferring = [], []
        for job in jobs:
            job(self._writer)

    async def sync(self) -> None:
        """Return once all that was committed before is on the disk."""
        await self.write(_count_check)

    async def read(self, job: Job[T]) -> T:
        """Run a job that only reads, on what is committed at one moment."""
        return await self._call(job, self._reads)

    async def search(self, job: Job[T]) -> T:
        """Run a job that reads for long, perhaps: it holds up other searches alone."""
        return await self._call(job, self._searches)

    async def rows(self, statement: str, *values: Any) -> list[Any]:
        """Return what a statement selects."""
        return await self.read(lambda connection: connection.execute(statement, values).fetchall())

    async def run_each(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
        """Run a statement with each of these values; return how many rows it changed."""

        def run(connection: apsw.Connection) -> int:
            before = connection.total_changes()
            connection.executemany(statement, rows)
            return connection.total_changes() - before

        return await self.write(run)

    @contextmanager
    def watching(
        self, topic: str | None = None, awaited: asyncio.Event | None = None
    ) -> Iterator[asyncio.Event]:
        """Yield an event that is set after each commit, or after those of records of a topic.

        `awaited` is set, too, after those of records that somebody waits for.
        """
        events = asyncio.Event(), awaited or asyncio.Event()
        watcher = _Watcher(asyncio.get_running_loop(), *events)
        self._watchers[topic].add(watcher)
        try:
            yield watcher.changed
        finally:
            self._watchers[topic].discard(watcher)

    async def back_up(self, copy: Path) -> int:
        """Copy all that is committed to a new file; see `back_up`."""
        return await asyncio.to_thread(back_up, self.path, copy)

    def close(self) -> None:
        """Finish what waits, and close the file."""
        for calls in self._calls:
            calls.put(None)
        for thread in self._threads:
            thread.join()
        for connection in (*self._readers, self._writer):
            connection.close()

    async def _call(self, job: Job[T], calls: Calls, is_synced: bool = False) -> T:
        if calls.qsize() >= MAX_WAITING_JOBS:
            raise ServerUnavailable(f"{self.path}: {MAX_WAITING_JOBS} calls wait")
        loop = asyncio.get_running_loop()
        call = Call(job, is_synced, loop, loop.create_future())
        calls.put(call)
        limit = loop.call_later(self._timeout, self._end_late, call)
        try:
            return await call.result  # type: ignore[no-any-return]
        finally:
            limit.cancel()

    def _end_late(self, call: Call) -> None:
        call.end(None, ServerUnavailable(f"{self.path}: no answer in {self._timeout:g} s"))

    def _run_reads(self, reader: apsw.Connection, calls: Calls) -> None:
        while (call := calls.get()) is not None:
            run_soon(call.loop, [partial(call.end, *self._run_read(reader, call.run))])

    def _run_read(self, reader: apsw.Connection, job: Job[Any]) -> tuple[Any, BaseException | None]:
        try:
            with reader:
                value = job(reader)
        except BaseException as error:
            return None, translated(self.path, error)
        return value, None

    def _write_groups(self) -> None:
        while (group := self._next_group()) or self._deferred:
            # Who stopped waiting is not served.
            self._write_group([each for each in group if not each.result.done()])
            self._checkpoint()

    def _next_group(self) -> list[Call]:
        """Return what waits to be written, once something does; nothing: the file is closed, or
        what is deferred is due."""
        group: list[Call] = []
        left = max(self._due - time.monotonic(), 0) if self._deferred else None
        with suppress(Empty):
            while (call := self._writes.get(timeout=left)) is not None:
                group.append(call)
                if self._writes.empty() or len(group) == MAX_GROUP_JOBS:
                    return group
            self._writes.put(None)
            self._due = 0
        return group

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

    def _write_group(self, group: list[Call]) -> None:
        try:
            self._roll_back()
            if self._has_lost_writes:
                rewrite_log(self.path)
                self._has_lost_writes = False
            self.written.clear()
            self._deferring.clear()
            due = bool(self._deferred) and self._due <= time.monotonic()
            self._set_synced(due or any(each.is_synced for each in group))
            self._writer.execute("BEGIN IMMEDIATE")
            if due:
                self.run_deferred()
            outcomes = [(each, *self._run_write(each.run, due or len(group) > 1)) for each in group]
            if self._writer.in_transaction:
                self._writer.execute("COMMIT")
            if self._deferring and not self._deferred:
                self._due = time.monotonic() + DEFERRED_SECONDS
            self._deferred += self._deferring
        except BaseException as error:
            self._has_lost_writes |= isinstance(error, apsw.IOError)
            self._deferred.clear()  # else what fails would be tried without a pause
            with suppress(apsw.Error):  # the next group rolls back what this one leaves
                self._roll_back()
            self._tell([(each, None, translated(self.path, error)) for each in group], ())
        else:
            self._tell(outcomes, (None, *self.written.topics))

    def _tell(
        self,
        outcomes: Iterable[tuple[Call, Any, BaseException | None]],
        topics: Iterable[str | None],
    ) -> None:
        actions: dict[asyncio.AbstractEventLoop, list[Action]] = defaultdict(list)
        for call, value, error in outcomes:
            actions[call.loop].append(partial(call.end, value, error))
        for topic in topics:
            for watcher in tuple(self._watchers.get(topic, ())):
                actions[watcher.loop].append(watcher.changed.set)
                if topic in self.written.awaited:
                    actions[watcher.loop].append(watcher.awaited.set)
        for loop, own in actions.items():
            run_soon(loop, own)

    def _set_synced(self, is_synced: bool) -> None:
        if is_synced is not self._is_synced:
            self._writer.execute(f"PRAGMA synchronous = {'FULL' if is_synced else 'NORMAL'}")
            self._is_synced = is_synced

    def _roll_back(self) -> None:
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")

    def _run_write(self, job: Job[Any], is_shared: bool) -> tuple[Any, BaseException | None]:
        """Return what the job returned, or what it raised when its own writes alone are undone."""
        if is_shared:
            self._writer.execute("SAVEPOINT job")
        try:
            value = job(self._writer)
        except (apsw.FullError, apsw.IOError, apsw.CorruptError):
            raise  # of the whole group
        except Exception as error:
            self._writer.execute("ROLLBACK TO job; RELEASE job" if is_shared else "ROLLBACK")
            return None, error
        if is_shared:
            self._writer.execute("RELEASE job")
        return value, None


def _count_check(connection: apsw.Connection) -> None:
    """Write something: a transaction that changes no page is not synced."""
    connection.execute("UPDATE file SET checks = checks + 1")


class _Watcher(NamedTuple):
    loop: asyncio.AbstractEventLoop
    changed: asyncio.Event
    awaited: asyncio.Event


class _Opened:
    """A database, and how many have it open in this process."""

    def __init__(self, path: Path, timeout: float) -> None:
        self.users = 0
        with ExitStack() as stack:
            stack.enter_context(locked(path))
            self.database = Database(path, connect(path), timeout)
            stack.callback(self.database.close)
            self.close = stack.pop_all().close


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
