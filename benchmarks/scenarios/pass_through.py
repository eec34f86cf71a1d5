"""Pass-through: each side sums the length of every value of a topic and commits its offsets."""

import uuid

from benchmarks.contenders.task import Task
from benchmarks.scenario import Goal, Line, Servers, short
from eventfleet.stores.kafka.admin import Admin
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.producer import Producer
from eventfleet.topics.record import ProducerRecord
from eventfleet.topics.topic_specs import TopicSpec

PARTITIONS = 8
CHUNK = 2_000
VALUE_BYTES = 200
RECORDS = 400_000 if short() else 800_000
SLOW = "stock Faust agent"
BARE = "bare aiokafka getmany"
BATCH = 20_000

_topics: dict[tuple[str, int], str] = {}


async def prepare(servers: Servers, side: str, repeat: int) -> Task:
    """A group of its own on a topic that sides share; the slow one gets a tenth of the records."""
    records = RECORDS // 10 if side == SLOW else RECORDS
    topic = _topics.get((servers.kafka, records)) or await _filled(servers, records)
    _topics[servers.kafka, records] = topic
    name = f"pass{uuid.uuid4().hex[:12]}"
    return Task(
        servers.kafka,
        servers.mongo_url,
        servers.redis_url,
        domain=name,
        topic=topic,
        group=name,
        partitions=PARTITIONS,
        records=records,
        chunk=CHUNK,
        database=name,
        more={"check": records * VALUE_BYTES},
    )


async def _filled(servers: Servers, records: int) -> str:
    topic = f"pass{uuid.uuid4().hex[:12]}.events"
    connection = Connection(servers.kafka)
    await Admin(connection).create([TopicSpec(topic, PARTITIONS, 1)])
    producer = Producer(connection)
    try:
        for first in range(0, records, BATCH):
            numbers = range(first, min(first + BATCH, records))
            await producer.produce([_record(topic, number) for number in numbers])
    finally:
        await producer.close()
    return topic


def _record(topic: str, number: int) -> ProducerRecord:
    value = b'{"number":%d,"text":"' % number
    filler = b"x" * (VALUE_BYTES - len(value) - 2)
    return ProducerRecord(topic, b"key-%d" % (number % 10_000), value + filler + b'"}', number % 8)


LINE = Line(
    name="pass-through",
    unit="records/s",
    prepare=prepare,
    sides={
        "eventfleet": "pass_ours",
        BARE: "pass_aiokafka",
        SLOW: "pass_faust",
        "Quix Streams": "pass_quix",
        "FastStream batch subscriber": "pass_faststream",
    },
    goals=[Goal(SLOW, at_least=12), Goal(BARE, "cpu", at_most=2.5)],
)
