"""Puts of several events whose process dies, or stands still, between insert and commit."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from eventfleet.stores.contracts import EventStore
from eventfleet.stores.errors import Duplicate
from eventfleet.stores.mongo import open_stores, put_transactions
from tests.contract.samples import DOMAIN, event, ids

PROMISED_SECONDS = 10
"""An account whose put was killed is free again, and no neighbour has waited, within this time."""
READY_SECONDS = 60


@pytest.fixture
def url(mongo_url: str) -> str:
    return mongo_url


@pytest.fixture
async def events(url: str, prefix: str) -> AsyncIterator[EventStore]:
    """With one event of the account that is to be blocked."""
    async with open_stores(
        url, prefix, [DOMAIN], timeout=READY_SECONDS, snapshots_kept=1
    ) as stores:
        store = stores[DOMAIN].events
        await store.prepare()
        await store.put([event("account", 1)], 0)
        yield store


@asynccontextmanager
async def half_done_put(url: str, database: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that has inserted versions 2 and 3 of the account, and not committed them."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.contract.half_done_put", url, database, "account"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert await _line(process) == "inserted"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout
    async with asyncio.timeout(READY_SECONDS):
        return (await process.stdout.readline()).decode().strip()


async def test_neighbours_of_a_killed_put_and_then_its_account_are_answered(
    url: str, prefix: str, events: EventStore
) -> None:
    async with half_done_put(url, prefix) as process:
        process.kill()
        await process.wait()
        async with asyncio.timeout(PROMISED_SECONDS):
            beside = [(event("neighbour", 1), 0), (event("account", 2, id="next"), 0)]
            assert await events.put_each(beside) == [None, None]
            await events.put([event("account", 3), event("account", 4)], 0)
    assert await ids(events.read("account")) == ["account-1", "next", "account-3", "account-4"]


async def test_several_events_are_put_where_a_killed_put_has_left_its_own(
    url: str, prefix: str, events: EventStore
) -> None:
    async with half_done_put(url, prefix) as process:
        process.kill()
        await process.wait()
        async with asyncio.timeout(PROMISED_SECONDS):
            await events.put([event("account", 2, id="next"), event("account", 3, id="last")], 0)
    assert await ids(events.read("account")) == ["account-1", "next", "last"]


async def test_a_put_that_stood_still_stores_nothing_where_another_was_stored(
    url: str, prefix: str, events: EventStore
) -> None:
    async with half_done_put(url, prefix) as process:
        async with asyncio.timeout(PROMISED_SECONDS):
            await events.put([event("account", 2, id="next"), event("account", 3, id="last")], 0)
        assert process.stdin
        process.stdin.write(b"\n")
        assert (await _line(process)).startswith(Duplicate.__name__)
    assert await ids(events.read("account")) == ["account-1", "next", "last"]


async def test_a_put_is_done_after_one_of_a_process_whose_clock_is_ahead(
    events: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(put_transactions, "SLOTS", 1)
    with monkeypatch.context() as ahead:
        ahead.setattr(put_transactions.time, "time", lambda: time.time_ns() / 1e9 + 60)
        await events.put([event("account", 2), event("account", 3)], 0)
    await events.put([event("account", 4), event("account", 5)], 0)
    assert len(await ids(events.read("account"))) == 5


async def test_a_put_that_was_blocked_ends_although_a_call_loses_the_cancellation(
    events: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def lose_a_cancellation(*_: object) -> None:
        monkeypatch.undo()
        begun.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    monkeypatch.setattr(put_transactions, "end_open_transactions", lose_a_cancellation)
    monkeypatch.setattr(put_transactions, "BLOCKED_SECONDS", 0.01)
    collection = events._events  # type: ignore[attr-defined]
    async with asyncio.timeout(PROMISED_SECONDS), put_transactions.unblocking(collection, ["a"]):
        await begun.wait()
