"""What the stores say when MongoDB fails: by its own fail points, stopped, killed, locked."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from eventfleet.model.shapes import StateShape
from eventfleet.model.views import ViewShape
from eventfleet.stores.contracts import (
    AssignPosition,
    DomainStores,
    OffsetRange,
    RegistryFacts,
    Snapshot,
    TailQuery,
    VersionRange,
)
from eventfleet.stores.contracts.views import (
    BuildProgress,
    RowQuery,
    RowStore,
    StoredRow,
    ViewStore,
)
from eventfleet.stores.cursors import FeedPoint
from eventfleet.stores.errors import (
    AccessRefused,
    Duplicate,
    Misconfigured,
    ServerUnavailable,
)
from eventfleet.stores.mongo import open_stores
from eventfleet.stores.mongo.errors import OperationRefused
from tests.conftest import running
from tests.contract.document_openings import eventually
from tests.contract.failing_mongodb import COMMANDS, HASTY, PATIENT, SLACK, failing, refused
from tests.contract.failing_mongodb import server as server
from tests.contract.samples import DOMAIN, KEPT, TIME, at, event, ids, key, stream
from tests.servers.mongodb import MongoDB
from tests.servers.server import free_port

SHAPE = StateShape(1, "one")


@asynccontextmanager
async def opened(url: str, database: str, timeout: float = HASTY) -> AsyncIterator[DomainStores]:
    async with open_stores(url, database, [DOMAIN], timeout=timeout, snapshots_kept=KEPT) as stores:
        yield stores[DOMAIN]


@pytest.fixture
async def stores(server: MongoDB, prefix: str) -> AsyncIterator[DomainStores]:
    """With a few events; they wait long for the server."""
    async with opened(server.url, prefix, PATIENT) as stores:
        await stores.events.prepare()
        await stores.snapshots.prepare()
        await stores.events.write(stream("a1", 3))
        await stores.events.put([event("s1", 1)], 0)
        yield stores


@pytest.fixture
async def hasty(server: MongoDB, prefix: str, stores: DomainStores) -> AsyncIterator[DomainStores]:
    """The same stores for one who does not wait long."""
    async with opened(server.url, prefix) as stores:
        yield stores


async def drained(stores: DomainStores) -> list[str]:
    return await ids(stores.events.read("a1"))


NOTHING = BuildProgress()
ROW = StoredRow("a", {"n": 1}, FeedPoint(0, 0, 1, 1), TIME)


def views_of(stores: DomainStores) -> ViewStore:
    assert stores.views is not None
    return stores.views


def rows_of(stores: DomainStores) -> RowStore:
    return views_of(stores).rows("items", "items", 1)


OPERATIONS: dict[str, Callable[[DomainStores], Awaitable[Any]]] = {
    "prepare": lambda s: s.events.prepare(),
    "insert": lambda s: s.events.write([event("b1", 1, at(90))]),
    "place": lambda s: s.events.write([AssignPosition(event("s1", 1), at(91))]),
    "put one": lambda s: s.events.put([event("s2", 1)], 0),
    "put several": lambda s: s.events.put([event("s3", 1), event("s3", 2)], 0),
    "put each": lambda s: s.events.put_each([(event("s4", 1), 0), (event("s5", 1), 0)]),
    "find": lambda s: s.events.find([key("a1", 1)]),
    "tails": lambda s: s.events.tails([TailQuery("a1", 0, "a1-1")], 9),
    "heads": lambda s: s.events.heads(["a1"]),
    "unplaced": lambda s: s.events.unplaced([VersionRange("s1", 0, 9)]),
    "placed_at": lambda s: s.events.placed_at([at(0)]),
    "sweep": lambda s: s.events.sweep(0, 9),
    "read": drained,
    "feed": lambda s: s.events.feed("", 9),
    "aggregates": lambda s: s.events.aggregates("", 9),
    "count": lambda s: s.events.count(),
    "epoch": lambda s: s.events.registry.epoch(),
    "incarnation": lambda s: s.events.registry.incarnation(),
    "raise_epoch": lambda s: s.events.registry.raise_epoch(),
    "partition_counts": lambda s: s.events.registry.partition_counts(),
    "next_offset": lambda s: s.events.registry.next_offset(0),
    "note_next_offset": lambda s: s.events.registry.note_next_offset(0, 0, 1),
    "rewind": lambda s: s.events.registry.rewind([OffsetRange(0, 0, 1)], TIME),
    "record_restore": lambda s: s.events.registry.record_restore([OffsetRange(0, 0, 1)], TIME),
    "has_begun": lambda s: s.events.registry.has_begun("relay", 0),
    "note_begun": lambda s: s.events.registry.note_begun("relay", 0),
    "owner": lambda s: s.events.registry.owner("command", 0),
    "note_owner": lambda s: s.events.registry.note_owner("command", 0, "me"),
    "repairs": lambda s: s.events.registry.repairs(),
    "last_note": lambda s: s.events.registry.last_note(0),
    "facts": lambda s: s.events.registry.facts(),
    "recover": lambda s: s.events.registry.recover(RegistryFacts(1)),
    "newest_epoch": lambda s: s.events.newest_epoch(),
    "last_placed": lambda s: s.events.last_placed(0),
    "prepare snapshots": lambda s: s.snapshots.prepare(),
    "save": lambda s: s.snapshots.save([Snapshot("a1", 1, {}, 1, TIME)]),
    "latest": lambda s: s.snapshots.latest(["a1"], SHAPE),
    "at": lambda s: s.snapshots.at("a1", 1, SHAPE),
    "count snapshots": lambda s: s.snapshots.count(),
    "placed": lambda s: s.events.placed(FeedPoint.start(0), 9),
    "builds": lambda s: views_of(s).builds(),
    "begin": lambda s: views_of(s).begin("items", ["items"], ViewShape(1, "one"), 0),
    "note_progress": lambda s: views_of(s).note_progress("items", 1, 0, NOTHING, NOTHING),
    "make_live": lambda s: views_of(s).make_live("items", 1, 1),
    "prepare rows": lambda s: rows_of(s).prepare([["n"]]),
    "load rows": lambda s: rows_of(s).load(["a"]),
    "save rows": lambda s: rows_of(s).save([ROW]),
    "find rows": lambda s: rows_of(s).find(RowQuery(), 9),
    "purge rows": lambda s: rows_of(s).purge(FeedPoint(0, 0, 9, 9), TIME),
}
PASSING_CODES = {
    "a shutdown": 91,
    "interrupted at a shutdown": 11600,
    "a primary that steps down": 189,
    "no primary to read from": 13435,
    "a lost cursor": 43,
    "too slow": 262,
    "a full disk": 14031,
}
"""The codes that mongod has for them."""
WRITES = {name: OPERATIONS[name] for name in ("insert", "put one", "put several", "save")}
ROW_WRITES = {name: OPERATIONS[name] for name in ("save rows", "begin", "note_progress")}


# Every operation


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
async def test_a_server_that_is_no_primary_is_unavailable(
    server: MongoDB, hasty: DomainStores, operation: Callable[[DomainStores], Awaitable[Any]]
) -> None:
    with failing(server, COMMANDS, errorCode=10107):
        await refused(operation(hasty), ServerUnavailable)


@pytest.mark.parametrize("code", PASSING_CODES.values(), ids=PASSING_CODES)
async def test_what_passes_by_itself_is_unavailable(
    server: MongoDB, stores: DomainStores, hasty: DomainStores, code: int
) -> None:
    operations = ("insert", "put several", "save", "find")
    with failing(server, COMMANDS, errorCode=code):
        for name in operations:
            await refused(OPERATIONS[name](hasty), ServerUnavailable)
    for name in operations:
        await OPERATIONS[name](stores)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
async def test_a_right_that_is_missing_is_for_the_operator(
    server: MongoDB,
    stores: DomainStores,
    prefix: str,
    operation: Callable[[DomainStores], Awaitable[Any]],
) -> None:
    with failing(server, COMMANDS, errorCode=13):
        assert prefix in await refused(operation(stores), AccessRefused)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
async def test_an_absent_server_is_unavailable_in_time(
    operation: Callable[[DomainStores], Awaitable[Any]],
) -> None:
    url = f"mongodb://somebody:secret@127.0.0.1:{free_port()}/?directConnection=true"
    async with opened(url, "absent") as stores:
        started = time.monotonic()
        message = await refused(operation(stores), ServerUnavailable)
    assert time.monotonic() - started < HASTY + SLACK
    assert "127.0.0.1" in message
    assert "secret" not in message


# Writes


@pytest.mark.parametrize("operation", WRITES.values(), ids=WRITES)
async def test_a_connection_lost_again_and_again_is_unavailable(
    server: MongoDB,
    stores: DomainStores,
    hasty: DomainStores,
    operation: Callable[[DomainStores], Awaitable[Any]],
) -> None:
    with failing(server, ["insert"], closeConnection=True):
        await refused(operation(hasty), ServerUnavailable)
    await operation(stores)


@pytest.mark.parametrize("operation", ROW_WRITES.values(), ids=ROW_WRITES)
@pytest.mark.parametrize(
    "how",
    [
        {"closeConnection": True},
        {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}},
    ],
    ids=["lost", "no majority"],
)
async def test_an_update_that_is_not_sure_to_last_is_unavailable(
    server: MongoDB,
    stores: DomainStores,
    hasty: DomainStores,
    operation: Callable[[DomainStores], Awaitable[Any]],
    how: dict[str, Any],
) -> None:
    with failing(server, ["update"], **how):
        await refused(operation(hasty), ServerUnavailable)
    await operation(stores)


async def test_rows_that_are_not_sure_to_last_are_unavailable_among_clashes(
    server: MongoDB, stores: DomainStores, hasty: DomainStores
) -> None:
    await rows_of(stores).save([ROW])
    unsure = {"code": 64, "errmsg": "waiting for replication timed out"}
    with failing(server, ["update"], writeConcernError=unsure):
        await refused(rows_of(hasty).save([ROW]), ServerUnavailable)


async def test_a_row_that_a_foreign_index_keeps_out_is_for_the_operator(
    server: MongoDB, stores: DomainStores, prefix: str
) -> None:
    with MongoClient[dict[str, Any]](server.url) as client:
        client[prefix][f"{DOMAIN}.view.items.1.items"].create_index("row.n", unique=True)
    await rows_of(stores).save([ROW])
    message = await refused(rows_of(stores).save([ROW._replace(id="b")]), Misconfigured)
    assert "the unique index 'row.n_1' (row.n) is not eventfleet's" in message


async def test_a_row_larger_than_a_document_may_be_is_refused(stores: DomainStores) -> None:
    large = StoredRow("large", {"text": "x" * 17 * 2**20}, ROW.point, TIME)
    message = await refused(rows_of(stores).save([ROW, large]), OperationRefused)
    assert "large" in message


@pytest.mark.parametrize("how", [{"closeConnection": True}, {"errorCode": 10107}], ids=str)
async def test_a_write_that_fails_once_while_another_primary_is_elected_is_done(
    server: MongoDB, stores: DomainStores, how: dict[str, Any]
) -> None:
    with failing(server, ["insert"], mode={"times": 1}, **how):
        await stores.events.write(stream("b1", 3, start=10))
    assert await ids(stores.events.read("b1")) == ["b1-1", "b1-2", "b1-3"]


async def test_a_write_larger_than_a_command_may_be_is_done_in_order(stores: DomainStores) -> None:
    large = [event("b1", v, at(v, 1), data={"text": "x" * 900_000}) for v in range(1, 21)]
    taken, after = event("a1", 1, at(90), id="again"), event("b2", 1, at(91))
    with pytest.raises(Duplicate) as caught:
        await stores.events.write([*large, taken, after])
    assert (caught.value.index, caught.value.key) == (20, "version")
    assert await ids(stores.events.read("b1")) == [f"b1-{v}" for v in range(1, 21)]
    assert await ids(stores.events.read("b2")) == []


@pytest.mark.parametrize("operation", WRITES.values(), ids=WRITES)
async def test_a_write_that_no_majority_has_is_unavailable(
    server: MongoDB, hasty: DomainStores, operation: Callable[[DomainStores], Awaitable[Any]]
) -> None:
    unsure = {"code": 64, "errmsg": "waiting for replication timed out"}
    with failing(server, ["insert", "commitTransaction"], writeConcernError=unsure):
        await refused(operation(hasty), ServerUnavailable)


@pytest.mark.parametrize("operation", WRITES.values(), ids=WRITES)
async def test_a_server_that_hangs_is_unavailable_in_time(
    server: MongoDB, hasty: DomainStores, operation: Callable[[DomainStores], Awaitable[Any]]
) -> None:
    hanging = {"blockConnection": True, "blockTimeMS": int(HASTY * 2000)}
    started = time.monotonic()
    with failing(server, ["insert"], **hanging):
        await refused(operation(hasty), ServerUnavailable)
    assert time.monotonic() - started < HASTY + SLACK


async def test_a_put_whose_commit_fails_leaves_all_or_none(
    server: MongoDB, stores: DomainStores, hasty: DomainStores
) -> None:
    with failing(server, ["commitTransaction"], closeConnection=True):
        await refused(hasty.events.put([event("s3", 1), event("s3", 2)], 0), ServerUnavailable)
    assert await ids(stores.events.read("s3")) in ([], ["s3-1", "s3-2"])


async def test_a_transaction_that_gives_way_is_done_again(
    server: MongoDB, stores: DomainStores
) -> None:
    labels = {"errorCode": 112, "errorLabels": ["TransientTransactionError"]}
    with failing(server, ["insert"], mode={"times": 2}, **labels):
        await stores.events.put([event("s3", 1), event("s3", 2)], 0)
    assert await ids(stores.events.read("s3")) == ["s3-1", "s3-2"]


async def test_of_events_put_each_nothing_is_known_where_the_write_is_not_durable(
    server: MongoDB, stores: DomainStores, hasty: DomainStores
) -> None:
    """Also of one whose key is taken: it may be its own first try that took it."""
    unsure = {"code": 64, "errmsg": "waiting for replication timed out"}
    with failing(server, ["insert"], writeConcernError=unsure):
        await refused(
            hasty.events.put_each([(event("s1", 1), 0), (event("s6", 1), 0)]), ServerUnavailable
        )
    assert await ids(stores.events.read("s6")) == ["s6-1"]


async def test_a_read_whose_cursor_is_lost_goes_on_from_the_last_version(
    server: MongoDB, stores: DomainStores
) -> None:
    """The second batch of each cursor is refused."""
    await stores.events.write([event("long", v, at(v, 1)) for v in range(1, 1201)])
    with failing(server, ["getMore"], errorCode=43):
        found = await ids(stores.events.read("long"))
    assert found == [f"long-{v}" for v in range(1, 1201)]


async def test_a_failure_in_the_midst_of_a_read_is_unavailable(
    server: MongoDB, stores: DomainStores, hasty: DomainStores
) -> None:
    await stores.events.write([event("long", v, at(v, 1)) for v in range(1, 1201)])
    with failing(server, ["find", "getMore"], mode={"skip": 1}, errorCode=10107):
        await refused(ids(hasty.events.read("long")), ServerUnavailable)


async def test_what_can_never_be_stored_is_refused(stores: DomainStores) -> None:
    beyond = event("b1", 1, at(90), data={"n": 2**63})
    await refused(stores.events.write([beyond]), OperationRefused)
    huge = Snapshot("b1", 1, {"text": "x" * 17_000_000}, 1, TIME)
    await refused(stores.snapshots.save([huge]), OperationRefused)
    assert await stores.events.count() == 4
    assert await stores.snapshots.count() == 0


# Snapshots too many


async def test_saves_cut_off_before_they_delete_leave_one_more_in_all(
    server: MongoDB, stores: DomainStores, prefix: str
) -> None:
    unsure = {"code": 64, "errmsg": "waiting for replication timed out"}
    saved = [[Snapshot("a1", version, {}, 1, TIME, "one")] for version in range(1, KEPT + 7)]
    with failing(server, ["insert"], writeConcernError=unsure):
        for snapshots in saved[:-1]:
            await refused(stores.snapshots.save(snapshots), ServerUnavailable)
    with MongoClient[dict[str, Any]](server.url) as client:
        left = client[prefix][f"{DOMAIN}.snapshots"]
        assert sorted(left.distinct("version")) == [5, 6, 7, 8]
        await stores.snapshots.save(saved[-1])
        assert sorted(left.distinct("version")) == [7, 8, 9]


# The server's life


async def test_what_was_acknowledged_survives_a_kill(prefix: str) -> None:
    with running(MongoDB) as server:
        async with (
            opened(server.url, prefix, PATIENT) as stores,
            opened(server.url, prefix) as hasty,
        ):
            await stores.events.prepare()
            await stores.events.write(stream("a1", 3))
            await stores.events.put([event("s1", 1), event("s1", 2)], 0)
            await stores.snapshots.save([Snapshot("a1", 3, {"n": 3}, 1, TIME)])
            server.kill()
            await refused(hasty.events.count(), ServerUnavailable)
            server.start()
            assert await stores.events.count() == 5
            assert await ids(stores.events.read("a1")) == ["a1-1", "a1-2", "a1-3"]
            assert await stores.snapshots.count() == 1
            await stores.events.prepare()


URLS = {
    "no such option": "mongodb://127.0.0.1/?tlss=true",
    "no such option value": "mongodb://127.0.0.1/?tls=maybe",
    "no such scheme": "http://127.0.0.1",
    "no host": "mongodb://",
    "no such file": "mongodb://127.0.0.1/?tls=true&tlsCAFile=absent.pem",
    "no such port": "mongodb://127.0.0.1:99999/",
}


@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
async def test_a_url_that_cannot_be_used_is_for_the_operator(url: str) -> None:
    with pytest.raises(Misconfigured, match="MongoDB"):
        async with opened(url, "absent"):
            pass


async def test_credentials_come_in_the_url(prefix: str) -> None:
    class Locked(MongoDB):
        options: tuple[str, ...] = ()

        def command(self) -> Sequence[str | Path]:
            return *super().command(), *self.options

    with running(Locked) as server:
        with MongoClient[dict[str, Any]](server.url) as client:
            client.admin.command("createUser", "fleet", pwd="s3cret", roles=["root"])
        server.stop()
        server.options = ("--auth",)
        server.start()
        right, wrong, nobody = (
            f"mongodb://{who}{server.address}/?directConnection=true"
            for who in ("fleet:s3cret@", "fleet:guessed@", "")
        )
        async with opened(right, prefix, PATIENT) as stores:
            await stores.events.prepare()
            await stores.events.write(stream("a1", 1))
        for url in (wrong, nobody):
            async with opened(url, prefix, PATIENT) as stores:
                message = await refused(stores.events.count(), AccessRefused)
                assert "guessed" not in message


@pytest.mark.parametrize("code", [14031, 10107, 13435, 189])
async def test_a_check_of_writes_fails_where_writes_do_though_reads_are_answered(
    server: MongoDB, stores: DomainStores, prefix: str, code: int
) -> None:
    url = f"{server.url}&heartbeatFrequencyMS=500"  # so soon does the driver see a primary again
    async with opened(url, prefix) as hasty:
        await hasty.events.registry.check_writable()
        with failing(server, ["insert", "update"], errorCode=code):
            assert await hasty.events.registry.epoch() == 0
            with pytest.raises(ServerUnavailable):
                await hasty.events.registry.check_writable()
        await eventually(lambda: _is_writable(hasty))


async def _is_writable(stores: DomainStores) -> bool:
    try:
        await stores.events.registry.check_writable()
    except ServerUnavailable:
        return False
    return True


async def test_a_check_of_writes_fails_without_a_majority(
    server: MongoDB, stores: DomainStores
) -> None:
    concern = {"code": 64, "errmsg": "waiting for replication timed out"}
    with (
        failing(server, ["update"], writeConcernError=concern),
        pytest.raises(ServerUnavailable),
    ):
        await stores.events.registry.check_writable()
