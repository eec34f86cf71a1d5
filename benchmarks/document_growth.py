"""`python -m benchmarks.document_growth` measures documents by collection size and by callers.

Times are medians of single calls, both sizes by turns; rates are those of ours beside a bare
transaction of `find_one_and_update` and `insert_one`, by turns.
"""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from statistics import median
from typing import Any
from uuid import uuid4

import click
import msgspec
from pymongo import AsyncMongoClient, MongoClient
from rich.console import Console
from rich.table import Table

from benchmarks.contenders.document_data import User
from benchmarks.servers import provide_servers
from benchmarks.timing import in_turns, seconds_of
from eventfleet.documents import EventSourcedStorage, open_storage
from eventfleet.stores.mongo.client import open_collection
from tests.contract.test_mongo_query_growth import CALLS, LARGE, SMALL, filled

DATABASE = "document_growth"
FEW, MANY = 1_000, 100_000
REPEATS, TURNS, CALLERS = 200, 5, (1, 16, 100)
QUERY_REPEATS = 15
OWN_DOCUMENTS = 4
MOST_GROWTH, LEAST_SHARE = 1.5, 0.6
Storage = EventSourcedStorage[User]


# By size


async def measure_growth(url: str, few: int, many: int) -> Table:
    """Measure reads and creations in a small collection and in a large one."""
    table = Table("call", f"{few:,} documents", f"{many:,}", "ratio", title="by size")
    names = [f"users-{size}-{uuid4().hex[:8]}" for size in (few, many)]
    for name, size in zip(names, (few, many), strict=True):
        await fill(url, name, size)
    options: Any = {"cache_documents": 1}
    async with (
        open_storage(url, DATABASE, names[0], User, **options) as small,
        open_storage(url, DATABASE, names[1], User, **options) as large,
    ):
        for what, call in READS.items():
            calls = (lambda n, c=call: c(small, n), lambda n, c=call: c(large, n))
            add_growth(table, what, *await in_turns(calls, REPEATS))
    return table


READS: dict[str, Callable[[Storage, int], Awaitable[Any]]] = {
    "get": lambda users, n: users.get(f"u{n}"),
    "find by id": lambda users, n: users.find({"_id": f"u{n}"}),
    "upsert a new one": lambda users, n: users.find_one_and_upsert(User(f"new{n}")),
}


async def fill(url: str, name: str, size: int) -> None:
    """Store documents and the events that made them, as one creation has stored them."""
    async with open_storage(url, DATABASE, name, User, watch=False) as users:
        await users.find_one_and_upsert(User("u0"))
        await users.find()
    with MongoClient[dict[str, Any]](url) as client:
        documents, events = client[DATABASE][name], client[DATABASE][f"{name}.events"]
        document, event = documents.find_one() or {}, events.find_one() or {}
        for start in range(1, size, 5_000):
            ids = [f"u{n}" for n in range(start, min(start + 5_000, size))]
            documents.insert_many({**document, "_id": id} for id in ids)
            events.insert_many({**event, "_id": f"{id}\0e", "aggregate_id": id} for id in ids)


async def measure_queries(url: str) -> Table:
    """Measure each query of the stores over few rows and over many."""
    table = Table("query", f"{SMALL:,} rows", f"{LARGE:,}", "ratio", title="every query")
    run = uuid4().hex[:8]
    async with filled(url, f"s{run}", SMALL) as small, filled(url, f"l{run}", LARGE) as large:
        for what, call in CALLS.items():
            calls = (lambda _, c=call: c(small), lambda _, c=call: c(large))
            add_growth(table, what, *await in_turns(calls, QUERY_REPEATS))
    return table


def add_growth(table: Table, what: str, small: float, large: float) -> None:
    ratio = large / small
    mark = "" if ratio <= MOST_GROWTH else f" above {MOST_GROWTH}"
    table.add_row(what, f"{small:.2f} ms", f"{large:.2f} ms", f"{ratio:.2f}{mark}")


# By callers


def visit(user: User) -> None:
    user.visits += 1
    user.city = f"Springfield {user.visits}"


class Bare:
    """What a program without events of its own would write: both collections in a transaction."""

    def __init__(self, client: AsyncMongoClient[Any], name: str) -> None:
        self._client = client
        self._users = open_collection(client, DATABASE, name)
        self._events = open_collection(client, DATABASE, f"{name}.events")

    async def prepare(self, documents: int) -> None:
        await self._events.create_index([("aggregate_id", 1), ("version", 1)], unique=True)
        users = [fields(f"u{number}") for number in range(documents)]
        await self._users.insert_many(users)

    async def edit(self, id: str) -> None:
        change = {"$inc": {"visits": 1, "version": 1}, "$set": {"city": "Springfield 1"}}
        await self._both({"_id": id}, change)

    async def create(self, id: str) -> None:
        await self._both({"_id": id}, {"$setOnInsert": fields(id)})

    async def _both(self, wanted: dict[str, Any], change: dict[str, Any]) -> None:
        concerns = {
            "read_concern": self._users.read_concern,
            "write_concern": self._users.write_concern,
        }
        async with (
            self._client.start_session() as session,
            await session.start_transaction(**concerns),
        ):
            user = await self._users.find_one_and_update(
                wanted, change, upsert=True, return_document=True, session=session
            )
            event = {"aggregate_id": user["_id"], "version": user["version"], "data": user}
            await self._events.insert_one(event, session=session)


def fields(id: str) -> dict[str, Any]:
    return {**msgspec.to_builtins(User(id)), "_id": id, "version": 1}


async def rate(callers: int, calls: int, call: Callable[[int, int], Awaitable[Any]]) -> float:
    """Return the calls a second of so many callers, who share them."""
    numbers = iter(range(calls))

    async def work(caller: int) -> None:
        for number in numbers:
            await call(caller, number)

    return calls / await seconds_of(asyncio.gather(*map(work, range(callers))))


async def measure_callers(url: str, calls: int) -> Table:
    """Measure edits and creations a second, ours and bare ones by turns."""
    table = Table("callers", "what", "eventfleet", "bare transaction", "share", title="by callers")
    for callers in CALLERS:
        ours, bare = await measure_rates(url, callers, calls)
        for what, own, other in zip(("edits/s", "creates/s"), ours, bare, strict=True):
            share = median(own) / median(other)
            mark = "" if share >= LEAST_SHARE else f" below {LEAST_SHARE}"
            rates = f"{median(own):,.0f}", f"{median(other):,.0f}"
            table.add_row(str(callers), what, *rates, f"{share:.2f}{mark}")
    return table


async def measure_rates(url: str, callers: int, calls: int) -> tuple[Any, Any]:
    name, fresh = f"users-{uuid4().hex[:8]}", count()
    ours: tuple[list[float], list[float]] = ([], [])
    bare: tuple[list[float], list[float]] = ([], [])
    async with (
        open_storage(url, DATABASE, name, User) as users,
        AsyncMongoClient[Any](url) as client,
    ):
        other = Bare(client, f"{name}.bare")
        await other.prepare(callers * OWN_DOCUMENTS)
        for number in range(callers * OWN_DOCUMENTS):
            await users.find_one_and_upsert(User(f"u{number}"))
        for _ in range(TURNS):
            turns: list[tuple[list[float], Callable[[int, int], Awaitable[Any]]]] = [
                (ours[0], lambda c, n: users.find_one_and_update(own_id(c, n), visit)),
                (bare[0], lambda c, n: other.edit(own_id(c, n))),
                (ours[1], lambda c, n: users.find_one_and_upsert(User(f"n{next(fresh)}"))),
                (bare[1], lambda c, n: other.create(f"n{next(fresh)}")),
            ]
            for rates, call in turns:
                rates.append(await rate(callers, calls, call))
                await users.find({"_id": "u0"})  # what was left to the background is done
    return ours, bare


def own_id(caller: int, number: int) -> str:
    return f"u{caller * OWN_DOCUMENTS + number % OWN_DOCUMENTS}"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--many", envvar="DOCUMENTS", default=MANY, show_default=True)
@click.option("--calls", envvar="CALLS", default=1_000, show_default=True)
def main(many: int, calls: int) -> None:
    """Measure; DOCUMENTS and CALLS (of each turn) are environment variables too."""
    console = Console(highlight=False)
    with provide_servers() as servers:
        for measured in (
            lambda: measure_growth(servers.mongo_url, FEW, many),
            lambda: measure_callers(servers.mongo_url, calls),
            lambda: measure_queries(servers.mongo_url),
        ):
            console.print(asyncio.run(measured()))


if __name__ == "__main__":
    main()
