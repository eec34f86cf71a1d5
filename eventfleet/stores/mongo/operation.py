"""Runs operations: bounded in time, with errors translated, and long id lists split."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from collections.abc import Collection as Items
from contextlib import contextmanager
from typing import Any, TypeVar

import pymongo

from eventfleet.stores.mongo.client import Collection, full_name, timeout_seconds
from eventfleet.stores.mongo.errors import translate_errors
from eventfleet.stores.server_calls import timed_call
from eventfleet.topics.event import EventRecord

T = TypeVar("T")
R = TypeVar("R")

MAX_QUERY_ITEMS = 100
"""Servers compare every document that they find with every value of an `$in`."""


@contextmanager
def operation(
    name: str, collection: Collection, events: Sequence[EventRecord] = ()
) -> Iterator[None]:
    """Bound everything inside by the client's timeout, and translate its errors.

    It is timed as one call of the operation of this name. `events` are those of a write, in order.
    """
    seconds, where = timeout_seconds(collection), full_name(collection)
    with timed_call("mongodb", name), translate_errors(where, events), pymongo.timeout(seconds):
        yield


def split_items(items: Items[T]) -> Iterator[list[T]]:
    """Split the distinct items into lists short enough for one query each."""
    distinct = list(dict.fromkeys(items))
    for start in range(0, len(distinct), MAX_QUERY_ITEMS):
        yield distinct[start : start + MAX_QUERY_ITEMS]


async def gather_split(
    items: Items[T], query: Callable[[list[T]], Coroutine[Any, Any, R]]
) -> list[R]:
    """Run one query for each part of the items, side by side, and return all results.

    A single part is queried without a task of its own, which would cost more than the split.
    """
    queries = [query(part) for part in split_items(items)]
    return [await queries[0]] if len(queries) == 1 else await asyncio.gather(*queries)
