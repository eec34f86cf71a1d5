"""Inserts several documents: in order, or each independently."""

from collections.abc import Sequence
from typing import Any

from pymongo.errors import AutoReconnect, BulkWriteError, DocumentTooLarge

from eventfleet.stores.mongo.client import Collection
from eventfleet.stores.mongo.errors import has_taken_key


async def insert_in_order(collection: Collection, documents: Sequence[dict[str, Any]]) -> None:
    """Insert up to the first document that is refused.

    By the bare command, since the driver's `insert_many` goes through each document again in
    Python. Documents too large for one command, or caught by a lost connection, go through
    `insert_many` after all: it divides, and repeats by itself. A document that the first try
    inserted then clashes with itself.
    """
    try:
        await _insert(collection, documents)
    except (AutoReconnect, DocumentTooLarge):
        await collection.insert_many(documents, ordered=True)


async def _insert(collection: Collection, documents: Sequence[dict[str, Any]]) -> None:
    command = {
        "insert": collection.name,
        "ordered": True,
        "writeConcern": collection.write_concern.document,
        "documents": documents,
    }
    reply = await collection.database.command(command)
    errors, concern_error = reply.get("writeErrors", []), reply.get("writeConcernError")
    if errors or concern_error:
        concern_errors = [concern_error] if concern_error else []
        raise BulkWriteError({"writeErrors": errors, "writeConcernErrors": concern_errors})


async def insert_each(
    collection: Collection, documents: Sequence[dict[str, Any]]
) -> dict[int, dict[str, Any]]:
    """Insert each independently, in one write; return by index the errors of the stores' own keys
    that are taken."""
    try:
        await collection.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        details = error.details or {}
        errors = details["writeErrors"]
        others = [each for each in errors if not has_taken_key(each)]
        if others or details.get("writeConcernErrors"):
            raise BulkWriteError({**details, "writeErrors": others}) from None
        return {each["index"]: each for each in errors}
    return {}
