"""What surrounds an operation: its time bound, its errors translated, long id lists split."""

import asyncio
from collections.abc import Collection as Items
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import pymongo

from eventfleet.stores.mongo.client import Collection, full_name, timeout
from eventfleet.stores.mongo.errors import translate_errors
from eventfleet.topics.event import EventRecord

T = TypeVar("T")

# Servers compare every document found with every value of an `$in`.
IN_ONE_QUERY = 100


@contextmanager
def operation(collection: Collection, events: Sequence[EventRecord] = ()) -> Iterator[None]:
    """Everything inside shares the client's timeout; `events` are those of a write, in order."""
    with translate_errors(full_name(collection), events), pymongo.timeout(timeout(collection)):
        yield


def split(items: Items[T]) -> Iterator[list[T]]:
    """The distinct items, in parts fit for one query each."""
    distinct = list(dict.fromkeys(items))
    for start in range(0, len(distinct), IN_ONE_QUERY):
        yield distinct[start : start + IN_ONE_QUERY]


async def together(parts: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All side by side; a single one without a task of its own."""
    return [await parts[0]] if len(parts) == 1 else await asyncio.gather(*parts)
