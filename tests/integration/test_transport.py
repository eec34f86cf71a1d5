"""Roles over real topics, in this process: each record's effect is committed exactly once."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from itertools import count
from typing import Any

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.fetch import FetchRequest

from eventfleet.roles.role import ChunkReport, UnusableOffset
from eventfleet.runtime.settings import Settings
from eventfleet.stores.kafka.admin import Admin
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.producer import PlainWriter
from eventfleet.stores.kafka.reader import Reader
from eventfleet.stores.kafka.transactional_writer import TransactionalWriter
from eventfleet.stores.readiness_report import ReadinessReason
from eventfleet.stores.retry import RetryPolicy
from eventfleet.topics.names import consumer_group
from eventfleet.topics.record import LogRecord
from eventfleet.topics.topic_specs import TopicSpec
from eventfleet.workers.app import RoleApp, RoleFailed
from eventfleet.workers.app_runner import role_app, run_apps
from eventfleet.workers.health_server import HealthServer
from eventfleet.workers.metrics import Metrics
from eventfleet.workers.owner import Ack, OwnerState, RoleFactory
from eventfleet.workers.transport import consumer_thread
from eventfleet.workers.transport.chunk import Chunk
from eventfleet.workers.transport.consumer_thread import (
    BUSY_POLL_MS,
    IDLE_POLL_MS,
    ConsumerThread,
)
from eventfleet.workers.worker_log import KafkaLog
from tests.integration.copied_topic import (
    PARTITIONS,
    assert_copied_once,
    committed,
    produce,
    read,
    running,
    stopped,
    until,
)
from tests.integration.copied_topic import settings as settings
from tests.integration.copied_topic import source as source
from tests.integration.copy_role import ROLE, Copy, CopyAgent, Mood, copying


def fenced(app: RoleApp) -> list[int]:
    return [owner.partition for owner in app.owners if owner.state is OwnerState.FENCED]


async def test_each_record_is_copied_once_in_chunks_of_bounded_length(
    settings: Settings, source: str
) -> None:
    kafka = settings.kafka_brokers
    await produce(kafka, source, 2_000)
    lengths: list[int] = []
    kinds: set[type] = set()

    class Lengths(Mood):
        async def see(self, records: Sequence[LogRecord]) -> None:
            lengths.append(len(records))
            kinds.update(map(type, records))

    async with running(settings, source, copying(settings, source, Lengths())) as app:
        await until(lambda: app.meter.total.emitted == 2_000)
        await produce(kafka, source, 40, start=2_000)
        await until(lambda: app.meter.total.emitted == 2_040)
    assert max(lengths) == settings.chunk_records
    assert kinds == {LogRecord}
    await assert_copied_once(kafka, source)
    assert await committed(settings, source) == 2_040


async def test_chunks_are_bounded_in_bytes_too(settings: Settings, source: str) -> None:
    await produce(settings.kafka_brokers, source, 400)
    small = settings.model_copy(update={"chunk_bytes": 10})
    sizes: list[int] = []

    class Sizes(Mood):
        async def see(self, records: Sequence[LogRecord]) -> None:
            sizes.append(sum(len(record.value or b"") for record in records))

    async with running(small, source, copying(small, source, Sizes())) as app:
        await until(lambda: app.meter.total.emitted == 400)
    assert 1 < max(sizes) <= 10
    await assert_copied_once(settings.kafka_brokers, source)


async def test_a_partition_that_waits_does_not_hold_up_the_others(
    settings: Settings, source: str
) -> None:
    await produce(settings.kafka_brokers, source, 4_000)
    let_go = asyncio.Event()

    class Blocked(Mood):
        async def see(self, records: Sequence[LogRecord]) -> None:
            if records[0].partition == 0:
                await let_go.wait()

    async with running(settings, source, copying(settings, source, Blocked())) as app:
        await until(lambda: app.meter.total.emitted == 3_000)
        let_go.set()
        await until(lambda: app.meter.total.emitted == 4_000)
    await assert_copied_once(settings.kafka_brokers, source)


async def test_live_fails_for_a_partition_with_records_and_no_progress(
    settings: Settings, source: str
) -> None:
    await produce(settings.kafka_brokers, source, 40)
    let_go = asyncio.Event()

    class Blocked(Mood):
        async def see(self, records: Sequence[LogRecord]) -> None:
            if records[0].partition == 1:
                await let_go.wait()

    async with running(settings, source, copying(settings, source, Blocked())) as app:

        async def answer(path: str, bound: float) -> tuple[int, str]:
            page = HealthServer(Metrics(), [app], bound).served("127.0.0.1", 0)
            async with page as url, aiohttp.request("GET", url + path) as got:
                return got.status, await got.text()

        status, text = await answer("/ready", 60)
        (reason,) = json.loads(text)["reasons"]
        assert (status, reason["kind"]) == (503, "starting")
        assert reason["reason"] == f"{ROLE} of {source}: not ready"
        assert (reason["domain"], reason["role"]) == (source, ROLE)
        await until(lambda: app.meter.total.emitted == 30)
        await until(lambda: len(app.problems(0.5)) > 0)
        problem = f"{ROLE} of {source}, partition 1: no progress for 0.5 s\n"
        assert await answer("/live", 0.5) == (503, problem)
        assert await answer("/live", 60) == (200, "ok\n")
        status, text = await answer("/ready", 60)
        assert (status, json.loads(text)) == (200, {"status": "ready", "reasons": []})
        let_go.set()
        await until(lambda: app.problems(0.5) == [])


async def test_one_app_that_fails_ends_the_others_in_order(settings: Settings, source: str) -> None:
    kafka, other = settings.kafka_brokers, f"{source}.copy"
    admin = Admin(Connection(kafka))
    await admin.create([TopicSpec(f"{other}.copy", PARTITIONS, 1)])
    await admin.close()
    await produce(kafka, source, 4_000)
    faulty = CopyAgent(settings, other, copying(settings, other, Mood(fatal_at=b"2000")))
    steady = CopyAgent(settings, source, copying(settings, source, Mood(pause=0.01)))
    log = KafkaLog(Connection(kafka))
    apps = [role_app(settings, log, agent, Metrics()) for agent in (faulty, steady)]
    with pytest.raises(RoleFailed, match=f"{ROLE} of {other}, partition 0: this record can't"):
        await run_apps(apps, asyncio.Event())
    done = await committed(settings, source)
    assert done == apps[1].meter.total.emitted
    assert done == len(await read(kafka, other))


async def test_what_is_unavailable_now_and_then_loses_and_doubles_nothing(
    settings: Settings, source: str
) -> None:
    await produce(settings.kafka_brokers, source, 4_000)
    mood = Mood(unavailable_every=5)
    async with running(settings, source, copying(settings, source, mood)) as app:
        await until(lambda: app.meter.total.emitted == 4_000)
    assert mood.seen > 4_000 / settings.chunk_records
    await assert_copied_once(settings.kafka_brokers, source)


def waiting(app: RoleApp) -> int:
    """Count the partitions that wait for the store."""
    return sum("waits: the store is out" in each.reason for each in app.obstacles())


async def test_a_worker_waits_for_what_stays_unavailable_and_says_so(
    settings: Settings, source: str
) -> None:
    await produce(settings.kafka_brokers, source, 40)
    mood = Mood(unavailable_every=1)
    async with running(settings, source, copying(settings, source, mood)) as app:
        await until(lambda: waiting(app) == PARTITIONS)
        assert not app.failed.is_set()
        assert app.problems(0) == []
        assert await committed(settings, source) == 0
        mood.unavailable_every = 0
        await until(lambda: app.meter.total.emitted == 40)
        await until(lambda: not app.obstacles())
    await assert_copied_once(settings.kafka_brokers, source)


@pytest.mark.parametrize("error", [TimeoutError(), KafkaConnectionError("lost")], ids=repr)
async def test_a_fetch_that_fails_is_tried_again_and_logged_once(
    settings: Settings,
    source: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    """A fetch runs out of time in a process that stood still (SIGSTOP) meanwhile."""
    monkeypatch.setattr(consumer_thread, "REQUEST", RetryPolicy(0.01, 0.01))
    fetch, tries = ConsumerThread._next_chunks, count()

    async def fail_at_first(thread: ConsumerThread, timeout: float) -> list[Chunk]:
        if 3 <= next(tries) < 8:
            raise error
        return await fetch(thread, timeout)

    monkeypatch.setattr(ConsumerThread, "_next_chunks", fail_at_first)
    await produce(settings.kafka_brokers, source, 4_000)
    async with running(settings, source, copying(settings, source, Mood())) as app:
        await until(lambda: app.meter.total.emitted == 4_000 and next(tries) > 8)
    await assert_copied_once(settings.kafka_brokers, source)
    told = "will fetch again", "fetches again after"
    lines = [r for r in caplog.records if any(text in r.getMessage() for text in told)]
    failed, well = [record.getMessage() for record in lines]
    assert failed.startswith(f"copy of {source} will fetch again: consuming from ")
    assert well.startswith(f"copy of {source} fetches again after ")
    assert lines[0].levelno == lines[1].levelno


async def test_a_fault_ends_the_worker_with_the_offset_unmoved(
    settings: Settings, source: str
) -> None:
    await produce(settings.kafka_brokers, source, 40)
    make = copying(settings, source, Mood(fatal_at=b"6"))
    with pytest.raises(RoleFailed, match=f"{ROLE} of {source}, partition 2: this record can't"):
        async with running(settings, source, make) as app:
            await until(lambda: app.failed.is_set())
    values = {record.value for record in await read(settings.kafka_brokers, f"{source}.copy")}
    assert b"6" not in values
    async with running(settings, source, copying(settings, source, Mood())) as app:
        await until(lambda: app.meter.total.emitted == 40 - len(values))
    await assert_copied_once(settings.kafka_brokers, source)


async def test_aborted_and_control_records_are_passed_over(settings: Settings, source: str) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_brokers, transactional_id=f"{source}-test"
    )
    async with producer:
        for turn in range(30):
            await producer.begin_transaction()
            await producer.send_and_wait(source, b"%d" % turn, partition=turn % PARTITIONS)
            await (producer.abort_transaction if turn % 3 else producer.commit_transaction)()
    async with running(settings, source, copying(settings, source, Mood())) as app:
        await until(lambda: app.meter.total.emitted == 10)
        await until(lambda: not any(app.consumer.lag(p) for p in range(PARTITIONS)))
    await assert_copied_once(settings.kafka_brokers, source)


async def test_the_lag_of_a_partition_that_is_not_ours_is_none_and_no_error(
    settings: Settings, source: str
) -> None:
    async with running(settings, source, copying(settings, source, Mood())) as app:
        assert app.consumer.lag(PARTITIONS) == 0


async def test_the_lag_of_a_partition_without_a_position_is_none_and_no_error(
    settings: Settings, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As between an assignment and the first seek."""
    async with running(settings, source, copying(settings, source, Mood())) as app:
        await until(lambda: app.is_ready)
        client = app.consumer._thread._consumer
        assigned = client._subscription.subscription.assignment
        with monkeypatch.context() as patch:
            patch.setattr(assigned.state_value(TopicPartition(source, 0)), "_position", None)
            assert app.consumer.lag(0) == 0


async def test_rebalances_under_load_lose_and_double_nothing(
    settings: Settings, source: str
) -> None:
    kafka = settings.kafka_brokers
    await produce(kafka, source, 12_000)

    def make() -> RoleFactory:
        return copying(settings, source, Mood(pause=0.05))

    async def ends() -> bool:
        return await committed(settings, source) == 12_000

    async with running(settings, source, make()) as first:
        await until(lambda: first.meter.total.emitted > 0)
        async with running(settings, source, make()) as second:
            await until(lambda: second.meter.total.emitted > 1_000)
            assert await committed(settings, source) < 12_000
        before = first.meter.total.emitted
        await until(ends)
        assert first.meter.total.emitted > before
    await assert_copied_once(kafka, source)


async def test_a_fenced_owner_gives_its_partition_up_until_it_is_assigned_again(
    settings: Settings, source: str
) -> None:
    kafka = settings.kafka_brokers
    make = copying(settings, source, Mood())
    name = consumer_group(settings.group_prefix, source, ROLE)

    async def ends() -> bool:
        return await committed(settings, source) == 44

    async with running(settings, source, make) as app:
        await until(lambda: app.is_ready)
        other = TransactionalWriter(Connection(kafka), name, source, 0)
        await other.open()
        await produce(kafka, source, 40)
        await until(lambda: fenced(app) == [0])
        await until(lambda: app.meter.total.emitted == 30)
        await other.close()
        async with running(settings, source, make):
            await until(lambda: not fenced(app))
        await until(lambda: app.is_ready)
        await produce(kafka, source, 4, start=40)
        await until(ends)
    await assert_copied_once(kafka, source)


async def test_without_transactions_faust_commits_what_was_acked(
    settings: Settings, kafka: str, source: str
) -> None:
    await produce(kafka, source, 2_000)
    make = copying(settings, source, Mood(), transactional=False)
    async with running(settings, source, make) as app:
        await until(lambda: app.meter.total.emitted == 2_000)
        await until(lambda: not any(app.consumer.lag(p) for p in range(PARTITIONS)))
    assert await committed(settings, source) == 2_000
    async with running(settings, source, make) as app:
        await until(lambda: app.is_ready)
        await produce(kafka, source, 4, start=2_000)
        await until(lambda: app.meter.total.emitted == 4)
    await assert_copied_once(kafka, source)


async def test_without_transactions_a_role_may_commit_where_it_begins(
    settings: Settings, kafka: str, source: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Beginning:
        def __init__(self, ack: Ack) -> None:
            self._ack = ack

        async def open(self) -> int:
            await self._ack(0)
            return 0

        async def process(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
            return ChunkReport()

        async def tick(self) -> ChunkReport:
            return ChunkReport()

        @property
        def at_rest(self) -> bool:
            return True

        async def close(self) -> None:
            pass

    async with running(settings, source, lambda partition, ack: Beginning(ack)) as app:
        await until(lambda: app.is_ready)
    reader = Reader(Connection(kafka))
    found = await reader.committed(app.consumer_config.group, source)
    await reader.close()
    assert found == dict.fromkeys(range(PARTITIONS), 0)
    assert "will be opened again" not in caplog.text


async def test_an_offset_that_the_log_does_not_have_stops_its_partition_and_no_other(
    settings: Settings, source: str
) -> None:
    """Partition 0 was truncated below the offset, in partition 1 unread records were removed."""
    kafka = settings.kafka_brokers
    await produce(kafka, source, 40)
    group = consumer_group(settings.group_prefix, source, ROLE)
    for partition, offset in ((0, 50), (1, 2)):
        writer = TransactionalWriter(Connection(kafka), group, source, partition)
        await writer.open()
        await writer.commit([], offset)
        await writer.close()
    await remove_records(kafka, source, 1, before=5)
    obstacles: list[ReadinessReason] = []

    async def until_stopped() -> None:
        async with running(settings, source, copying(settings, source, Mood())) as app:
            await until(lambda: app.meter.total.emitted == 20)
            await until(lambda: stopped(app) == [0, 1])
            obstacles.extend(app.obstacles())
            assert app.problems(0) == []

    with pytest.raises(RoleFailed, match=f"{ROLE} of {source}, partition 0 is stopped: "):
        await until_stopped()
    first, second = obstacles
    assert "offset is 50, but the log holds records from 0 to 10" in first.reason
    assert "offset is 2, but the log keeps its records from 5 to 10 only" in second.reason
    assert {each.kind for each in obstacles} == {"stopped"}
    assert [each.partition for each in obstacles] == [0, 1]
    assert all(isinstance(each.since, datetime) for each in obstacles)
    assert {r.partition for r in await read(kafka, f"{source}.copy")} == {2, 3}


async def remove_records(kafka: str, topic: str, partition: int, before: int) -> None:
    admin = Connection(kafka).admin()
    await admin.start()
    await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(before)})
    await admin.close()


async def test_where_the_next_record_is_gone_a_role_is_opened_again(
    settings: Settings, source: str
) -> None:
    """As where retention overtakes a role: the client must not go on from another record."""
    opened: Counter[int] = Counter()
    taken: list[LogRecord] = []

    class Overtaken(Copy):
        async def open(self) -> int:
            opened[id(self)] += 1
            if opened[id(self)] > 1:
                raise UnusableOffset("it was looked at again")
            return 1_000

        async def process(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
            taken.extend(records)
            return ChunkReport()

    await produce(settings.kafka_brokers, source, 40)

    def make(partition: int, ack: Ack) -> Overtaken:
        group = consumer_group(settings.group_prefix, source, ROLE)
        connection = Connection(settings.kafka_brokers)
        writer = PlainWriter(connection, group, (source, partition), ack)
        return Overtaken(writer, f"{source}.copy", Mood())

    with pytest.raises(RoleFailed, match="it was looked at again"):
        async with running(settings, source, make) as app:
            await until(lambda: len(stopped(app)) == PARTITIONS or bool(taken))
    assert taken == []


async def test_faust_commits_nothing_that_was_not_acked(settings: Settings, source: str) -> None:
    class Silent:
        async def open(self) -> int:
            return 0

        async def process(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
            return ChunkReport(stored=len(records))

        async def tick(self) -> ChunkReport:
            return ChunkReport()

        @property
        def at_rest(self) -> bool:
            return True

        async def close(self) -> None:
            pass

    await produce(settings.kafka_brokers, source, 2_000)
    async with running(settings, source, lambda partition, ack: Silent()) as app:
        await until(lambda: app.meter.total.stored == 2_000)
    assert await committed(settings, source) == 0


async def test_at_rest_requests_wait_for_records_and_the_next_ones_are_copied_all_the_same(
    settings: Settings, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(settings, source, copying(settings, source, Mood())) as app:
        await until(lambda: app.is_ready)
        waits = watch_fetches(app, monkeypatch)
        await until(lambda: IDLE_POLL_MS in waits)
        waits.clear()
        await produce(settings.kafka_brokers, source, 40)
        await until(lambda: app.meter.total.emitted == 40)
        await until(lambda: BUSY_POLL_MS in waits)
    await assert_copied_once(settings.kafka_brokers, source)


async def test_while_a_partition_is_at_work_no_request_for_the_others_waits_long(
    settings: Settings, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that does not name the partition would hold up its next records."""
    let_go = asyncio.Event()
    begun = asyncio.Event()

    class Blocked(Mood):
        async def see(self, records: Sequence[LogRecord]) -> None:
            begun.set()
            await let_go.wait()

    async with running(settings, source, copying(settings, source, Blocked())) as app:
        await until(lambda: app.is_ready)
        await produce(settings.kafka_brokers, source, 1)
        await begun.wait()
        waits = watch_fetches(app, monkeypatch)
        monkeypatch.setattr(app.consumer._thread, "_busy_at", float("-inf"))
        await until(lambda: len(waits) > 3)
        assert set(waits) == {BUSY_POLL_MS}
        let_go.set()
        await until(lambda: app.meter.total.emitted == 1)


def watch_fetches(app: RoleApp, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many milliseconds each request of the app's consumer may wait, from now on."""
    waits: list[int] = []
    client = app.consumer._thread._consumer._client
    send = client.send

    async def watched(node: int, request: Any, **options: Any) -> Any:
        if isinstance(request, FetchRequest):
            waits.append(request._max_wait_ms)
        return await send(node, request, **options)

    monkeypatch.setattr(client, "send", watched)
    return waits
