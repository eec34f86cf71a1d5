"""The Faust transport over the log in a file: chunks, owners and commits, in one process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from eventfleet.roles.role import Role
from eventfleet.runtime.settings import Settings
from eventfleet.stores.sqlite.database import Database, open_database
from eventfleet.stores.sqlite.log import SqliteProducer
from eventfleet.stores.sqlite.log_admin import SqliteAdmin
from eventfleet.stores.sqlite.log_reader import SqliteReader
from eventfleet.topics.names import consumer_group
from eventfleet.topics.record import ProducerRecord
from eventfleet.topics.topic_specs import TopicSpec
from eventfleet.workers.app import RoleApp, RoleFailed
from eventfleet.workers.app_runner import role_app, run_apps
from eventfleet.workers.metrics import Metrics
from eventfleet.workers.owner import Ack
from eventfleet.workers.owner_outage import OwnerTimeouts
from eventfleet.workers.transport import sqlite_consumer
from eventfleet.workers.worker_log import SqliteLog
from tests.integration.copied_topic import until
from tests.integration.copy_role import ROLE, Copy, CopyAgent, Mood

SOURCE, TARGET = "letters", "letters.copy"
PARTITIONS = 3
SETTINGS = Settings(chunk_records=7)
GROUP = consumer_group(SETTINGS.group_prefix, SOURCE, ROLE)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(tmp_path / "file", 30) as opened:
        topics = [TopicSpec(name, PARTITIONS, 1) for name in (SOURCE, TARGET)]
        await SqliteAdmin(opened).create(topics)
        yield opened


async def produce(database: Database, count: int) -> None:
    records = [ProducerRecord(SOURCE, b"k", b"%d" % n, n % PARTITIONS) for n in range(count)]
    await SqliteProducer(database).produce(records)


@asynccontextmanager
async def running(database: Database, mood: Mood) -> AsyncIterator[RoleApp]:
    """An app at work; at the end it is stopped, and what ended it before is raised."""
    log = SqliteLog(database)

    def make(partition: int, ack: Ack) -> Role:
        return Copy(log.writer(GROUP, SOURCE, partition, ack), TARGET, mood)

    timeouts = OwnerTimeouts(in_hand=0.1, longest_pause=0.01)
    app = role_app(SETTINGS, log, CopyAgent(SETTINGS, SOURCE, make), Metrics(), timeouts)
    stop = asyncio.Event()
    work = asyncio.create_task(run_apps([app], stop))
    try:
        yield app
    finally:
        stop.set()
        await work


async def wait_until_copied(database: Database, count: int) -> None:
    reader = SqliteReader(database)

    async def is_copied() -> bool:
        return sum((await reader.committed(GROUP, SOURCE)).values()) >= count

    await until(is_copied)


async def contents(database: Database, topic: str) -> dict[int, list[bytes | None]]:
    reader = SqliteReader(database)
    return {
        partition: [each.value async for each in reader.read(topic, partition, 0, end)]
        for partition, (_, end) in (await reader.watermarks(topic)).items()
    }


async def test_each_record_is_copied_once_though_chunks_fail(database: Database) -> None:
    await produce(database, 300)
    async with running(database, Mood(unavailable_every=5)):
        await wait_until_copied(database, 300)
    assert await contents(database, TARGET) == await contents(database, SOURCE)


async def test_records_that_come_while_the_app_is_at_rest_are_copied(database: Database) -> None:
    async with running(database, Mood()) as app:
        for count in range(30, 120, 30):
            await produce(database, 30)
            await wait_until_copied(database, count)
        assert app.is_ready
        assert app.obstacles() == []
    assert await contents(database, TARGET) == await contents(database, SOURCE)


async def test_the_next_app_goes_on_where_the_one_before_ended(database: Database) -> None:
    for count in (50, 100):
        await produce(database, 50)
        async with running(database, Mood(pause=0.001)):
            await wait_until_copied(database, count - 20)
    async with running(database, Mood()):
        await wait_until_copied(database, 100)
    assert await contents(database, TARGET) == await contents(database, SOURCE)


async def test_the_lag_counts_what_waits(database: Database) -> None:
    async with running(database, Mood(pause=3600)) as app:
        await produce(database, 90)
        await until(lambda: [each.progress.lag() for each in app.owners] == [30] * PARTITIONS)


async def test_records_that_the_log_has_lost_are_not_passed_over(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await produce(database, 90)

    async def lose_what_is_not_read() -> None:
        async with running(database, Mood(pause=0.01)) as app:
            await wait_until_copied(database, 10)
            await database.write(
                lambda connection: connection.execute(
                    "UPDATE log_partitions SET oldest = end_offset WHERE topic = ?", (SOURCE,)
                )
            )
            await until(lambda: all(each.fault for each in app.owners))

    with pytest.raises(RoleFailed, match="were removed before this role had read them"):
        await lose_what_is_not_read()
    assert "the log does not have offset" in caplog.text
    copied, source = await contents(database, TARGET), await contents(database, SOURCE)
    for partition, values in copied.items():
        assert values == source[partition][: len(values)]


async def test_a_record_that_somebody_waits_for_is_read_at_once(database: Database) -> None:
    """Others gather: what is read together is one chunk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite_consumer, "TRICKLE_SECONDS", 3600.0)
        async with running(database, Mood()):
            await produce(database, 3)
            await wait_until_copied(database, 3)
            gathered = [ProducerRecord(SOURCE, None, b"%d" % n, 0) for n in range(3)]
            for record in gathered:
                await SqliteProducer(database).produce([record])
            reader = SqliteReader(database)
            assert sum((await reader.committed(GROUP, SOURCE)).values()) == 3
            awaited = ProducerRecord(SOURCE, None, b'{"replyto":"here"}', 0)
            await SqliteProducer(database).produce([awaited])
            await wait_until_copied(database, 7)
    assert (await contents(database, TARGET))[0] == [b"0", b"0", b"1", b"2", awaited.value]
