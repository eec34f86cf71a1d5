"""Inserting several documents: all or none, or each by itself."""

from collections.abc import Sequence
from typing import Any

from pymongo.errors import BulkWriteError, PyMongoError
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from stores.mongo.client import Collection, had
from stores.mongo.errors import DUPLICATE_KEY

ATTEMPTS = 5


def _aborted(error: BaseException) -> bool:
    """The server gave the transaction up, in favour of another one: none of it was done."""
    return isinstance(error, PyMongoError) and error.has_error_label("TransientTransactionError")


@retry(
    retry=retry_if_exception(_aborted),
    stop=stop_after_attempt(ATTEMPTS),
    wait=wait_random_exponential(multiplier=0.02, max=0.5),
    reraise=True,
)
async def insert_all(collection: Collection, documents: Sequence[dict[str, Any]]) -> None:
    """Insert in order, in one transaction where there are several."""
    if len(documents) == 1:
        await collection.insert_one(documents[0])
        return
    client = collection.database.client
    async with await had(client.start_session()) as session:
        transaction = session.start_transaction(
            write_concern=collection.write_concern, read_concern=collection.read_concern
        )
        async with await had(transaction):
            await collection.insert_many(documents, session=session)


async def insert_each(
    collection: Collection, documents: Sequence[dict[str, Any]]
) -> dict[int, dict[str, Any]]:
    """Insert each by itself, in one write; by index, the errors of those whose key is taken."""
    try:
        await collection.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        details = error.details or {}
        errors = details["writeErrors"]
        others = [each for each in errors if each.get("code") != DUPLICATE_KEY]
        if others or details.get("writeConcernErrors"):
            raise BulkWriteError({**details, "writeErrors": others}) from None
        return {each["index"]: each for each in errors}
    return {}
