"""Scenario command: orders' commands, decided on the marker and replied to."""

import uuid
from collections import Counter
from itertools import count

import orjson

from benchmarks.contenders.command_data import (
    append_and_audit,
    declare_shop,
    make_dataset,
    make_settings,
    set_up_domain,
)
from benchmarks.contenders.task import ContenderTask
from benchmarks.scenario import Goal, Scenario, ServerAddresses, is_short
from eventfleet.runtime import connections
from eventfleet.topics.codec import encode
from eventfleet.topics.names import Topics, consumer_group

PARTITIONS = 4
CHUNK_RECORDS = 2_000
ORDERS = 5_000 if is_short() else 10_000
HAND_WRITTEN = "hand-written loop"

_run_numbers = count(1)


async def prepare(servers: ServerAddresses, contender: str, repeat: int) -> ContenderTask:
    """Append a fifth of the commands as events, and produce the rest."""
    name = f"shop{uuid.uuid4().hex[:8]}-{next(_run_numbers):03}"
    dataset = make_dataset(name, ORDERS)
    task = ContenderTask(
        *servers,
        domain=name,
        topic=Topics.of(name, "").commands,
        group=consumer_group("eventfleet", name, "command"),
        partitions=PARTITIONS,
        records=len(dataset.commands),
        chunk=CHUNK_RECORDS,
        database=name,
        extra={
            "value_bytes": sum(len(encode(command)) for command in dataset.commands),
            "events": len(dataset.events),
            "outcomes": dict(dataset.outcomes),
        },
    )
    await set_up_domain(task, declare_shop(name), dataset.events, dataset.commands)
    return task


async def verify(servers: ServerAddresses, task: ContenderTask) -> None:
    """Raise RuntimeError unless replies and stored events are as expected."""
    settings = make_settings(task)
    replies = await _count_replies(task)
    if replies != Counter(task.extra["outcomes"]):
        raise RuntimeError(f"answered {replies}, expected {task.extra['outcomes']}")
    stored = await append_and_audit(settings, declare_shop(task.domain))
    expected = task.extra["events"] + replies["accepted"]
    if stored != expected:
        raise RuntimeError(f"{stored} events are stored, expected {expected}")


async def _count_replies(task: ContenderTask) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    topic = Topics.of(task.domain, "").replies
    async with connections.log_reader(make_settings(task)) as reader:
        for partition, bounds in (await reader.watermarks(topic)).items():
            async for record in reader.read(topic, partition, bounds.oldest, bounds.end):
                outcomes[orjson.loads(record.value or b"")["outcome"]] += 1
    return outcomes


SCENARIO = Scenario(
    name="command",
    unit="commands/s",
    prepare=prepare,
    contenders={"eventfleet": "command_ours", HAND_WRITTEN: "command_loop"},
    goals=[Goal(HAND_WRITTEN, at_least=0.8), Goal(HAND_WRITTEN, "cpu", at_most=1.3)],
    verify=verify,
)
