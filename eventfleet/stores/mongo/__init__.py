"""The event and snapshot stores on MongoDB."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from eventfleet.stores.contracts import DomainStores, StoresByDomain
from eventfleet.stores.mongo.client import collection, connect
from eventfleet.stores.mongo.events import MongoEvents
from eventfleet.stores.mongo.snapshots import MongoSnapshots

__all__ = ["MongoEvents", "MongoSnapshots", "open_stores"]


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
    """The stores of these domains, over one client. `timeout` in seconds bounds each operation.

    `threads` are for long reads, which would hold up others in the event loop. Nothing connects
    before the first call. Misconfigured when the URL can't be used.
    """
    async with connect(url, timeout, threads=threads) as client:
        shared = collection(client, database, "domains")
        yield {
            domain: DomainStores(
                MongoEvents(domain, collection(client, database, f"{domain}.events"), shared),
                MongoSnapshots(collection(client, database, f"{domain}.snapshots"), snapshots_kept),
            )
            for domain in domains
        }
