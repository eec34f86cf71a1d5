"""Command: orders' commands, decided on the marker and answered."""

import uuid
from collections import Counter
from itertools import count

import orjson

from benchmarks.contenders.command_data import audit, begin, settings_of, shop, story
from benchmarks.contenders.task import Task
from benchmarks.scenario import Goal, Line, Servers, short
from eventfleet.runtime import connections
from eventfleet.topics.codec import encode
from eventfleet.topics.names import Topics, consumer_group

PARTITIONS = 4
CHUNK = 2_000
ORDERS = 5_000 if short() else 10_000
LOOP = "hand-written loop"

_runs = count(1)


async def prepare(servers: Servers, side: str, repeat: int) -> Task:
    """A fifth of the orders' commands are events already; the rest wait."""
    name = f"shop{uuid.uuid4().hex[:8]}-{next(_runs):03}"
    told = story(name, ORDERS)
    task = Task(
        servers.kafka,
        servers.mongo_url,
        servers.redis_url,
        domain=name,
        topic=Topics.of(name).commands,
        group=consumer_group("eventfleet", name, "command"),
        partitions=PARTITIONS,
        records=len(told.commands),
        chunk=CHUNK,
        database=name,
        more={
            "check": sum(len(encode(command)) for command in told.commands),
            "events": len(told.events),
            "outcomes": dict(told.outcomes),
        },
    )
    await begin(task, shop(name), told.events, told.commands)
    return task


async def verify(servers: Servers, task: Task) -> None:
    """Each command has the answer it must have, and append makes of the events what it must."""
    settings = settings_of(task)
    answers = await _answers(task)
    if answers != Counter(task.more["outcomes"]):
        raise RuntimeError(f"answered {answers}, it had to be {task.more['outcomes']}")
    stored = await audit(settings, shop(task.domain))
    expected = task.more["events"] + answers["accepted"]
    if stored != expected:
        raise RuntimeError(f"{stored} events are stored, it had to be {expected}")


async def _answers(task: Task) -> Counter[str]:
    found: Counter[str] = Counter()
    topic = Topics.of(task.domain).replies
    async with connections.log_reader(settings_of(task)) as reader:
        for partition, bounds in (await reader.watermarks(topic)).items():
            async for record in reader.read(topic, partition, bounds.oldest, bounds.end):
                found[orjson.loads(record.value or b"")["outcome"]] += 1
    return found


LINE = Line(
    name="command",
    unit="commands/s",
    prepare=prepare,
    sides={"eventfleet": "command_ours", LOOP: "command_loop"},
    goals=[Goal(LOOP, at_least=0.8), Goal(LOOP, "cpu", at_most=1.3)],
    verify=verify,
)
