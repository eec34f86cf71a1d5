"""A fleet's file: the log and the stores in it; markers, notices and channels in the process."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from pathlib import Path
from time import time
from uuid import uuid4
from weakref import WeakKeyDictionary

from eventfleet.runtime.backend import ServerCheck, ServerNames
from eventfleet.runtime.settings import Settings
from eventfleet.stores.contracts import (
    Channels,
    EventStore,
    LogAdmin,
    LogFollower,
    LogReader,
    LogWriter,
    Markers,
    Notices,
    PartitionWriter,
    StoresByDomain,
)
from eventfleet.stores.errors import FileInUse
from eventfleet.stores.marker_timeouts import MarkerTimeouts
from eventfleet.stores.memory.channels import MemoryChannels, MemoryNotices
from eventfleet.stores.memory.markers import MemoryMarkers, MemoryRedis
from eventfleet.stores.sqlite import open_stores
from eventfleet.stores.sqlite.database import Database, open_database, shared_database
from eventfleet.stores.sqlite.event_table import EventTable
from eventfleet.stores.sqlite.events import SqliteEvents
from eventfleet.stores.sqlite.log import SqliteProducer, SqliteTransactionalWriter
from eventfleet.stores.sqlite.log_admin import SqliteAdmin
from eventfleet.stores.sqlite.log_reader import SqliteFollower, SqliteReader
from eventfleet.stores.sqlite.notices import SyncedNotices

FILE = "fleet.sqlite"
"""The file in the folder of a fleet's data."""
TIMEOUT_SECONDS = 10.0


class InProcessServers:
    """The markers, notices and channels of the one process that has the file open.

    They end with it: each start is another incarnation of them.
    """

    def __init__(self) -> None:
        self.markers = MemoryRedis(time, name=uuid4().hex)
        self.notices = MemoryNotices()
        self.channels = MemoryChannels(name=uuid4().hex)


_in_process: WeakKeyDictionary[Database, InProcessServers] = WeakKeyDictionary()


class FileBackend:
    """A file in the folder that the settings name."""

    names = ServerNames("the file", "the file", "the file")

    def __init__(self, settings: Settings) -> None:
        self._settings, self._path = settings, data_file(settings)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        async with open_database(self._path, TIMEOUT_SECONDS):
            yield

    @property
    def database(self) -> Database:
        return shared_database(self._path)

    # Checks

    def checks(self, *, markers: bool) -> Sequence[ServerCheck]:
        return [ServerCheck("file", str(self._path), self._check)]

    async def _check(self) -> None:
        """It can be opened, or a fleet has it."""
        with suppress(FileInUse):
            async with self.opened():
                pass

    async def check_log(self) -> None:
        """Check nothing: the file is open, and the markers are in this process."""

    check_stores = check_markers = check_log

    # The log

    def admin(self) -> LogAdmin:
        return SqliteAdmin(self.database)

    def reader(self) -> LogReader:
        return SqliteReader(self.database)

    def writer(self, timeout: float | None = None) -> LogWriter:
        return SqliteProducer(self.database)

    def partition_writer(self, group: str, topic: str, partition: int) -> PartitionWriter:
        return SqliteTransactionalWriter(self.database, group, topic, partition)

    def follower(self, wait_seconds: float) -> LogFollower:
        return SqliteFollower(self.database)

    # The stores

    def stores(
        self, domains: Iterable[str], *, long_reads: bool
    ) -> AbstractAsyncContextManager[StoresByDomain]:
        kept = self._settings.snapshots_kept
        return nullcontext(open_stores(self.database, domains, snapshots_kept=kept))

    def publishing_events(self, domain: str, topic: str) -> EventStore:
        return SqliteEvents(self.database, EventTable(domain), topic)

    # Markers, notices and channels

    def markers(self, domain: str) -> Markers:
        settings = self._settings
        terms = MarkerTimeouts(settings.marker_expiry, settings.marker_lease, settings.id_memory)
        return MemoryMarkers(self._servers.markers, domain, terms)

    def notices(self) -> Notices:
        return SyncedNotices(self.database, self._servers.notices)

    def channels(self) -> Channels:
        return self._servers.channels

    @property
    def _servers(self) -> InProcessServers:
        database = self.database
        if database not in _in_process:
            _in_process[database] = InProcessServers()
        return _in_process[database]


def data_file(settings: Settings) -> Path:
    """The file of the fleet whose data the settings name."""
    return Path(settings.data, FILE)
