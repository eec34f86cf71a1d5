"""What every log promises: Apache Kafka, SQLite, and the in-memory one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import apsw
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.partitioner import DefaultPartitioner

from eventfleet.stores.contracts import (
    LogAdmin,
    LogFollower,
    LogReader,
    LogWriter,
    PartitionWriter,
    Watermarks,
)
from eventfleet.stores.errors import (
    Fenced,
    Misconfigured,
    RecordsTooLarge,
    ServerUnavailable,
    TopicRefused,
)
from eventfleet.stores.kafka.admin import Admin
from eventfleet.stores.kafka.batching_producer import BatchingProducer, TopicMemory
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.follower import Follower
from eventfleet.stores.kafka.producer import PlainWriter, Producer
from eventfleet.stores.kafka.reader import Reader
from eventfleet.stores.kafka.transactional_writer import TransactionalWriter
from eventfleet.stores.memory.log import (
    MemoryAdmin,
    MemoryFollower,
    MemoryLog,
    MemoryPlainWriter,
    MemoryProducer,
    MemoryReader,
    MemoryTransactionalWriter,
)
from eventfleet.stores.sqlite.database import Database, WrittenTopics, open_database
from eventfleet.stores.sqlite.log import SqliteProducer, SqliteTransactionalWriter
from eventfleet.stores.sqlite.log_admin import SqliteAdmin
from eventfleet.stores.sqlite.log_reader import SqliteFollower, SqliteReader
from eventfleet.stores.sqlite.log_rows import Appending
from eventfleet.topics.names import Topics
from eventfleet.topics.record import LogRecord, ProducerRecord
from eventfleet.topics.topic_specs import TopicSpec, declare_topics
from tests.servers.kafka import Kafka
from tests.servers.server import free_port
from tests.simulation.scheduler import Scheduler
from tests.simulation.simulated_log import SimulatedLog
from tests.simulation.simulated_transactions import Network
from tests.simulation.simulated_writer import SimulatedWriter

PARTITIONS = 3
TIMEOUT = 5.0


@dataclass
class Log:
    """One implementation: how its clients are made, and how a transaction is left open."""

    admin: LogAdmin
    reader: LogReader
    producer: LogWriter
    owner: Callable[[str, str, int], PartitionWriter]
    leave_open: Callable[[Any, Sequence[ProducerRecord]], Awaitable[None]]
    transactions: bool
    topics: Topics
    group: str
    follower: LogFollower

    @property
    def gap(self) -> int:
        """Control records that a commit adds to each partition."""
        return int(self.transactions)

    def source(self) -> PartitionWriter:
        return self.owner(self.group, self.topics.events, 0)

    def out(self, *values: str, partition: int | None = 0) -> list[ProducerRecord]:
        return [ProducerRecord(self.topics.stored, b"k", v.encode(), partition) for v in values]

    async def seen(self) -> list[str]:
        """The values that a reader of committed records sees in partition 0 of `.stored`."""
        return [(r.value or b"").decode() for r in await self.read(self.topics.stored, 0)]

    async def read(self, topic: str, partition: int) -> list[LogRecord]:
        end = (await self.reader.watermarks(topic))[partition].end
        return [record async for record in self.reader.read(topic, partition, 0, end)]

    async def close(self) -> None:
        for client in (self.producer, self.reader, self.admin):
            await client.close()

    async def offset(self) -> int | None:
        return (await self.reader.committed(self.group, self.topics.events)).get(0)


def memory(prefix: str, transactions: bool) -> Log:
    log = MemoryLog()
    writer = MemoryTransactionalWriter if transactions else MemoryPlainWriter
    return log_in_memory(prefix, log, partial(writer, log), transactions)


def simulated(prefix: str) -> Log:
    scheduler = Scheduler(0)
    log = SimulatedLog(lambda: scheduler.steps)
    network = Network(log, scheduler, rate=0.0)
    return log_in_memory(prefix, log, partial(SimulatedWriter, log, network=network), True)


def log_in_memory(
    prefix: str, log: MemoryLog, owner: Callable[..., PartitionWriter], transactions: bool
) -> Log:
    async def leave_open(
        owner: MemoryTransactionalWriter, records: Sequence[ProducerRecord]
    ) -> None:
        assert owner.generation is not None
        await owner.write(owner.generation, records)

    return Log(
        MemoryAdmin(log, transactions),
        MemoryReader(log),
        MemoryProducer(log),
        owner,
        leave_open,
        transactions,
        Topics.of(prefix, ""),
        f"{prefix}.append",
        MemoryFollower(log),
    )


class LogWithoutControlRecords(Log):
    gap = 0


class Undone(Exception):
    """Ends a transaction whose records are written."""


def sqlite_log(database: Database, prefix: str) -> Log:
    async def leave_undone(
        owner: SqliteTransactionalWriter, records: Sequence[ProducerRecord]
    ) -> None:
        """No transaction stays open on SQLite: one thread does each from its begin to its end."""

        def run(connection: apsw.Connection) -> None:
            Appending(connection, WrittenTopics(set(), set())).append(records)
            raise Undone

        with pytest.raises(Undone):
            await database.write(run)

    return LogWithoutControlRecords(
        SqliteAdmin(database),
        SqliteReader(database),
        SqliteProducer(database),
        partial(SqliteTransactionalWriter, database),
        leave_undone,
        True,
        Topics.of(prefix, ""),
        f"{prefix}.append",
        SqliteFollower(database),
    )


def kafka_log(connection: Connection, prefix: str, transactions: bool) -> Log:
    def transactional(group: str, topic: str, partition: int) -> PartitionWriter:
        return TransactionalWriter(connection, group, topic, partition)

    def plain(group: str, topic: str, partition: int) -> PartitionWriter:
        async def ack(offset: int) -> None:
            await move_offset(connection.bootstrap, group, TopicPartition(topic, partition), offset)

        return PlainWriter(connection, group, (topic, partition), ack)

    async def leave_open(owner: TransactionalWriter, records: Sequence[ProducerRecord]) -> None:
        await owner._producer.begin_transaction()
        await BatchingProducer(owner._producer, TopicMemory()).send(records)

    return Log(
        Admin(connection),
        Reader(connection),
        Producer(connection),
        transactional if transactions else plain,
        leave_open,
        transactions,
        Topics.of(prefix, ""),
        f"{prefix}.append",
        Follower(connection),
    )


async def move_offset(bootstrap: str, group: str, at: TopicPartition, offset: int) -> None:
    """What a worker's consumer does when a chunk is acknowledged."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False
    )
    consumer.assign([at])
    await consumer.start()
    try:
        await consumer.commit({at: offset})
    finally:
        await consumer.stop()


WITH = ["memory", "simulated", "kafka", "sqlite"]
LEAVING_OPEN = ["memory", "simulated", "kafka"]
"""Those whose transactions stay open between two calls."""
WITHOUT = ["memory without transactions", "kafka without transactions"]


async def made(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[Log]:
    async with opened(request, prefix) as log:
        await log.admin.create(declare_topics(Topics.of(prefix, ""), PARTITIONS, 1, -1))
        yield log
        await log.close()


@asynccontextmanager
async def opened(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[Log]:
    where, _, without = request.param.partition(" ")
    if where == "memory":
        yield memory(prefix, not without)
    elif where == "simulated":
        yield simulated(prefix)
    elif where == "sqlite":
        folder: Path = request.getfixturevalue("tmp_path")
        async with open_database(folder / "file", TIMEOUT) as database:
            yield sqlite_log(database, prefix)
    else:
        bootstrap = request.getfixturevalue(where)
        yield kafka_log(Connection(bootstrap, timeout=TIMEOUT), prefix, request.param == "kafka")


@pytest.fixture(params=WITH + WITHOUT)
async def log(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[Log]:
    async for log in made(request, prefix):
        yield log


@pytest.fixture(params=WITH)
async def transactional(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[Log]:
    async for log in made(request, prefix):
        yield log


@pytest.fixture(params=WITH + WITHOUT[:2])
async def measured(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[Log]:
    """A log that refuses what is too large for its topic."""
    async for log in made(request, prefix):
        yield log


# Owners


async def test_a_group_without_offsets_opens_at_none(log: Log) -> None:
    owner = log.source()
    assert await owner.open() is None
    await owner.close()


async def test_records_and_offset_are_committed(log: Log) -> None:
    owner = log.source()
    await owner.open()
    await owner.commit(log.out("a", "b"), 7)
    await owner.commit(log.out("c"), 9)
    await owner.close()
    assert await log.seen() == ["a", "b", "c"]
    assert await log.offset() == 9


async def test_a_successor_opens_at_the_last_commit(log: Log) -> None:
    owner = log.source()
    await owner.open()
    for offset in range(1, 6):
        await owner.commit(log.out(str(offset)), offset)
        successor = log.source()
        assert await successor.open() == offset
        await owner.close()
        owner = successor
    await owner.close()


async def test_an_offset_moves_without_records(log: Log) -> None:
    owner = log.source()
    await owner.open()
    await owner.commit([], 4)
    assert await owner.open() == 4
    await owner.close()


async def test_owners_of_other_partitions_and_groups_are_not_fenced(log: Log) -> None:
    owner = log.source()
    others = [
        log.owner(log.group, log.topics.events, 1),
        log.owner(log.group, log.topics.commands, 0),
        log.owner(f"{log.group}2", log.topics.events, 0),
    ]
    await owner.open()
    for other in others:
        await other.open()
    await owner.commit(log.out("a"), 1)
    assert await log.seen() == ["a"]
    for each in (owner, *others):
        await each.close()


async def test_a_zombie_is_fenced_and_leaves_nothing(transactional: Log) -> None:
    log = transactional
    zombie, successor = log.source(), log.source()
    await zombie.open()
    await zombie.commit(log.out("a"), 1)
    assert await successor.open() == 1
    with pytest.raises(Fenced):
        await zombie.commit(log.out("zombie"), 5)
    await successor.commit(log.out("b"), 2)
    assert await log.seen() == ["a", "b"]
    assert await log.offset() == 2
    await zombie.close()
    await successor.close()


async def test_a_zombie_within_its_transaction_leaves_nothing(transactional: Log) -> None:
    log = transactional
    zombie, successor = log.source(), log.source()
    await zombie.open()
    await zombie.commit(log.out("a"), 1)
    await log.leave_open(zombie, log.out("half", "done"))
    assert await successor.open() == 1
    assert await log.seen() == ["a"]
    await successor.commit(log.out("b"), 2)
    assert await log.seen() == ["a", "b"]
    await zombie.close()
    await successor.close()


@pytest.mark.parametrize("transactional", LEAVING_OPEN, indirect=True)
async def test_records_of_an_open_transaction_are_not_read(transactional: Log) -> None:
    log = transactional
    owner = log.source()
    await owner.open()
    await owner.commit(log.out("a"), 1)
    await log.leave_open(owner, log.out("open"))
    before = (await log.reader.watermarks(log.topics.stored))[0].end - 1
    reading = log.reader.read(log.topics.stored, 0, 0, before)
    assert [record.value async for record in reading] == [b"a"]
    await owner.open()
    assert await log.seen() == ["a"]
    await owner.close()


async def test_a_failed_commit_is_gone_on_from(log: Log) -> None:
    owner = log.source()
    await owner.open()
    await owner.commit(log.out("a"), 1)
    with pytest.raises(Misconfigured, match="no partition 99"):
        await owner.commit([*log.out("lost"), *log.out("nowhere", partition=99)], 3)
    assert await owner.open() == 1
    await owner.commit(log.out("b"), 2)
    seen = await log.seen()
    assert [value for value in seen if value != "lost"] == ["a", "b"]
    if log.transactions:
        assert seen == ["a", "b"]
    await owner.close()


async def test_commit_needs_open(transactional: Log) -> None:
    log = transactional
    owner = log.source()
    with pytest.raises(RuntimeError):
        await owner.commit(log.out("a"), 1)
    await owner.open()
    with pytest.raises(Misconfigured):
        await owner.commit(log.out("a", partition=99), 1)
    with pytest.raises(RuntimeError):
        await owner.commit(log.out("a"), 1)
    await owner.open()
    await owner.close()
    with pytest.raises(RuntimeError):
        await owner.commit(log.out("a"), 1)
    assert await log.seen() == []


async def test_one_commit_writes_to_many_topics_and_partitions(log: Log) -> None:
    owner = log.source()
    await owner.open()
    topics = [log.topics.stored, log.topics.dead_letters, log.topics.snapshots]
    records = [ProducerRecord(t, b"k", t.encode(), p) for t in topics for p in range(PARTITIONS)]
    await owner.commit(records, 1)
    for record in records:
        assert record.partition is not None
        read = await log.read(record.topic, record.partition)
        assert [r.value for r in read] == [record.value]
    await owner.close()


async def test_a_commit_names_the_records_that_a_topic_refuses_for_their_size(
    measured: Log, prefix: str
) -> None:
    narrow = f"{prefix}.narrow"
    await measured.admin.create([TopicSpec(narrow, 2, 1, {"max.message.bytes": "2000"})])
    small = [ProducerRecord(narrow, b"k", b"%03d" % n * 100, n % 2) for n in range(40)]
    large = [ProducerRecord(narrow, b"k", b"x" * size, size % 2) for size in (3000, 2500, 9001)]
    left = [*small[:20], large[0], *small[20:30], large[1], large[2], *small[30:]]
    owner, refused = measured.source(), []
    for _ in range(20):
        await owner.open()
        try:
            await owner.commit(left, 0)
            break
        except RecordsTooLarge as error:
            refused += error.records
            left = [record for record in left if record not in error.records]
    assert sorted(refused, key=large.index) == large
    for partition in (0, 1):  # many are too large together; without transactions some are repeated
        values = [record.value for record in await measured.read(narrow, partition)]
        wanted = [record.value for record in small if record.partition == partition]
        assert (values if measured.transactions else [*dict.fromkeys(values)]) == wanted
    await owner.commit(small[:1], 0)
    await owner.close()


async def test_many_batches_keep_their_order(log: Log) -> None:
    owner = log.source()
    await owner.open()
    values = [f"{n:06}{'.' * 4000}" for n in range(700)]
    await owner.commit(log.out(*values), 1)
    assert await log.seen() == values
    await owner.close()


# Producing


async def test_positions_say_where_records_are(log: Log) -> None:
    records = [
        ProducerRecord(log.topics.events, f"k{n % 7}".encode(), b"%d" % n) for n in range(100)
    ]
    positions = await log.producer.produce(records)
    more = await log.producer.produce(records[:1])
    read = [r for p in range(PARTITIONS) for r in await log.read(log.topics.events, p)]
    found = {(r.partition, r.offset): (r.key, r.value) for r in read}
    for record, position in zip([*records, records[0]], [*positions, *more], strict=True):
        assert found.pop((position.partition, position.offset)) == (record.key, record.value)
    assert not found


async def test_records_of_a_key_keep_their_order(log: Log) -> None:
    keys = [b"a", b"b", b"c", b"d"]
    for start in range(0, 30, 10):
        await log.producer.produce(
            [
                ProducerRecord(log.topics.events, key, b"%d" % n)
                for n in range(start, start + 10)
                for key in keys
            ]
        )
    read = [r for p in range(PARTITIONS) for r in await log.read(log.topics.events, p)]
    for key in keys:
        values = [int(record.value or b"") for record in read if record.key == key]
        assert values == list(range(30))


async def test_keys_choose_the_partition_as_kafkas_clients_do(log: Log) -> None:
    keys = [f"aggregate-{n}-é".encode() for n in range(50)]
    positions = await log.producer.produce(
        [ProducerRecord(log.topics.events, k, b"") for k in keys]
    )
    everywhere = list(range(PARTITIONS))
    expected = [DefaultPartitioner()(key, everywhere, everywhere) for key in keys]
    assert [position.partition for position in positions] == expected
    assert set(expected) == set(everywhere)


async def test_a_record_comes_back_as_it_went(log: Log) -> None:
    headers = (("h", b"1"), ("h", b"2"), ("ünicode", b"\x00\xff"))
    at = 1_600_000_000_123
    sent = [
        ProducerRecord(log.topics.events, b"k", b"v", 2, headers, at),
        ProducerRecord(log.topics.events, b"tombstone", None, 2, (), at),
        ProducerRecord(log.topics.events, None, b"no key", 2, (), at),
        ProducerRecord(log.topics.events, b"\xff\x00", b"", 2, (), at),
    ]
    await log.producer.produce(sent)
    read = await log.read(log.topics.events, 2)
    assert [(r.key, r.value, r.headers, r.timestamp) for r in read] == [
        (r.key, r.value, r.headers, r.timestamp) for r in sent
    ]
    assert {(r.topic, r.partition) for r in read} == {(log.topics.events, 2)}


async def test_producing_goes_on_after_an_error(log: Log) -> None:
    await log.producer.produce(log.out("a"))
    with pytest.raises(Misconfigured, match="no partition 99"):
        await log.producer.produce(log.out("nowhere", partition=99))
    await log.producer.produce(log.out("b"))
    assert await log.seen() == ["a", "b"]


# Reading


async def test_bounds(log: Log) -> None:
    assert await log.reader.watermarks(log.topics.stored) == dict.fromkeys(
        range(3), Watermarks(0, 0)
    )
    await log.producer.produce(log.out("a", "b", "c"))
    await log.producer.produce(log.out("d", "e", partition=2))
    bounds = await log.reader.watermarks(log.topics.stored)
    assert bounds == {0: Watermarks(0, 3), 1: Watermarks(0, 0), 2: Watermarks(0, 2)}
    assert await log.reader.watermarks(f"{log.topics.stored}.unknown") == {}


async def test_an_owner_reads_the_watermarks_of_its_source(log: Log) -> None:
    events = [ProducerRecord(log.topics.events, b"k", b"v", 0)] * 3
    await log.producer.produce(events)
    owner = log.source()
    await owner.open()
    assert await owner.watermarks() == Watermarks(0, 3)
    await owner.commit([], 7)
    assert await owner.open() == 7
    assert await owner.watermarks() == Watermarks(0, 3)
    await owner.close()


async def test_control_records_are_gaps_in_the_offsets(log: Log) -> None:
    owner = log.source()
    await owner.open()
    for offset in range(1, 4):
        await owner.commit(log.out("x", "y"), offset)
    step = 2 + log.gap
    read = await log.read(log.topics.stored, 0)
    offsets = [step * n + m for n in range(3) for m in range(2)]
    assert [record.offset for record in read] == offsets
    reading = log.reader.read(log.topics.stored, 0, 1, offsets[-1])
    assert [record.offset async for record in reading] == offsets[1:-1]
    await owner.close()


async def test_reading_ends_at_a_control_record(transactional: Log) -> None:
    log = transactional
    owner = log.source()
    await owner.open()
    await owner.commit(log.out("a"), 1)
    await owner.open()
    assert [record.value async for record in log.reader.read(log.topics.stored, 0, 1, 2)] == []
    assert [record.value async for record in log.reader.read(log.topics.stored, 0, 0, 2)] == [b"a"]
    await owner.close()


async def test_reading_beyond_the_end_ends(log: Log) -> None:
    await log.producer.produce(log.out("a"))
    for start, end in [(0, 50), (0, 1)]:
        reading = log.reader.read(log.topics.stored, 0, start, end)
        assert [record.value async for record in reading] == [b"a"]
    for start, end in [(1, 1), (1, 50), (20, 50), (1, 0)]:
        assert [r async for r in log.reader.read(log.topics.stored, 0, start, end)] == []
    assert [r async for r in log.reader.read("unknown.topic", 0, 0, 5)] == []


async def test_a_follower_gets_what_is_committed_from_then_on_in_each_partitions_order(
    log: Log,
) -> None:
    await log.producer.produce(log.out("before"))
    async with log.follower.follow(log.topics.stored, PARTITIONS) as records:
        source = log.source()
        await source.open()
        await log.producer.produce(log.out("a", "b"))
        await source.commit([*log.out("c"), *log.out("x", partition=1)], 1)
        await log.producer.produce(log.out("d"))
        async with asyncio.timeout(6 * TIMEOUT):
            found = [await anext(records) for _ in range(5)]
        await source.close()
    values = [(record.partition, (record.value or b"").decode()) for record in found]
    assert [value for partition, value in values if partition == 0] == ["a", "b", "c", "d"]
    assert [value for partition, value in values if partition == 1] == ["x"]


async def test_all_followers_get_all_records(log: Log) -> None:
    async with (
        log.follower.follow(log.topics.stored, PARTITIONS) as one,
        log.follower.follow(log.topics.stored, PARTITIONS) as other,
    ):
        await log.producer.produce(log.out("a", "b"))
        async with asyncio.timeout(6 * TIMEOUT):
            for records in (one, other):
                assert [(await anext(records)).value for _ in range(2)] == [b"a", b"b"]


async def test_committed_offsets_are_of_one_group_and_topic(log: Log) -> None:
    for partition, offset in [(0, 5), (2, 8)]:
        owner = log.owner(log.group, log.topics.events, partition)
        await owner.open()
        await owner.commit([], offset)
        await owner.close()
    assert await log.reader.committed(log.group, log.topics.events) == {0: 5, 2: 8}
    assert await log.reader.committed(log.group, log.topics.stored) == {}
    assert await log.reader.committed(f"{log.group}.other", log.topics.events) == {}


# Topics


async def test_topics_are_created_once(log: Log, prefix: str) -> None:
    declared = declare_topics(Topics.of(prefix, ""), PARTITIONS, 1, -1)
    new = TopicSpec(f"{prefix}.new", 2, 1, {"cleanup.policy": "compact"})
    assert await log.admin.create([*declared, new]) == [new.name]
    assert await log.admin.create([*declared, new]) == []
    assert len(await log.reader.watermarks(new.name)) == 2


async def test_topics_as_declared_have_no_differences(log: Log, prefix: str) -> None:
    assert await log.admin.check(declare_topics(Topics.of(prefix, ""), PARTITIONS, 1, -1)) == []


async def test_each_difference_names_topic_setting_wanted_and_found(log: Log) -> None:
    events, snapshots = log.topics.events, log.topics.snapshots
    wanted = {
        "min.insync.replicas": "2",
        "unclean.leader.election.enable": "true",
        "cleanup.policy": "compact",
        "retention.ms": "1000",
        "max.message.bytes": "77",
    }
    differences = await log.admin.check(
        [
            TopicSpec(events, 5, 3, wanted),
            TopicSpec(snapshots, PARTITIONS, 1, {"cleanup.policy": "compact"}),
            TopicSpec("unknown.topic", 1, 1),
        ]
    )
    assert sorted(differences) == sorted(
        [
            f"topic {events}: partitions should be 5 and is 3",
            f"topic {events}: replication factor should be 3 and is 1",
            f"topic {events}: min.insync.replicas should be 2 and is 1",
            f"topic {events}: unclean.leader.election.enable should be true and is false",
            f"topic {events}: cleanup.policy should be compact and is delete",
            f"topic {events}: retention.ms should be 1000 and is -1",
            f"topic {events}: max.message.bytes should be 77 and is 1048576",
            "topic unknown.topic does not exist",
        ]
    )


# The offsets of a group


async def test_the_offsets_of_a_group_without_members_are_set(log: Log) -> None:
    await log.admin.set_offsets(log.group, log.topics.events, {0: 7, 2: 2**40})
    assert await log.reader.committed(log.group, log.topics.events) == {0: 7, 2: 2**40}
    await log.admin.set_offsets(log.group, log.topics.events, {0: 3})
    assert await log.source().open() == 3


async def test_a_group_with_members_keeps_its_offsets(kafka: str, prefix: str) -> None:
    admin = Admin(Connection(kafka, timeout=TIMEOUT))
    await admin.create([TopicSpec(prefix, 1, 1)])
    async with AIOKafkaConsumer(prefix, bootstrap_servers=kafka, group_id=prefix) as consumer:
        await consumer.getmany(timeout_ms=100)
        with pytest.raises(Misconfigured, match=f"{prefix} has members"):
            await admin.set_offsets(prefix, prefix, {0: 1})


async def test_the_broker_tells_whether_it_has_transactions(kafka: str) -> None:
    assert await Admin(Connection(kafka, timeout=TIMEOUT)).transactional()


# Kafka alone


async def test_records_that_are_no_longer_kept_are_not_read(kafka: str, prefix: str) -> None:
    connection = Connection(kafka, timeout=TIMEOUT)
    log = kafka_log(connection, prefix, True)
    await log.admin.create(declare_topics(Topics.of(prefix, ""), PARTITIONS, 1, -1))
    await log.producer.produce(log.out("a", "b", "c"))
    await forget(connection, TopicPartition(log.topics.stored, 0), 2)
    assert (await log.reader.watermarks(log.topics.stored))[0] == Watermarks(2, 3)
    assert await log.seen() == ["c"]
    await log.close()


async def forget(connection: Connection, at: TopicPartition, before: int) -> None:
    admin = connection.admin()
    await admin.start()
    await admin.delete_records({at: RecordsToDelete(before)})
    await admin.close()


async def test_a_record_too_large_for_its_topic_is_misconfigured(kafka: str, prefix: str) -> None:
    log = kafka_log(Connection(kafka, timeout=TIMEOUT), prefix, True)
    await log.admin.create([TopicSpec(log.topics.stored, 1, 1, {"max.message.bytes": "2000"})])
    with pytest.raises(TopicRefused, match=r"stored.*MessageSizeTooLarge"):
        await log.producer.produce(log.out(token_hex(3000)))
    await log.producer.produce(log.out("x"))
    assert await log.seen() == ["x"]
    await log.close()


async def test_an_unknown_topic_is_misconfigured(kafka: str, prefix: str) -> None:
    producer = Producer(Connection(kafka, timeout=1))
    with pytest.raises(TopicRefused, match=f"topic {prefix}.unknown"):
        await producer.produce([ProducerRecord(f"{prefix}.unknown", b"k", b"v")])
    await producer.close()


async def test_a_topic_that_was_known_is_unavailable(kafka: str, prefix: str) -> None:
    """A broker that has just started, or none that answers, doesn't know it either."""
    log = kafka_log(Connection(kafka, timeout=1), prefix, True)
    topic = TopicSpec(log.topics.stored, 1, 1)
    await log.admin.create([topic])
    await log.producer.produce(log.out("x"))
    admin = Connection(kafka, timeout=TIMEOUT).admin()
    await admin.start()
    await admin.delete_topics([topic.name])
    await admin.close()
    await log.producer.close()
    with pytest.raises(ServerUnavailable, match=f"topic {topic.name}: Unknown"):
        await log.producer.produce(log.out("y"))
    await log.close()


async def test_work_goes_on_after_the_broker_was_killed(prefix: str) -> None:
    with Kafka() as server:
        log = kafka_log(Connection(server.address, timeout=4), prefix, True)
        await log.admin.create(declare_topics(Topics.of(prefix, ""), PARTITIONS, 1, -1))
        owner = log.source()
        await until_available(owner.open)
        await owner.commit(log.out("a"), 1)
        first = [ProducerRecord(log.topics.events, b"k", b"1", 0)]
        await until_available(lambda: log.producer.produce(first))
        server.kill()
        with pytest.raises(ServerUnavailable):
            await owner.commit(log.out("b"), 2)
        with pytest.raises(ServerUnavailable):
            await log.producer.produce([ProducerRecord(log.topics.events, b"k", b"2", 0)])
        with pytest.raises(ServerUnavailable):
            await log.offset()
        await asyncio.to_thread(server.start)
        assert await until_available(owner.open) == 1
        await owner.commit(log.out("b"), 2)
        await until_available(
            lambda: log.producer.produce([ProducerRecord(log.topics.events, b"k", b"2", 0)])
        )
        assert await log.seen() == ["a", "b"]
        assert await log.offset() == 2
        values = [record.value for record in await log.read(log.topics.events, 0)]
        assert values == [b"1", b"2"]
        await owner.close()
        await log.close()


async def until_available(call: Callable[[], Awaitable[Any]]) -> Any:
    for _ in range(10):
        try:
            return await call()
        except ServerUnavailable:
            await asyncio.sleep(0.5)
    return await call()


# A broker that is not there, or does not answer


@pytest.fixture(params=["refuses", "is silent"])
async def deaf(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """An address where nobody answers."""
    if request.param == "refuses":
        yield f"127.0.0.1:{free_port()}"
        return
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for writer in held:
        writer.close()
    server.close()


async def test_without_a_broker_every_call_is_unavailable_in_bounded_time(deaf: str) -> None:
    connection = Connection(deaf, timeout=1)
    reader, admin = Reader(connection), Admin(connection)
    calls: list[Callable[[], Awaitable[Any]]] = [
        TransactionalWriter(connection, "g", "t", 0).open,
        PlainWriter(connection, "g", ("t", 0), lambda _: asyncio.sleep(0)).open,
        lambda: Producer(connection).produce([ProducerRecord("t", b"k", b"v")]),
        lambda: reader.watermarks("t"),
        lambda: anext(aiter(reader.read("t", 0, 0, 1))),
        lambda: reader.committed("g", "t"),
        lambda: admin.create([TopicSpec("t", 1, 1)]),
        lambda: admin.check([TopicSpec("t", 1, 1)]),
        admin.transactional,
    ]
    async with asyncio.timeout(30):
        answers = await asyncio.gather(*(call() for call in calls), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ServerUnavailable] * len(calls)


def test_the_password_is_not_shown() -> None:
    connection = Connection("b:1", "SASL_SSL", username="user", password="hidden")
    assert "hidden" not in repr(connection)


def test_tls_files_that_are_not_there_are_named() -> None:
    with pytest.raises(Misconfigured, match="no-such-ca"):
        Connection("b:1", "SSL", ca_file="no-such-ca.pem").options()
