"""What the stores make of MongoDB's replies, by stubs of the driver."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest
from pymongo import WriteConcern
from pymongo.errors import BulkWriteError, CursorNotFound, OperationFailure

from eventfleet.stores.contracts import AssignPosition, Snapshot
from eventfleet.stores.errors import Duplicate, Misconfigured, ServerUnavailable
from eventfleet.stores.mongo import resumed_read
from eventfleet.stores.mongo.errors import OperationRefused, translate_errors
from eventfleet.stores.mongo.events import MongoEvents
from eventfleet.stores.mongo.resumed_read import resume_read
from eventfleet.stores.mongo.snapshots import MongoSnapshots
from eventfleet.stores.retry import RetryPolicy
from eventfleet.topics.event import EventRecord
from tests.contract.samples import TIME, at, event, stream

CONCERN = {"code": 64, "errmsg": "waiting for replication timed out"}
FOREIGN = {
    "keyPattern": {"aggregate_id": 1, "type": 1},
    "errmsg": "E11000 duplicate key error collection: test.orders.events index: one_of_each "
    'dup key: { aggregate_id: "a1", type: "placed" }',
}


def taken(index: int, **more: Any) -> dict[str, Any]:
    errmsg = "E11000 duplicate key error collection: test.c index: _id_ dup key"
    return {"index": index, "code": 11000, "keyPattern": {"_id": 1}, "errmsg": errmsg} | more


class Options:
    timeout = 1.0


class Client:
    options = Options()


class Stub:
    """A collection, and its database, whose writes are answered so."""

    name, full_name = "events", "test.events"
    write_concern = WriteConcern("majority", j=True)
    client = Client()

    def __init__(
        self, errors: Sequence[dict[str, Any]], concern: Sequence[dict[str, Any]] = ()
    ) -> None:
        self.errors, self.concern = [*errors], [*concern]
        self.database = self

    async def command(self, command: dict[str, Any]) -> dict[str, Any]:
        concern = {"writeConcernError": self.concern[0]} if self.concern else {}
        return {"ok": 1, "n": 5, "writeErrors": self.errors, **concern}

    async def insert_many(self, documents: Sequence[Any], **options: Any) -> None:
        raise BulkWriteError({"writeErrors": self.errors, "writeConcernErrors": self.concern})

    async def update_one(self, *args: Any, **options: Any) -> None:
        pass

    def find(self, *args: Any) -> "Stub":
        return self

    async def to_list(self, length: None) -> list[Any]:
        return []

    bulk_write = insert_many


def events_on(stub: Any) -> MongoEvents:
    return MongoEvents("orders", stub, stub, stub)


# A reply with both a taken key and a write that no majority has


async def test_of_an_ordered_write_nothing_is_known_where_it_is_not_durable() -> None:
    with pytest.raises(ServerUnavailable, match="replication timed out"):
        await events_on(Stub([taken(5)], [CONCERN])).write(stream("a1", 6))


async def test_of_a_mixed_write_nothing_is_known_where_it_is_not_durable() -> None:
    writes = [*stream("a1", 2), AssignPosition(event("a2", 1), at(2))]
    with pytest.raises(ServerUnavailable, match="replication timed out"):
        await events_on(Stub([taken(1)], [CONCERN])).write(writes)


async def test_of_independent_writes_nothing_is_known_where_they_are_not_durable() -> None:
    with pytest.raises(ServerUnavailable, match="replication timed out"):
        await events_on(Stub([taken(0)], [CONCERN])).put_each([(event("a1", 1), 0)])


async def test_snapshots_that_exist_are_not_saved_while_others_are_not_durable() -> None:
    stub: Any = Stub([taken(0)], [CONCERN])
    with pytest.raises(ServerUnavailable, match="replication timed out"):
        await MongoSnapshots(stub, 3).save([Snapshot("a1", 1, {}, 1, TIME, "f")])


async def test_snapshots_that_exist_do_not_hide_that_others_are_refused() -> None:
    full = {"index": 1, "code": 14031, "errmsg": "no space left"}
    stub: Any = Stub([taken(0), full])
    with pytest.raises(ServerUnavailable, match="no space left"):
        await MongoSnapshots(stub, 3).save([Snapshot("a1", 1, {}, 1, TIME, "f")])


async def test_a_write_concern_error_of_any_code_leaves_the_writes_unknown() -> None:
    unknown = {"code": 4242, "errmsg": "something about replication"}
    with pytest.raises(ServerUnavailable, match="something about replication"):
        await events_on(Stub([taken(5)], [unknown])).write(stream("a1", 6))


@pytest.mark.parametrize("named", [["errmsg", "keyPattern"], ["errmsg"]])
async def test_a_taken_key_alone_names_the_write(named: list[str]) -> None:
    error = {name: value for name, value in taken(5).items() if name in ("index", "code", *named)}
    with pytest.raises(Duplicate) as caught:
        await events_on(Stub([error])).write(stream("a1", 6))
    assert (caught.value.index, caught.value.version, caught.value.key) == (5, 6, "event id")


# An operator's own unique index

WRITES: dict[str, Any] = {
    "insert": lambda events: events.write(stream("a1", 1)),
    "mixed": lambda events: events.write([AssignPosition(event("a1", 1), at(0))]),
    "put each": lambda events: events.put_each([(event("a1", 1), 0)]),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_an_index_of_an_operators_own_is_named(write: Any) -> None:
    with pytest.raises(Misconfigured, match=r"one_of_each.*aggregate_id, type.*drop it") as caught:
        await write(events_on(Stub([taken(0, **FOREIGN)])))
    assert caught.value.__suppress_context__


async def test_an_index_of_an_operators_own_on_snapshots_is_named() -> None:
    stub: Any = Stub([taken(0), taken(1, **FOREIGN)])
    with pytest.raises(Misconfigured, match="one_of_each"):
        await MongoSnapshots(stub, 3).save([Snapshot("a1", 1, {}, 1, TIME, "f")])


# Errors that pass


@pytest.mark.parametrize("code", [43, 175, 211, 237])
def test_a_lost_cursor_or_plan_or_key_is_unavailable(code: int) -> None:
    kind = CursorNotFound if code == 43 else OperationFailure
    with pytest.raises(ServerUnavailable), translate_errors("test.events"):
        raise kind("the server restarted", code)


# Reads that are resumed


class Reads:
    """Reads of an aggregate, each of which fails after so many events; the last one does not."""

    def __init__(self, *failing_after: int) -> None:
        self.failing_after = [*failing_after]
        self.calls: list[tuple[int, int | None]] = []

    async def __call__(self, after: int, limit: int | None) -> AsyncGenerator[EventRecord, None]:
        self.calls.append((after, limit))
        fails = self.failing_after.pop(0) if self.failing_after else None
        left = [e for e in stream("a1", 9) if e.version > after][:limit]
        for count, each in enumerate(left):
            if count == fails:
                raise ServerUnavailable("cursor id 7 not found")
            yield each


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumed_read, "RESUMED_READ", RetryPolicy(0, 0, attempts=20))


@pytest.mark.usefixtures("no_pause")
async def test_a_read_goes_on_from_the_last_version() -> None:
    reads = Reads(3, 2)
    versions = [event.version async for event in resume_read(reads, 1, 7)]
    assert versions == [2, 3, 4, 5, 6, 7, 8]
    assert reads.calls == [(1, 7), (4, 4), (6, 2)]


@pytest.mark.usefixtures("no_pause")
async def test_a_read_that_comes_no_further_is_unavailable() -> None:
    reads = Reads(3, 0)
    with pytest.raises(ServerUnavailable, match="cursor id 7"):
        assert not [each async for each in resume_read(reads, 0, None)]
    assert reads.calls == [(0, None), (3, None)]


@pytest.mark.usefixtures("no_pause")
async def test_a_read_is_resumed_a_bounded_number_of_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resumed_read, "RESUMED_READ", RetryPolicy(0, 0, attempts=3))
    reads = Reads(*[1] * 9)
    with pytest.raises(ServerUnavailable):
        assert not [each async for each in resume_read(reads, 0, None)]
    assert len(reads.calls) == 3


async def test_the_store_resumes_its_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Reads(3)
    store = events_on(Stub([]))
    monkeypatch.setattr(store, "_read", lambda *of: reads(*of[-2:]))
    assert [each.version async for each in store.read("a1", limit=5)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "code", [6, 7, 89, 91, 112, 189, 9001, 10107, 11600, 11602, 13388, 13435, 13436, 14031]
)
def test_codes_of_what_passes_by_itself(code: int) -> None:
    """Also of what no fail point can answer with, such as a moved chunk (13388)."""
    passes = pytest.raises(ServerUnavailable, match=r"test\.events: it passes")
    with passes, translate_errors("test.events"):
        raise OperationFailure("it passes", code)


@pytest.mark.parametrize("code", [2, 9, 121, 17280])
def test_codes_of_what_stays(code: int) -> None:
    with pytest.raises(OperationRefused), translate_errors("test.events"):
        raise OperationFailure("it stays", code)
