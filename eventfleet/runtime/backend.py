"""Backend: what the settings name to keep a fleet's log, stores, markers, notices and channels."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

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


class ServerNames(NamedTuple):
    """How messages call what keeps the log, the stores and the markers."""

    log: str
    stores: str
    markers: str


class ServerCheck(NamedTuple):
    """A check that a server answers, and whether it is needed. Unreachable: it does not."""

    name: str
    address: str
    run: Callable[[], Awaitable[None]]
    needed: bool = True


class Backend(Protocol):
    """The servers, or the file, of one fleet.

    What is made connects at its first call. It is used, and closed, within `opened`.
    """

    names: ServerNames

    def __init__(self, settings: Settings) -> None: ...

    def opened(self) -> AbstractAsyncContextManager[None]:
        """Hold what is shared by all that is made. Misconfigured: it can't be had."""

    def checks(self, *, markers: bool) -> Sequence[ServerCheck]:
        """Return the checks of all servers; `markers`: whether those of markers are needed."""

    async def check_log(self) -> None:
        """Raise Unreachable or ServerRefused where the log does not answer within seconds."""

    async def check_stores(self) -> None:
        """Raise Unreachable or ServerRefused where the stores do not answer within seconds."""

    async def check_markers(self) -> None:
        """Raise Unreachable where the markers do not answer; Misconfigured: they may be lost."""

    def admin(self) -> LogAdmin: ...

    def reader(self) -> LogReader: ...

    def writer(self, timeout: float | None = None) -> LogWriter:
        """`timeout` in seconds bounds each call, where the settings allow more."""

    def partition_writer(self, group: str, topic: str, partition: int) -> PartitionWriter:
        """Make the writer of a group that has no members."""

    def follower(self, wait_seconds: float) -> LogFollower:
        """Records may wait `wait_seconds` for others, to be fetched together."""

    def stores(
        self, domains: Iterable[str], *, long_reads: bool
    ) -> AbstractAsyncContextManager[StoresByDomain]: ...

    def publishing_events(self, domain: str, topic: str) -> EventStore | None:
        """Return a store that produces what is put, with it or behind it; None: none can."""

    def markers(self, domain: str) -> Markers: ...

    def notices(self) -> Notices: ...

    def channels(self) -> Channels: ...
