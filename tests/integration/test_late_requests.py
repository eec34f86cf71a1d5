"""Late requests of a transaction, on a real Kafka: nothing is doubled, torn or lost by them."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import TopicPartition

from eventfleet.stores.kafka import transactional_writer
from eventfleet.stores.kafka.admin import Admin
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.offsets import fetch_committed
from eventfleet.stores.kafka.transactional_writer import TransactionalWriter
from eventfleet.topics.names import Topics
from eventfleet.topics.topic_specs import TopicSpec
from tests.conftest import running
from tests.late_requests.batch import run_batch
from tests.late_requests.modes import MODES, Mode, Relay
from tests.late_requests.trial import Schedule
from tests.servers.frame_proxy import Api, FrameProxy, Way
from tests.servers.kafka import ProxiedKafka
from tests.servers.server import free_port

SEEDS = range(5)


@pytest.fixture(scope="module")
def proxied() -> Iterator[tuple[ProxiedKafka, FrameProxy]]:
    proxy = FrameProxy(free_port())
    with running(lambda: ProxiedKafka(proxy.address)) as kafka:
        proxy.start(kafka.behind)
        yield kafka, proxy
        proxy.stop()


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
async def test_nothing_is_doubled_torn_or_lost(
    mode: type[Mode], proxied: tuple[ProxiedKafka, FrameProxy], prefix: str
) -> None:
    kafka, proxy = proxied
    schedules = [Schedule.of(f"{mode.name} {seed}") for seed in SEEDS]
    reports = await run_batch(mode, prefix, schedules, kafka.address, proxy)
    assert [report for report in reports if report.faults] == []


async def test_the_drivers_own_sender_tears_transactions(
    proxied: tuple[ProxiedKafka, FrameProxy], prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keep_sender(producer: Any, seconds: float) -> Any:
        producer._sender.fence_unanswered = False
        return producer._sender

    monkeypatch.setattr(transactional_writer, "TransactionSender", keep_sender)
    kafka, proxy = proxied
    schedule = Schedule(Api.END_TXN, Way.HOLD_AND_CUT, Api.TXN_OFFSET_COMMIT, chunk=1)
    reports = await run_batch(Relay, prefix, [schedule] * 3, kafka.address, proxy, 0.1)
    assert sum(report.doubled for report in reports) > 0


async def test_an_owner_fenced_by_its_own_late_request_is_back_without_a_wait(
    proxied: tuple[ProxiedKafka, FrameProxy], prefix: str
) -> None:
    kafka, proxy = proxied
    schedule = Schedule(Api.INIT_PRODUCER_ID, Way.HOLD_AND_CUT, Api.END_TXN, chunk=1)
    [report] = await run_batch(Relay, prefix, [schedule], kafka.address, proxy)
    assert (report.faults, len(report.seconds)) == (0, 1)


async def test_a_stable_offset_is_not_read_while_it_may_change(
    proxied: tuple[ProxiedKafka, FrameProxy], prefix: str
) -> None:
    connection, topics = Connection(proxied[0].address, timeout=30), Topics.of(prefix, "")
    admin = Admin(connection)
    await admin.create([TopicSpec(topics.events, 1, 1)])
    await admin.close()
    writer = TransactionalWriter(connection, "g", topics.events, 0)
    await writer.open()
    producer = writer._producer
    read = (producer.client, "g", topics.events, [0])
    await producer.begin_transaction()
    await producer.send_offsets_to_transaction({TopicPartition(topics.events, 0): 7}, "g")
    assert await fetch_committed(*read) == {}
    reading = asyncio.create_task(fetch_committed(*read, stable=True))
    await asyncio.wait({reading}, timeout=1)
    assert not reading.done()
    await producer.commit_transaction()
    assert await reading == {0: 7}
    await writer.close()
