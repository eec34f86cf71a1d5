"""Command by hand: check and note in Redis, produce, clear, answer; nothing of ours but the shop.

A chunk goes in rounds, one command of each aggregate a round. Every read and write of our role is
made; what only contention needs (another's note) is not written out: it would end the run.
"""

import asyncio
from collections import deque
from hashlib import sha1
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from aiokafka import AIOKafkaProducer
from pymongo import AsyncMongoClient

from benchmarks.contenders.command_guard import Guard
from benchmarks.contenders.command_scripts import CONFIRM, MARK, Pipes
from benchmarks.contenders.loop import (
    HEADERS,
    Collection,
    Handle,
    Loop,
    Rows,
    collection,
    rows,
    split,
)
from benchmarks.contenders.task import Task, run, task
from eventfleet.domains.orders import commands as shop_commands

IDS = UUID("6f1c7c52-4f3e-5d0c-9a57-2f6f0f2f7a11").bytes
NEWEST = {"aggregate_id": -1, "version": -1}
EXPIRY, LEASE, MEMORY = 3600, 5, 3_600_000


class Wire(msgspec.Struct):
    """A command on its way, its payload unread."""

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


class Made(msgspec.Struct, omit_defaults=True):
    """The event that a command becomes, in the same envelope; `prev` comes later."""

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


class Rule(NamedTuple):
    """What a command becomes, how it is read, and after which types it may come."""

    event: str
    schema: int
    decoder: msgspec.json.Decoder[Any]
    allowed: tuple[str, ...]


class Basis(NamedTuple):
    """The latest event of an aggregate."""

    type: str
    event_id: str


class Command:
    """One command of a chunk."""

    def __init__(self, key: bytes, wire: Wire, domain: str) -> None:
        self.key, self.wire, self.rule = key, wire, RULES[wire.type]
        self.subject = wire.subject
        self.id = event_id(domain, wire.subject, wire.id)
        self.basis: Basis | None = None
        self.answer: dict[str, Any] | None = None
        made = Made(
            self.id,
            self.rule.event,
            domain,
            wire.subject,
            wire.time,
            self.rule.decoder.decode(wire.data),
            wire.correlationid or wire.id,
            wire.causationid or wire.id,
            self.rule.schema,
            wire.actor,
            wire.traceparent,
            wire.replyto,
            "1.0",
        )
        self.value = encode(made)


RULES = {
    rule.name: Rule(
        rule.type,
        2 if rule.type == "Placed" else 1,
        msgspec.json.Decoder(rule.command),
        tuple(rule.allowed or ()),
    )
    for rule in shop_commands
}
decode = msgspec.json.Decoder(Wire).decode
encode = msgspec.json.Encoder().encode


def event_id(domain: str, aggregate_id: str, command_id: str) -> str:
    """UUIDv5, by hand."""
    digest = sha1(IDS + f"{domain}\0{aggregate_id}\0{command_id}\x000".encode()).digest()
    number = int.from_bytes(digest[:16], "big")
    number = number & ~(0xF000 << 64) | 5 << 76
    h = f"{number & ~(0xC000 << 48) | 0x8000 << 48:032x}"
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


class Shop:
    """Decides chunks of any partition."""

    def __init__(self, task: Task, events: Collection, pipes: Pipes, producer: Any) -> None:
        self._domain, self._events, self._pipes, self._producer = (
            task.domain,
            events,
            pipes,
            producer,
        )
        self.guard = Guard(task, pipes)
        self._topic, self._replies = f"{task.domain}.events", f"{task.domain}.replies"

    async def decide(self, partition: int, records: list[Any]) -> Rows:
        domain = self._domain
        commands = [Command(record.key, decode(record.value), domain) for record in records]
        await self.settle(partition, commands)
        out = rows()
        out[self._replies, partition] = [(c.key, encode(c.answer)) for c in commands]
        return out

    async def settle(self, partition: int, commands: list[Command]) -> None:
        """Each then has its answer."""
        waiting: dict[str, deque[Command]] = {}
        for command in commands:
            waiting.setdefault(command.subject, deque()).append(command)
        while waiting:
            await self._round(partition, [line[0] for line in waiting.values()])
            for line in waiting.values():
                if line[0].answer:
                    line.popleft()
            waiting = {subject: line for subject, line in waiting.items() if line}

    async def _round(self, partition: int, turn: list[Command]) -> None:
        await self.guard.see()
        self.guard.check(partition)
        looked = [command for command in turn if command.basis is None]
        found = await self._find([command.id for command in looked])
        for command in looked:
            if command.id in found:
                self._answer(command, partition, "repeated")
        turn = [command for command in turn if not command.answer]
        marks = await self._pipes.run(MARK, [self._mark(command) for command in turn])
        noted, missing = [], []
        for command, mark in zip(turn, marks, strict=True):
            match mark[0]:
                case b"ok":
                    noted.append((command, mark[1]))
                case b"missing":
                    missing.append(command)
                case b"again":
                    command.basis = None
                case b"rejected":
                    self._reject(command, mark[1].decode())
                case b"done":
                    self._answer(command, partition, "repeated")
                case other:
                    raise RuntimeError(f"{command.id}: {other!r}")
        await asyncio.gather(self._produce(partition, noted), self._base(partition, missing))

    def _mark(self, command: Command) -> tuple[Any, ...]:
        basis = command.basis or ("", "")
        return (
            *self._keys(command),
            *(self._pipes.run_id, self.guard.incarnation, self.guard.now, EXPIRY, LEASE, MEMORY),
            *(command.id, command.rule.event, command.value),
            *(int(command.basis is not None), *basis, *command.rule.allowed),
        )

    def _keys(self, command: Command) -> tuple[str, str, str]:
        domain = self._domain
        return "life", f"marker:{domain}:{command.subject}", f"done:{domain}:{command.id}"

    async def _find(self, ids: list[str]) -> dict[str, Any]:
        finds = [self._events.find({"_id": {"$in": some}}).to_list(None) for some in split(ids)]
        return {event["_id"]: event for some in await asyncio.gather(*finds) for event in some}

    async def _base(self, partition: int, missing: list[Command]) -> None:
        """The latest event of each, as the store has it; then the own ids again."""
        if not missing:
            return
        self.guard.check(partition)
        parts = split([command.subject for command in missing])
        heads = [head for some in await asyncio.gather(*map(self._heads, parts)) for head in some]
        latest = await self._find([head["event_id"] for head in heads])
        found = await self._find([command.id for command in missing])
        bases = {
            head["_id"]: Basis(latest[head["event_id"]]["type"], head["event_id"]) for head in heads
        }
        for command in missing:
            if command.id in found:
                self._answer(command, partition, "repeated")
            command.basis = bases.get(command.subject, Basis("", ""))

    async def _heads(self, subjects: list[str]) -> list[dict[str, Any]]:
        newest = {"event_id": {"$first": "$_id"}, "version": {"$first": "$version"}}
        pipeline: list[dict[str, Any]] = [
            {"$match": {"aggregate_id": {"$in": subjects}}},
            {"$sort": NEWEST},
            {"$group": {"_id": "$aggregate_id", **newest, "offset": {"$first": "$offset"}}},
        ]
        return await (await self._events.aggregate(pipeline)).to_list(None)

    async def _produce(self, partition: int, noted: list[tuple[Command, bytes]]) -> None:
        if not noted:
            return
        values = [(c.key, c.value[:-1] + b',"prev":"' + prev + b'"}') for c, prev in noted]
        await self._send(partition, values)
        life, run_id = self.guard.incarnation, self._pipes.run_id
        notes = [
            (*self._keys(c), run_id, life, c.id, prev, EXPIRY * 1000, MEMORY) for c, prev in noted
        ]
        cleared = await self._pipes.run(CONFIRM, notes)
        for (command, _), clear in zip(noted, cleared, strict=True):
            if not clear:
                raise RuntimeError(f"{command.id}: its note is lost")
            self._answer(command, partition, "accepted")

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

    def _answer(self, command: Command, partition: int, outcome: str) -> None:
        place = f"{self._topic}/{partition}"
        command.answer = told(command, outcome) | {"event_id": command.id, "place": place}

    def _reject(self, command: Command, marked: str) -> None:
        allowed = ", ".join(sorted(kind or "no event" for kind in command.rule.allowed))
        reason = f"{command.rule.event} may follow {allowed}, not {marked or 'no event'}"
        command.answer = told(command, "rejected") | {"reason": reason, "marked": marked}


def told(command: Command, outcome: str) -> dict[str, Any]:
    wire = command.wire
    return {
        "command_id": wire.id,
        "command": wire.type,
        "aggregate_id": wire.subject,
        "outcome": outcome,
        "reply_to": wire.replyto,
        "correlation_id": wire.correlationid,
    }


async def main(task: Task) -> None:
    pipes = await Pipes.opened(task.redis_url, task.partitions)
    producer = AIOKafkaProducer(bootstrap_servers=task.kafka, acks="all", max_batch_size=950_000)
    await producer.start()
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(task.mongo_url)
    shop = Shop(task, collection(task, client, "events"), pipes, producer)

    def handler(partition: int) -> Handle:
        async def handle(records: list[Any]) -> Rows:
            return await shop.decide(partition, records)

        return handle

    loop = Loop(task, handler)
    async with shop.guard:
        await loop.run()
    await producer.stop()
    pipes.close()
    await client.close()
    loop.tell(marker="EVALSHA in pipelines", **{"read concern": "majority"})


if __name__ == "__main__":
    run(main(task()))
