"""Contracts of clock, ids and parked aggregates; the stores of a domain."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple, Protocol

from eventfleet.stores.contracts.dead_letters import DeadLetterStore
from eventfleet.stores.contracts.events import EventStore
from eventfleet.stores.contracts.snapshots import SnapshotStore
from eventfleet.stores.contracts.views import ViewStore


class Clock(Protocol):
    """Wall time, steady time and waiting."""

    def now(self) -> datetime:
        """Return the time in UTC, in whole milliseconds."""

    def steady(self) -> datetime:
        """Return a time that nobody sets: for deadlines and intervals, within one process."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class IdGenerator(Protocol):
    """Generates ids."""

    def new(self) -> str:
        """Return a fresh id; later ids sort after earlier ones (UUIDv7)."""


class DomainStores(NamedTuple):
    """The stores of a domain; `views` and `dead_letters` are None where nobody asked for them."""

    events: EventStore
    snapshots: SnapshotStore
    views: ViewStore | None = None
    dead_letters: DeadLetterStore | None = None


StoresByDomain = Mapping[str, DomainStores]
