"""The stores, and the log, in one file of SQLite."""

from collections.abc import Iterable

from eventfleet.stores.contracts import DomainStores, StoresByDomain
from eventfleet.stores.sqlite.database import Database
from eventfleet.stores.sqlite.dead_letters import SqliteDeadLetters
from eventfleet.stores.sqlite.event_table import EventTable
from eventfleet.stores.sqlite.events import SqliteEvents
from eventfleet.stores.sqlite.snapshots import SqliteSnapshots
from eventfleet.stores.sqlite.views import SqliteViews

__all__ = ["open_stores"]


def open_stores(
    database: Database, domains: Iterable[str], *, snapshots_kept: int
) -> StoresByDomain:
    """Return the stores of these domains, by name."""
    return {
        domain: DomainStores(
            SqliteEvents(database, EventTable(domain)),
            SqliteSnapshots(database, domain, snapshots_kept),
            SqliteViews(database, domain),
            SqliteDeadLetters(database, domain),
        )
        for domain in domains
    }
