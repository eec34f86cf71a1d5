"""Opens document stores on a URL, or on a team's own client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from eventfleet.stores.mongo.client import connect, open_collection
from eventfleet.stores.mongo.document_store import MongoDocuments


@asynccontextmanager
async def open_document_store(
    client: Any,
    database: str,
    collection: str,
    event_collection: str,
    *,
    version_field: str,
    partitions: int,
    timeout: float,
) -> AsyncIterator[MongoDocuments]:
    """Yield the store of a collection. A client that is handed in is not closed.

    Misconfigured: the URL can't be used.
    """
    if isinstance(client, str):
        async with connect(client, timeout) as connected:
            yield _store(
                connected, database, collection, event_collection, version_field, partitions
            )
    else:
        yield _store(client, database, collection, event_collection, version_field, partitions)


def _store(
    client: Any,
    database: str,
    collection: str,
    event_collection: str,
    version_field: str,
    partitions: int,
) -> MongoDocuments:
    return MongoDocuments(
        collection,
        open_collection(client, database, collection),
        open_collection(client, database, event_collection),
        open_collection(client, database, "domains"),
        open_collection(client, database, "leases"),
        open_collection(client, database, f"{collection}.dead_letters"),
        version_field,
        partitions,
    )
