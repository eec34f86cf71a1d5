"""The stores on MongoDB."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from eventfleet.stores.contracts import DomainStores, StoresByDomain
from eventfleet.stores.mongo.client import connect, open_collection
from eventfleet.stores.mongo.dead_letters import MongoDeadLetters
from eventfleet.stores.mongo.events import MongoEvents
from eventfleet.stores.mongo.snapshots import MongoSnapshots
from eventfleet.stores.mongo.views import MongoViews

__all__ = ["MongoDeadLetters", "MongoEvents", "MongoSnapshots", "MongoViews", "open_stores"]


@asynccontextmanager
async def open_stores(
    url: str,
    database: str,
    domains: Iterable[str],
    *,
    timeout: float,
    snapshots_kept: int,
    threads: bool = False,
) -> AsyncIterator[StoresByDomain]:
    """Yield the stores of these domains, over one client. `timeout` in seconds bounds each call.

    `threads` are for long reads, which would otherwise hold up the event loop. The client connects
    at its first call. Misconfigured: the URL can't be used.
    """
    async with connect(url, timeout, threads=threads) as client:
        metadata = open_collection(client, database, "domains")
        leases = open_collection(client, database, "leases")
        yield {
            domain: DomainStores(
                MongoEvents(
                    domain, open_collection(client, database, f"{domain}.events"), metadata, leases
                ),
                MongoSnapshots(
                    open_collection(client, database, f"{domain}.snapshots"), snapshots_kept
                ),
                MongoViews(domain, metadata),
                MongoDeadLetters(open_collection(client, database, f"{domain}.dead_letters")),
            )
            for domain in domains
        }
