"""Hand-written command role: mark in Redis, produce, confirm, reply; only the domain is ours.

A chunk is settled in rounds, one command of each aggregate a round. It makes every read and
write of our role; the handling of contention (another's pending mark) is left out: it would end the
run.
"""

import asyncio
from collections import deque
from hashlib import sha1
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from aiokafka import AIOKafkaProducer
from pymongo import AsyncMongoClient

from benchmarks.contenders.command_guard import LoopLagGuard
from benchmarks.contenders.command_scripts import CONFIRM_SCRIPT, MARK_SCRIPT, RedisPool
from benchmarks.contenders.loop import (
    HEADERS,
    ChunkHandler,
    Collection,
    HandWrittenLoop,
    OutputRecords,
    new_output,
    open_collection,
    split_for_queries,
)
from benchmarks.contenders.task import ContenderTask, read_task, run
from eventfleet.domains.orders import commands as shop_commands

ID_NAMESPACE = UUID("6f1c7c52-4f3e-5d0c-9a57-2f6f0f2f7a11").bytes
NEWEST_FIRST = {"aggregate_id": -1, "version": -1}
EXPIRY_SECONDS, LEASE_SECONDS, ID_MEMORY_MS = 3600, 5, 3_600_000


class CommandRecord(msgspec.Struct):
    """A command as JSON in a topic, its payload undecoded."""

    specversion: str
    id: str
    type: str
    source: str
    subject: str
    time: str
    data: msgspec.Raw
    schemaversion: int = 1
    correlationid: str | None = None
    causationid: str | None = None
    actor: str | None = None
    traceparent: str | None = None
    replyto: str | None = None


class EventEnvelope(msgspec.Struct, omit_defaults=True):
    """The event that a command becomes, in the same envelope; `prev` is added later."""

    id: str
    type: str
    source: str
    subject: str
    time: str
    data: Any
    correlationid: str
    causationid: str
    schemaversion: int = 1
    actor: str | None = None
    traceparent: str | None = None
    replyto: str | None = None
    specversion: str = msgspec.UNSET  # type: ignore[assignment]


class LoopRule(NamedTuple):
    """A command's event type, decoder, and the types of events that it may follow."""

    event: str
    schema: int
    decoder: msgspec.json.Decoder[Any]
    allowed: tuple[str, ...]


class LatestEvent(NamedTuple):
    """The latest event of an aggregate."""

    type: str
    event_id: str


class LoopCommand:
    """A command of a chunk and its reply, once it has one."""

    def __init__(self, key: bytes, envelope: CommandRecord, domain: str) -> None:
        self.key, self.envelope, self.rule = key, envelope, RULES[envelope.type]
        self.subject = envelope.subject
        self.id = event_id(domain, envelope.subject, envelope.id)
        self.document_id = f"{envelope.subject}\0{self.id}"
        self.head: LatestEvent | None = None
        self.reply: dict[str, Any] | None = None
        event = EventEnvelope(
            self.id,
            self.rule.event,
            domain,
            envelope.subject,
            envelope.time,
            self.rule.decoder.decode(envelope.data),
            envelope.correlationid or envelope.id,
            envelope.causationid or envelope.id,
            self.rule.schema,
            envelope.actor,
            envelope.traceparent,
            envelope.replyto,
            "1.0",
        )
        self.value = encode(event)


RULES = {
    rule.name: LoopRule(
        rule.type,
        2 if rule.type == "Placed" else 1,
        msgspec.json.Decoder(rule.command),
        tuple(rule.allowed or ()),
    )
    for rule in shop_commands
}
decode = msgspec.json.Decoder(CommandRecord).decode
encode = msgspec.json.Encoder().encode


def event_id(domain: str, aggregate_id: str, command_id: str) -> str:
    """Return the UUIDv5 of a command's event."""
    digest = sha1(ID_NAMESPACE + f"{domain}\0{aggregate_id}\0{command_id}\x000".encode()).digest()
    number = int.from_bytes(digest[:16], "big")
    number = number & ~(0xF000 << 64) | 5 << 76
    text = f"{number & ~(0xC000 << 48) | 0x8000 << 48:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class CommandDecider:
    """Decides chunks of any partition."""

    def __init__(
        self, task: ContenderTask, events: Collection, redis: RedisPool, producer: Any
    ) -> None:
        self._domain, self._events, self._redis, self._producer = (
            task.domain,
            events,
            redis,
            producer,
        )
        self.guard = LoopLagGuard(task, redis)
        self._topic, self._replies = f"{task.domain}.events", f"{task.domain}.replies"

    async def decide_chunk(self, partition: int, records: list[Any]) -> OutputRecords:
        domain = self._domain
        commands = [LoopCommand(record.key, decode(record.value), domain) for record in records]
        await self.settle(partition, commands)
        output = new_output()
        output[self._replies, partition] = [(c.key, encode(c.reply)) for c in commands]
        return output

    async def settle(self, partition: int, commands: list[LoopCommand]) -> None:
        """Decide commands until each has a reply."""
        queues: dict[str, deque[LoopCommand]] = {}
        for command in commands:
            queues.setdefault(command.subject, deque()).append(command)
        while queues:
            await self._settle_round(partition, [queue[0] for queue in queues.values()])
            for queue in queues.values():
                if queue[0].reply:
                    queue.popleft()
            queues = {subject: queue for subject, queue in queues.items() if queue}

    async def _settle_round(self, partition: int, batch: list[LoopCommand]) -> None:
        await self.guard.read_incarnation()
        self.guard.check(partition)
        unchecked = [command for command in batch if command.head is None]
        found = await self._find_events([command.document_id for command in unchecked])
        for command in unchecked:
            if command.document_id in found:
                self._set_reply(command, partition, "repeated")
        batch = [command for command in batch if not command.reply]
        marks = await self._redis.run(MARK_SCRIPT, [self._mark_call(command) for command in batch])
        marked, missing = [], []
        for command, mark in zip(batch, marks, strict=True):
            match mark[0]:
                case b"ok":
                    marked.append((command, mark[1]))
                case b"missing":
                    missing.append(command)
                case b"again":
                    command.head = None
                case b"rejected":
                    self._reject(command, mark[1].decode())
                case b"done":
                    self._set_reply(command, partition, "repeated")
                case other:
                    raise RuntimeError(f"{command.id}: {other!r}")
        await asyncio.gather(
            self._produce_and_confirm(partition, marked),
            self._load_heads(partition, missing),
        )

    def _mark_call(self, command: LoopCommand) -> tuple[Any, ...]:
        head = command.head or ("", "")
        return (
            *self._redis_keys(command),
            *(
                self._redis.run_id,
                self.guard.incarnation,
                self.guard.now,
                EXPIRY_SECONDS,
                LEASE_SECONDS,
                ID_MEMORY_MS,
            ),
            *(command.id, command.rule.event, command.value),
            *(int(command.head is not None), *head, *command.rule.allowed),
        )

    def _redis_keys(self, command: LoopCommand) -> tuple[str, str, str]:
        domain = self._domain
        return "life", f"marker:{domain}:{command.subject}", f"done:{domain}:{command.id}"

    async def _find_events(self, ids: list[str]) -> dict[str, Any]:
        finds = [
            self._events.find({"_id": {"$in": part}}).to_list(None)
            for part in split_for_queries(ids)
        ]
        return {event["_id"]: event for part in await asyncio.gather(*finds) for event in part}

    async def _load_heads(self, partition: int, missing: list[LoopCommand]) -> None:
        """Load the latest event of each aggregate, then look up the commands' own ids again."""
        if not missing:
            return
        self.guard.check(partition)
        id_parts = split_for_queries([command.subject for command in missing])
        heads = [
            head
            for part in await asyncio.gather(*map(self._query_heads, id_parts))
            for head in part
        ]
        latest = await self._find_events([head["event_id"] for head in heads])
        found = await self._find_events([command.document_id for command in missing])
        stored_heads = {
            head["_id"]: LatestEvent(
                latest[head["event_id"]]["type"], head["event_id"].rpartition("\0")[2]
            )
            for head in heads
        }
        for command in missing:
            if command.document_id in found:
                self._set_reply(command, partition, "repeated")
            command.head = stored_heads.get(command.subject, LatestEvent("", ""))

    async def _query_heads(self, subjects: list[str]) -> list[dict[str, Any]]:
        newest = {"event_id": {"$first": "$_id"}, "version": {"$first": "$version"}}
        pipeline: list[dict[str, Any]] = [
            {"$match": {"aggregate_id": {"$in": subjects}}},
            {"$sort": NEWEST_FIRST},
            {"$group": {"_id": "$aggregate_id", **newest, "offset": {"$first": "$offset"}}},
        ]
        return await (await self._events.aggregate(pipeline)).to_list(None)

    async def _produce_and_confirm(
        self, partition: int, marked: list[tuple[LoopCommand, bytes]]
    ) -> None:
        if not marked:
            return
        values = [(c.key, c.value[:-1] + b',"prev":"' + prev + b'"}') for c, prev in marked]
        await self._send(partition, values)
        incarnation, run_id = self.guard.incarnation, self._redis.run_id
        calls = [
            (
                *self._redis_keys(c),
                run_id,
                incarnation,
                c.id,
                prev,
                EXPIRY_SECONDS * 1000,
                ID_MEMORY_MS,
            )
            for c, prev in marked
        ]
        confirmed = await self._redis.run(CONFIRM_SCRIPT, calls)
        for (command, _), is_confirmed in zip(marked, confirmed, strict=True):
            if not is_confirmed:
                raise RuntimeError(f"{command.id}: its mark is lost")
            self._set_reply(command, partition, "accepted")

    async def _send(self, partition: int, values: list[tuple[bytes, bytes]]) -> None:
        sent, batch = [], self._producer.create_batch()
        for key, value in values:
            if batch.append(timestamp=None, key=key, value=value, headers=HEADERS) is None:
                sent.append(
                    await self._producer.send_batch(batch, self._topic, partition=partition)
                )
                batch = self._producer.create_batch()
                batch.append(timestamp=None, key=key, value=value, headers=HEADERS)
        sent.append(await self._producer.send_batch(batch, self._topic, partition=partition))
        await asyncio.gather(*sent)

    def _set_reply(self, command: LoopCommand, partition: int, outcome: str) -> None:
        position = f"{self._topic}/{partition}"
        command.reply = make_reply(command, outcome) | {"event_id": command.id, "place": position}

    def _reject(self, command: LoopCommand, marked: str) -> None:
        allowed = ", ".join(sorted(kind or "no event" for kind in command.rule.allowed))
        reason = f"{command.rule.event} may follow {allowed}, not {marked or 'no event'}"
        command.reply = make_reply(command, "rejected") | {"reason": reason, "marked": marked}


def make_reply(command: LoopCommand, outcome: str) -> dict[str, Any]:
    envelope = command.envelope
    return {
        "command_id": envelope.id,
        "command": envelope.type,
        "aggregate_id": envelope.subject,
        "outcome": outcome,
        "reply_to": envelope.replyto,
        "correlation_id": envelope.correlationid,
    }


async def main(task: ContenderTask) -> None:
    redis = await RedisPool.open(task.redis_url, task.partitions)
    producer = AIOKafkaProducer(bootstrap_servers=task.kafka, acks="all", max_batch_size=950_000)
    await producer.start()
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(task.mongo_url)
    decider = CommandDecider(task, open_collection(task, client, "events"), redis, producer)

    def handler(partition: int) -> ChunkHandler:
        async def handle(records: list[Any]) -> OutputRecords:
            return await decider.decide_chunk(partition, records)

        return handle

    loop = HandWrittenLoop(task, handler)
    async with decider.guard:
        await loop.run()
    await producer.stop()
    redis.close()
    await client.close()
    loop.write_result(marker="EVALSHA in pipelines", **{"read concern": "majority"})


if __name__ == "__main__":
    run(main(read_task()))
