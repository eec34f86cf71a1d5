"""Scenario pass-through: sum the lengths of all values of a topic and commit the offsets."""

import uuid

from benchmarks.contenders.task import ContenderTask
from benchmarks.scenario import Goal, Scenario, ServerAddresses, is_short
from eventfleet.stores.kafka.admin import Admin
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.producer import Producer
from eventfleet.topics.record import ProducerRecord
from eventfleet.topics.topic_specs import TopicSpec

PARTITIONS = 8
CHUNK_RECORDS = 2_000
VALUE_BYTES = 200
RECORDS = 400_000 if is_short() else 800_000
STOCK_FAUST = "stock Faust agent"
BARE = "bare aiokafka getmany"
PRODUCE_BATCH_RECORDS = 20_000

_topics: dict[tuple[str, int], str] = {}


async def prepare(servers: ServerAddresses, contender: str, repeat: int) -> ContenderTask:
    """Return a task with a group of its own on a shared topic; stock Faust gets a tenth as much."""
    records = RECORDS // 10 if contender == STOCK_FAUST else RECORDS
    topic = _topics.get((servers.kafka, records)) or await _fill_topic(servers, records)
    _topics[servers.kafka, records] = topic
    name = f"pass{uuid.uuid4().hex[:12]}"
    return ContenderTask(
        *servers,
        domain=name,
        topic=topic,
        group=name,
        partitions=PARTITIONS,
        records=records,
        chunk=CHUNK_RECORDS,
        database=name,
        extra={"value_bytes": records * VALUE_BYTES},
    )


async def _fill_topic(servers: ServerAddresses, records: int) -> str:
    topic = f"pass{uuid.uuid4().hex[:12]}.events"
    connection = Connection(servers.kafka)
    await Admin(connection).create([TopicSpec(topic, PARTITIONS, 1)])
    producer = Producer(connection)
    try:
        for first in range(0, records, PRODUCE_BATCH_RECORDS):
            numbers = range(first, min(first + PRODUCE_BATCH_RECORDS, records))
            await producer.produce([_make_record(topic, number) for number in numbers])
    finally:
        await producer.close()
    return topic


def _make_record(topic: str, number: int) -> ProducerRecord:
    value = b'{"number":%d,"text":"' % number
    filler = b"x" * (VALUE_BYTES - len(value) - 2)
    return ProducerRecord(topic, b"key-%d" % (number % 10_000), value + filler + b'"}', number % 8)


SCENARIO = Scenario(
    name="pass-through",
    unit="records/s",
    prepare=prepare,
    contenders={
        "eventfleet": "pass_ours",
        BARE: "pass_aiokafka",
        STOCK_FAUST: "pass_faust",
        "Quix Streams": "pass_quix",
        "FastStream batch subscriber": "pass_faststream",
    },
    goals=[Goal(STOCK_FAUST, at_least=12), Goal(BARE, "cpu", at_most=2.5)],
)
