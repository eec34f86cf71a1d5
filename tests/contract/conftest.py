"""The stores that the contract suite runs over, and the servers behind them."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from pymongo import MongoClient

from eventfleet.stores.contracts import DeadLetterStore, DomainStores, EventStore, SnapshotStore
from eventfleet.stores.contracts.views import ViewStore
from eventfleet.stores.memory.dead_letters import MemoryDeadLetters
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.stores.memory.views import MemoryViews
from eventfleet.stores.mongo import open_stores
from eventfleet.stores.sqlite import open_stores as open_file_stores
from eventfleet.stores.sqlite.database import open_database
from tests.contract.samples import DOMAIN, KEPT, PARTITIONS

IMPLEMENTATIONS = ("memory", "mongodb", "threads", "sqlite")
OpenStores = Callable[[], AbstractAsyncContextManager[DomainStores]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    module = metafunc.module
    parametrized = [each.args[0] for each in metafunc.definition.iter_markers("parametrize")]
    has_own = hasattr(module, "opening") or "opening" in parametrized
    if "opening" in metafunc.fixturenames and not has_own:
        metafunc.parametrize("opening", IMPLEMENTATIONS, indirect=True)


@pytest.fixture
def opening(request: pytest.FixtureRequest, prefix: str) -> Iterator[OpenStores]:
    """Opens the stores of one domain; what they hold stays until the test ends."""
    if request.param == "memory":
        events = MemoryEvents(PARTITIONS, domain=DOMAIN)
        kept = DomainStores(events, MemorySnapshots(KEPT), MemoryViews(), MemoryDeadLetters())

        @asynccontextmanager
        async def opened() -> AsyncIterator[DomainStores]:
            yield kept

        yield opened
        return
    if request.param == "sqlite":
        path = request.getfixturevalue("tmp_path") / "file"

        @asynccontextmanager
        async def in_file() -> AsyncIterator[DomainStores]:
            async with open_database(path, 30) as database:
                stores = open_file_stores(database, [DOMAIN], snapshots_kept=KEPT)
                yield stores[DOMAIN]

        yield in_file
        return
    url, threads = request.getfixturevalue("mongo_url"), request.param == "threads"
    more: Any = {"timeout": 30, "snapshots_kept": KEPT, "threads": threads}

    @asynccontextmanager
    async def connected() -> AsyncIterator[DomainStores]:
        async with open_stores(url, prefix, [DOMAIN], **more) as stores:
            yield stores[DOMAIN]

    yield connected
    with MongoClient(url) as client:
        client.drop_database(prefix)


@pytest.fixture
async def store(opening: OpenStores) -> AsyncIterator[EventStore]:
    async with opening() as stores:
        await stores.events.prepare()
        yield stores.events


@pytest.fixture
async def snapshots(opening: OpenStores) -> AsyncIterator[SnapshotStore]:
    async with opening() as stores:
        await stores.snapshots.prepare()
        yield stores.snapshots


@pytest.fixture
async def views(opening: OpenStores) -> AsyncIterator[ViewStore]:
    async with opening() as stores:
        assert stores.views is not None
        yield stores.views


@pytest.fixture
async def dead_letters(opening: OpenStores) -> AsyncIterator[DeadLetterStore]:
    async with opening() as stores:
        assert stores.dead_letters is not None
        await stores.dead_letters.prepare()
        yield stores.dead_letters
