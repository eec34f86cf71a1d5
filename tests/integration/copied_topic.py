"""A topic that a role copies, and what tests of the transport ask of it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from eventfleet.runtime.settings import Settings
from eventfleet.stores.contracts import Watermarks
from eventfleet.stores.kafka.admin import Admin
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.producer import Producer
from eventfleet.stores.kafka.reader import Reader
from eventfleet.topics.names import consumer_group
from eventfleet.topics.record import LogRecord, ProducerRecord
from eventfleet.topics.topic_specs import TopicSpec
from eventfleet.workers.app import RoleApp
from eventfleet.workers.app_runner import role_app, run_apps
from eventfleet.workers.metrics import Metrics
from eventfleet.workers.owner import OwnerState, RoleFactory
from eventfleet.workers.owner_outage import OwnerTimeouts
from eventfleet.workers.worker_log import KafkaLog
from tests.integration.copy_role import ROLE, CopyAgent

PARTITIONS = 4
BOUND = 60


@pytest.fixture
def settings(kafka: str) -> Settings:
    return Settings(kafka_brokers=kafka, chunk_records=100, kafka_session_timeout=6)


@pytest.fixture
async def source(kafka: str, prefix: str) -> str:
    return await topics(kafka, prefix)


async def topics(kafka: str, name: str) -> str:
    """A topic, made with the one that it is copied to."""
    admin = Admin(Connection(kafka))
    await admin.create([TopicSpec(made, PARTITIONS, 1) for made in (name, f"{name}.copy")])
    await admin.close()
    return name


async def produce(kafka: str, topic: str, count: int, start: int = 0) -> None:
    writer = Producer(Connection(kafka))
    values = range(start, start + count)
    await writer.produce([ProducerRecord(topic, None, b"%d" % n, n % PARTITIONS) for n in values])
    await writer.close()


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    async with asyncio.timeout(BOUND):
        while True:
            met = condition()
            if met if isinstance(met, bool) else await met:
                return
            await asyncio.sleep(0.02)


async def read(kafka: str, topic: str) -> list[LogRecord]:
    reader = Reader(Connection(kafka))
    bounds: dict[int, Watermarks] = await reader.watermarks(topic)
    records = [
        record
        for partition, bound in bounds.items()
        async for record in reader.read(topic, partition, bound.oldest, bound.end)
    ]
    await reader.close()
    return records


async def committed(settings: Settings, topic: str) -> int:
    reader = Reader(Connection(settings.kafka_brokers))
    offsets = await reader.committed(consumer_group(settings.group_prefix, topic, ROLE), topic)
    await reader.close()
    return sum(offsets.values())


async def assert_copied_once(kafka: str, topic: str) -> None:
    """The copy holds each record of the topic once, in the order of its partition."""
    wanted = [(r.partition, r.value) for r in await read(kafka, topic)]
    copied = [(r.partition, r.value) for r in await read(kafka, f"{topic}.copy")]
    assert Counter(copied) == Counter(wanted)
    assert copied == wanted


@asynccontextmanager
async def running(
    settings: Settings, source: str, make: RoleFactory, timeouts: OwnerTimeouts | None = None
) -> AsyncIterator[RoleApp]:
    """An app at work; at the end it is stopped, and what ended it before is raised."""
    connection = Connection(settings.kafka_brokers)
    agent = CopyAgent(settings, source, make)
    app = role_app(settings, KafkaLog(connection), agent, Metrics(), timeouts)
    stop = asyncio.Event()
    work = asyncio.create_task(run_apps([app], stop))
    try:
        yield app
    finally:
        stop.set()
        await work


def stopped(app: RoleApp) -> list[int]:
    return [owner.partition for owner in app.owners if owner.state is OwnerState.STOPPED]
