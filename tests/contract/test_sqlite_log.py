"""What the log on SQLite promises beyond every log's contract: when its process or its disk fails,
when records go, and that a person can read it."""

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import apsw
import pytest
from msgspec.structs import replace

from eventfleet.stores.contracts import Watermarks
from eventfleet.stores.errors import Duplicate, Fenced, ServerUnavailable
from eventfleet.stores.sqlite import database as database_module
from eventfleet.stores.sqlite import log_cleaner
from eventfleet.stores.sqlite.database import Database, WrittenTopics, open_database
from eventfleet.stores.sqlite.event_table import EventTable
from eventfleet.stores.sqlite.events import SqliteEvents
from eventfleet.stores.sqlite.log import SqliteProducer, SqliteTransactionalWriter
from eventfleet.stores.sqlite.log_admin import SqliteAdmin
from eventfleet.stores.sqlite.log_cleaner import SqliteLogCleaner
from eventfleet.stores.sqlite.log_reader import SqliteFollower, SqliteReader
from eventfleet.stores.sqlite.log_rows import Appending
from eventfleet.topics.codec import EVENT_HEADERS, decode
from eventfleet.topics.names import Topics
from eventfleet.topics.record import LogRecord, ProducerRecord
from eventfleet.topics.topic_specs import TopicSpec, declare_topics
from tests.contract.dying_log import EVENTS, OFFSET, RECORDS
from tests.contract.faulty_files import FaultyFiles, faulty_files
from tests.contract.samples import DOMAIN, event

TOPICS = Topics.of("rooms", "")
GROUP = "rooms.append"
PARTITIONS = 2
TIMEOUT = 30
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    async with open_database(path, TIMEOUT) as database:
        await prepare(database)
        yield database


@pytest.fixture
def files() -> Iterator[FaultyFiles]:
    with faulty_files() as files:
        yield files


async def prepare(database: Database) -> None:
    specs = declare_topics(TOPICS, PARTITIONS, 1, -1)
    await SqliteAdmin(database).create(specs)


def source(database: Database, group: str = GROUP) -> SqliteTransactionalWriter:
    return SqliteTransactionalWriter(database, group, TOPICS.events, 0)


def out(*values: str, topic: str = TOPICS.events, age: timedelta | None = None) -> Any:
    at = None if age is None else int((NOW - age).timestamp() * 1_000)
    return [ProducerRecord(topic, b"k", value.encode(), 0, (), at) for value in values]


def keyed(topic: str, pairs: str, age: timedelta) -> list[ProducerRecord]:
    """`a1 b2 a` writes 1 to a, 2 to b, and removes a."""
    at = int((NOW - age).timestamp() * 1_000)
    return [
        ProducerRecord(topic, pair[:1].encode(), pair[1:].encode() or None, 0, (), at)
        for pair in pairs.split()
    ]


async def records(database: Database, topic: str, partition: int = 0) -> list[LogRecord]:
    return [r async for r in SqliteReader(database).read(topic, partition, 0, 2**62)]


async def values(database: Database, topic: str = TOPICS.events) -> list[str]:
    return [(record.value or b"").decode() for record in await records(database, topic)]


async def offset(database: Database, group: str = GROUP) -> int | None:
    return (await SqliteReader(database).committed(group, TOPICS.events)).get(0)


# The process dies


@pytest.mark.parametrize("kind", ["statement", "write"])
async def test_a_commit_is_whole_or_not_there_wherever_the_process_dies(
    path: Path, kind: str
) -> None:
    async with open_database(path, TIMEOUT) as database:
        await prepare(database)
        owner = source(database)
        await owner.open()
        await owner.commit([*RECORDS, *RECORDS], OFFSET - 1)
    found = []
    async for database in dying("commit", kind, path):
        wholly = await offset(database) == OFFSET
        for record in RECORDS:
            assert record.partition is not None
            there = await records(database, record.topic, record.partition)
            assert [each.offset for each in there] == list(range(2 + wholly))
        found.append(wholly)
    assert found == sorted(found)
    assert {*found} == {False, True}
    assert len(found) > len(RECORDS)


@pytest.mark.parametrize("action", ["put", "put_awaited"])
@pytest.mark.parametrize("kind", ["statement", "write"])
async def test_a_put_is_whole_or_not_there_and_its_record_only_with_it_wherever_the_process_dies(
    path: Path, kind: str, action: str
) -> None:
    async with open_database(path, TIMEOUT) as database:
        await prepare(database)
    found: list[tuple[int, int]] = []
    async for database in dying(action, kind, path):
        stored = await SqliteEvents(database, EventTable(DOMAIN)).count()
        produced = [decode(each.value or b"") for each in await records(database, TOPICS.events)]
        assert [each.key for each in produced] in ([], [EVENTS[-1].key])
        found.append((stored, len(produced)))
    nothing, put, both = (0, 0), (len(EVENTS), 0), (len(EVENTS), 1)
    assert found == sorted(found)
    assert {*found} == ({nothing, put, both} if action == "put" else {nothing, both})
    assert len(found) > len(EVENTS)


async def dying(action: str, kind: str, path: Path) -> AsyncIterator[Database]:
    """Open what each try leaves of a file; see `dying_log`."""
    helper = [sys.executable, "-m", "tests.contract.dying_log", action, kind, str(path.parent)]
    await asyncio.to_thread(subprocess.run, helper, check=True)
    for step in count(1):
        if not (copy := path.with_name(str(step))).exists():
            return
        async with open_database(copy, TIMEOUT) as database:
            yield database


# The disk fails


def refuse_writes(files: FaultyFiles, error: apsw.Error | None) -> None:
    def refuse(*_: Any) -> None:
        if error:
            raise error

    files.on_write = refuse


def refuse_syncs(files: FaultyFiles, error: apsw.Error | None) -> None:
    def refuse() -> None:
        if error:
            raise error

    files.on_sync = refuse


REFUSALS: dict[str, tuple[Callable[[FaultyFiles, apsw.Error | None], None], apsw.Error]] = {
    "disk full": (refuse_writes, apsw.FullError("full")),
    "failed write": (refuse_writes, apsw.IOError("write")),
    "failed sync": (refuse_syncs, apsw.IOError("sync")),
}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_what_is_acknowledged_outlives_a_disk_that_fails(
    files: FaultyFiles, path: Path, refusal: str
) -> None:
    refuse, error = REFUSALS[refusal]
    crashes = []
    async with open_database(path, TIMEOUT) as database:
        await prepare(database)
        producer, kept = SqliteProducer(database), []
        for number in range(12):
            fails = number % 3 == 1
            refuse(files, error if fails else None)
            if fails:
                with pytest.raises(ServerUnavailable):
                    await producer.produce(out(f"refused {number}"))
            else:
                await producer.produce(out(f"kept {number}"))
                kept.append(f"kept {number}")
            assert await values(database) == kept
            crash = path.with_name(f"crash-{number}")
            for suffix in ("", "-wal"):
                shutil.copy(f"{path}{suffix}", f"{crash}{suffix}")
            crashes.append((crash, list(kept)))
    files.on_write = files.on_sync = None
    crashes.append((path, kept))
    for crash, acknowledged in crashes:
        async with open_database(crash, TIMEOUT) as database:
            found = await values(database)
            assert found[: len(acknowledged)] == acknowledged
            assert len(found) <= len(acknowledged) + 1


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_an_owner_goes_on_from_what_is_committed_after_the_disk_failed(
    files: FaultyFiles, path: Path, refusal: str
) -> None:
    refuse, error = REFUSALS[refusal]
    async with open_database(path, TIMEOUT) as database:
        await prepare(database)
        owner, producer = source(database), SqliteProducer(database)
        await owner.open()
        await owner.commit(out("a", topic=TOPICS.stored), 1)
        refuse(files, error)
        # With what is synced, an owner's commit fails as a whole, too.
        results = await asyncio.gather(
            producer.produce(out("refused")),
            owner.commit(out("b", topic=TOPICS.stored), 2),
            return_exceptions=True,
        )
        refuse(files, None)
        assert isinstance(results[0], ServerUnavailable)
        at = await owner.open()
        assert at == (2 if results[1] is None else 1)
        await owner.commit(out("c", topic=TOPICS.stored), 3)
        stored = ["a", "b", "c"] if at == 2 else ["a", "c"]
        assert await values(database, TOPICS.stored) == stored
    async with open_database(path, TIMEOUT) as database:
        assert await values(database, TOPICS.stored) == stored
        assert await offset(database) == 3


async def test_what_is_acknowledged_outlives_the_power_with_all_that_came_before(
    files: FaultyFiles, path: Path, tmp_path: Path
) -> None:
    files.disk = tmp_path / "disk"
    files.disk.mkdir()
    async with open_database(path, TIMEOUT) as database:
        await prepare(database)
        owner, producer = source(database), SqliteProducer(database)
        await owner.open()
        for number in range(1, 4):
            await owner.commit(out(f"stored {number}", topic=TOPICS.stored), number)
            await producer.produce(out(f"event {number}"))
            left = tmp_path / f"left-{number}"
            shutil.copytree(files.disk, left)
            await owner.commit(out(f"more {number}", topic=TOPICS.stored), number)
    files.disk = None
    for number in range(1, 4):
        async with open_database(tmp_path / f"left-{number}" / "file", TIMEOUT) as database:
            assert await values(database) == [f"event {n}" for n in range(1, number + 1)]
            assert (await values(database, TOPICS.stored))[-1] == f"stored {number}"
            assert await offset(database) == number


async def test_what_is_acknowledged_after_a_failed_sync_outlives_the_power(
    files: FaultyFiles, path: Path, tmp_path: Path
) -> None:
    files.disk = tmp_path / "disk"
    files.disk.mkdir()
    async with open_database(path, TIMEOUT) as database:
        await prepare(database)
        owner, producer = source(database), SqliteProducer(database)
        await owner.open()
        await owner.commit(out("stored", topic=TOPICS.stored), 1)
        refuse_syncs(files, apsw.IOError("sync"))
        with pytest.raises(ServerUnavailable):
            await producer.produce(out("refused"))
        refuse_syncs(files, None)
        await producer.produce(out("kept"))
        left = shutil.copytree(files.disk, tmp_path / "left")
    files.disk = None
    async with open_database(left / "file", TIMEOUT) as database:
        assert await values(database) == ["kept"]
        assert await values(database, TOPICS.stored) == ["stored"]


async def test_what_is_acknowledged_after_a_failed_checkpoint_outlives_the_power(
    files: FaultyFiles, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "CHECKPOINT_PAGES", 10)
    stored = ["." * 4_000] * 60
    files.disk = tmp_path / "disk"
    files.disk.mkdir()
    async with open_database(path, TIMEOUT) as database:
        await prepare(database)
        owner, producer = source(database), SqliteProducer(database)
        await owner.open()
        # A reader's snapshot keeps what comes after it in the log: only a sync of that can save it.
        with closing(apsw.Connection(str(path))) as reader:
            reader.execute("BEGIN; SELECT * FROM log_topics").fetchall()
            refuse_syncs(files, apsw.IOError("sync"))
            await owner.commit(out(*stored, topic=TOPICS.stored), 1)
            with suppress(ServerUnavailable):
                await checkpointed(database)
            refuse_syncs(files, None)
            await producer.produce(out("kept"))
            await checkpointed(database)
            left = shutil.copytree(files.disk, tmp_path / "left")
    files.disk = None
    async with open_database(left / "file", TIMEOUT) as database:
        assert await values(database) == ["kept"]
        assert await values(database, TOPICS.stored) == stored


async def checkpointed(database: Database) -> None:
    """Wait until what follows the last commit is done."""
    await database.write(lambda _: None, sync=False)


# Reading


async def test_records_of_a_transaction_under_way_are_not_read(database: Database) -> None:
    written, go_on = threading.Event(), threading.Event()

    def run(connection: apsw.Connection) -> None:
        Appending(connection, WrittenTopics(set(), set())).append(out("b"))
        written.set()
        go_on.wait(TIMEOUT)

    await SqliteProducer(database).produce(out("a"))
    writing = asyncio.create_task(database.write(run))
    await asyncio.to_thread(written.wait, TIMEOUT)
    assert await values(database) == ["a"]
    go_on.set()
    await writing
    assert await values(database) == ["a", "b"]


def awaited(*about: Any) -> Any:
    return replace(event(*about), reply_to="somewhere")


@pytest.fixture
def never_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "DEFERRED_SECONDS", 2.0 * TIMEOUT)


@pytest.mark.usefixtures("never_due")
async def test_what_is_put_is_produced_later_or_with_a_put_whose_caller_waits(
    database: Database,
) -> None:
    events = SqliteEvents(database, EventTable(DOMAIN), TOPICS.events)
    commits = count_commits(database)
    assert await events.put_each([(event("a", 1), 0), (event("b", 1), 1)]) == [None, None]
    first, second = await events.put_each([(event("a", 1, id="other"), 0), (event("c", 1), 0)])
    assert isinstance(first, Duplicate)
    assert second is None
    with pytest.raises(Duplicate):
        await events.put([event("c", 2), event("c", 1, id="other")], 0)
    assert await records(database, TOPICS.events) == []
    await events.put([event("a", 2), awaited("a", 3)], 0)
    assert len(commits) == 3
    produced = await records(database, TOPICS.events)
    assert [decode(each.value or b"") for each in produced] == [
        *(event("a", 1), event("c", 1), awaited("a", 3))  # the last one places those below it
    ]
    assert [(each.key, each.headers) for each in produced] == [
        *((b"a", EVENT_HEADERS), (b"c", EVENT_HEADERS), (b"a", EVENT_HEADERS))
    ]
    assert [e.aggregate_id for e in await events.sweep(0, 10)] == ["a", "a", "a", "c"]


async def test_what_is_put_is_produced_without_any_other_call_and_outlives_the_power(
    files: FaultyFiles, path: Path, tmp_path: Path
) -> None:
    files.disk = tmp_path / "disk"
    files.disk.mkdir()
    async with open_database(path, TIMEOUT) as database:
        await prepare(database)
        events = SqliteEvents(database, EventTable(DOMAIN), TOPICS.events)
        with database.watching(TOPICS.events) as produced:
            await events.put_each([(event("a", 1), 0)])
            await asyncio.wait_for(produced.wait(), TIMEOUT)
        left = shutil.copytree(files.disk, tmp_path / "left")
    files.disk = None
    async with open_database(left / "file", TIMEOUT) as database:
        assert len(await records(database, TOPICS.events)) == 1


@pytest.mark.usefixtures("never_due")
async def test_what_is_put_is_produced_before_the_file_is_closed(
    database: Database, path: Path
) -> None:
    copy = path.with_name("copy")
    async with open_database(copy, TIMEOUT) as closing:
        await prepare(closing)
        events = SqliteEvents(closing, EventTable(DOMAIN), TOPICS.events)
        await asyncio.gather(*(events.put([event(each, 1)], 0) for each in "ab"))
    async with open_database(copy, TIMEOUT) as reopened:
        assert sorted(each.key or b"" for each in await records(reopened, TOPICS.events)) == [
            *(b"a", b"b")
        ]


async def test_a_put_that_is_refused_undoes_no_record_of_another(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "DEFERRED_SECONDS", 0)
    monkeypatch.setattr(database_module, "MAX_GROUP_JOBS", 1)
    events = SqliteEvents(database, EventTable(DOMAIN), TOPICS.events)
    go_on = threading.Event()
    blocking = asyncio.create_task(database.write(lambda _: go_on.wait(TIMEOUT)))
    puts = [asyncio.create_task(events.put([event("a", 1, id=id)], 0)) for id in ("1", "2")]
    await asyncio.sleep(0)  # until all are queued
    go_on.set()
    await blocking
    await puts[0]
    with pytest.raises(Duplicate):
        await puts[1]
    await checkpointed(database)
    assert len(await records(database, TOPICS.events)) == 1


async def test_what_is_not_put_is_not_produced(files: FaultyFiles, database: Database) -> None:
    events = SqliteEvents(database, EventTable(DOMAIN), TOPICS.events)
    refuse_writes(files, apsw.FullError("full"))
    with pytest.raises(ServerUnavailable):
        await events.put([event("a", 1)], 0)
    refuse_writes(files, None)
    await events.put([awaited("b", 1)], 0)
    assert [each.key for each in await records(database, TOPICS.events)] == [b"b"]


async def test_a_topic_that_takes_no_event_hinders_no_put(database: Database) -> None:
    events = SqliteEvents(database, EventTable(DOMAIN), "rooms.gone")
    assert await events.put_each([(event("a", 1), 0)]) == [None]
    await events.put([awaited("a", 2)], 0)
    assert [each.version for each in await events.sweep(0, 10)] == [1, 2]


def count_commits(database: Database) -> list[None]:
    commits: list[None] = []
    database._writer.set_commit_hook(lambda: bool(commits.append(None)))
    return commits


async def test_a_follower_is_woken_by_commits_to_its_topic_alone(database: Database) -> None:
    with database.watching(TOPICS.stored) as of_stored, database.watching() as of_all:
        await SqliteProducer(database).produce(out("a"))
        await asyncio.wait_for(of_all.wait(), TIMEOUT)
        assert not of_stored.is_set()
        owner = source(database)
        await owner.open()
        await owner.commit(out("b", topic=TOPICS.stored), 1)
        await asyncio.wait_for(of_stored.wait(), TIMEOUT)


async def test_long_reads_go_page_by_page(database: Database) -> None:
    small, large = [f"{n:05}" for n in range(1_500)], [f"{n}{'.' * 900_000}" for n in range(7)]
    await SqliteProducer(database).produce(out(*small, *large))
    assert await values(database) == [*small, *large]


async def test_a_person_reads_the_log_with_the_sqlite3_program(
    database: Database, path: Path
) -> None:
    binary = ProducerRecord(TOPICS.events, b"\xff", None, 1, (("h", b"1"),), 1_500)
    await SqliteProducer(database).produce([*out('{"x": "é"}', age=HOUR), binary])
    with sqlite3.connect(path) as reader:
        found = reader.execute(
            "SELECT topic, partition, offset, time, key, value, headers FROM log ORDER BY partition"
        )
        assert found.fetchall() == [
            (TOPICS.events, 0, 0, "2026-03-01 11:00:00.000", "k", '{"x": "é"}', None),
            (TOPICS.events, 1, 0, "1970-01-01 00:00:01.500", b"\xff", None, '[["h","1"]]'),
        ]
    reader.close()


async def test_an_owner_is_fenced_when_its_groups_offsets_are_set(database: Database) -> None:
    owner = source(database)
    await owner.open()
    await owner.commit([], 5)
    await SqliteAdmin(database).set_offsets(GROUP, TOPICS.events, {0: 2})
    with pytest.raises(Fenced):
        await owner.commit([], 6)
    assert await owner.open() == 2


# Records that go


@pytest.fixture(params=[1, 2, 1_000])
def batches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_cleaner, "BATCH_RECORDS", request.param)


async def pass_to(database: Database, offset: int, group: str = GROUP) -> None:
    await SqliteAdmin(database).set_offsets(group, TOPICS.events, {0: offset})


async def bounds(database: Database, topic: str = TOPICS.events) -> Watermarks:
    return (await SqliteReader(database).watermarks(topic))[0]


@pytest.mark.usefixtures("batches")
async def test_old_records_that_all_groups_have_passed_go(database: Database) -> None:
    producer, cleaner = SqliteProducer(database), SqliteLogCleaner(database)
    await producer.produce(out("a", "b", "c", "d", age=25 * HOUR))
    await producer.produce(out("e", age=23 * HOUR))
    await pass_to(database, 5)
    await pass_to(database, 3, "others")
    assert await cleaner.clean(NOW) == 3
    assert await values(database) == ["d", "e"]
    assert await bounds(database) == Watermarks(3, 5)
    await pass_to(database, 5, "others")
    assert await cleaner.clean(NOW) == 1
    assert await values(database) == ["e"]
    assert await cleaner.clean(NOW + 2 * HOUR) == 1
    assert await bounds(database) == Watermarks(5, 5)
    [position] = await producer.produce(out("f"))
    assert position.offset == 5
    assert await values(database) == ["f"]
    assert await cleaner.clean(NOW) == 0


async def test_what_a_group_has_not_begun_to_read_stays(database: Database) -> None:
    await SqliteProducer(database).produce(out("a", age=25 * HOUR))
    await SqliteAdmin(database).set_offsets(GROUP, TOPICS.events, {1: 7})
    await pass_to(database, 1, "others")
    assert await SqliteLogCleaner(database).clean(NOW) == 0
    await pass_to(database, 1)
    beginner = source(database, "beginner")
    await beginner.open()
    assert await SqliteLogCleaner(database).clean(NOW) == 0
    assert await values(database) == ["a"]


async def test_a_topic_without_groups_keeps_records_as_long_as_it_declares(
    database: Database,
) -> None:
    hours_48 = {"retention.ms": str(48 * 3_600_000)}
    await SqliteAdmin(database).create([TopicSpec("bounded", 1, 1, hours_48)])
    for topic in ("bounded", TOPICS.dead_letters):
        await SqliteProducer(database).produce(out("a", topic=topic, age=50 * HOUR))
        await SqliteProducer(database).produce(out("b", topic=topic, age=47 * HOUR))
    assert await SqliteLogCleaner(database).clean(NOW) == 1
    assert await values(database, "bounded") == ["b"]
    assert await values(database, TOPICS.dead_letters) == ["a", "b"]


async def test_a_follower_that_missed_records_is_told(database: Database) -> None:
    producer = SqliteProducer(database)
    async with SqliteFollower(database).follow(TOPICS.events, PARTITIONS) as following:
        await producer.produce(out("a", "b", age=25 * HOUR))
        await pass_to(database, 2)
        await SqliteLogCleaner(database).clean(NOW)
        with pytest.raises(ServerUnavailable, match="no longer kept"):
            await anext(following)


@pytest.mark.usefixtures("batches")
async def test_a_compacted_topic_keeps_the_last_record_of_each_key(database: Database) -> None:
    topic = TOPICS.parked
    producer, cleaner = SqliteProducer(database), SqliteLogCleaner(database)
    await producer.produce(keyed(topic, "a1 b1 a2 c1 b", 25 * HOUR))
    await producer.produce(keyed(topic, "c2 a3 c", HOUR))
    assert await cleaner.clean(NOW) == 6
    assert await left(database, topic) == ["a3", "c"]
    await producer.produce([*keyed(topic, "a4", HOUR), *out("other", topic=topic)])
    assert await cleaner.clean(NOW + 24 * HOUR) == 2
    assert await left(database, topic) == ["a4", "kother"]
    assert await bounds(database, topic) == Watermarks(0, 10)


async def left(database: Database, topic: str) -> list[str]:
    found = await records(database, topic)
    return [((record.key or b"") + (record.value or b"")).decode() for record in found]
