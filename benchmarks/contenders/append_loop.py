"""Append by hand: heads, one ordered insert, `.stored` and the offset in one transaction."""

from datetime import datetime
from typing import Any

import msgspec
from pymongo import AsyncMongoClient

from benchmarks.contenders.loop import Collection, Handle, Loop, Rows, collection, rows, split
from benchmarks.contenders.task import Task, run, task

CACHED = 100_000


class Wire(msgspec.Struct, omit_defaults=True):
    """An event on its way."""

    specversion: str
    id: str
    type: str
    source: str
    subject: str
    time: datetime
    data: dict[str, Any]
    schemaversion: int = 1
    version: int = 0
    position: str | None = None


decode = msgspec.json.Decoder(Wire).decode
encode = msgspec.json.Encoder().encode


class Append:
    """One partition. `heads`: the latest version of each aggregate."""

    def __init__(self, task: Task, partition: int, events: Collection) -> None:
        self.partition, self.events = partition, events
        self.target = (f"{task.domain}.stored", partition)
        self.heads: dict[str, int] = {}
        self.fresh = True

    async def __call__(self, records: list[Any]) -> Rows:
        wires = [decode(record.value) for record in records]
        await self.load({wire.subject for wire in wires} - self.heads.keys())
        if self.fresh:
            await self.check(records)
            self.fresh = False
        heads: dict[str, int] = {}
        documents, out = [], rows()
        for record, wire in zip(records, wires, strict=True):
            subject = wire.subject
            wire.version = heads[subject] = (heads.get(subject) or self.heads[subject]) + 1
            wire.position = f"0-{self.partition}-{record.offset}"
            documents.append(self.document(wire, record.offset))
            out[self.target].append((record.key, encode(wire)))
        await self.events.insert_many(documents, ordered=True)
        self.heads |= heads
        for _ in range(len(self.heads) - CACHED):
            del self.heads[next(iter(self.heads))]
        return out

    def document(self, wire: Wire, offset: int) -> dict[str, Any]:
        return {
            "_id": wire.id,
            "aggregate_id": wire.subject,
            "version": wire.version,
            "type": wire.type,
            "time": wire.time,
            "schema_version": wire.schemaversion,
            "data": wire.data,
            "epoch": 0,
            "partition": self.partition,
            "offset": offset,
        }

    async def load(self, subjects: set[str]) -> None:
        """The heads of these, in queries of some each."""
        self.heads |= dict.fromkeys(subjects, 0)
        for some in split(list(subjects)):
            pipeline: list[dict[str, Any]] = [
                {"$match": {"aggregate_id": {"$in": some}}},
                {"$sort": {"aggregate_id": -1, "version": -1}},
                {
                    "$group": {
                        "_id": "$aggregate_id",
                        "event_id": {"$first": "$_id"},
                        "version": {"$first": "$version"},
                        "offset": {"$first": "$offset"},
                    }
                },
            ]
            async for found in await self.events.aggregate(pipeline):
                self.heads[found["_id"]] = found["version"]

    async def check(self, records: list[Any]) -> None:
        """After a take-over: nothing else lies at these positions."""
        for some in split([record.offset for record in records]):
            wanted = {"epoch": 0, "partition": self.partition, "offset": {"$in": some}}
            found = self.events.find(wanted).sort([("offset", 1), ("version", 1)])
            if await found.to_list(None):
                raise RuntimeError("the positions are taken")


async def main(task: Task) -> None:
    async with AsyncMongoClient[dict[str, Any]](task.mongo_url, timeoutMS=10_000) as client:
        events = collection(task, client, "events")

        def handler(partition: int) -> Handle:
            return Append(task, partition, events)

        loop = Loop(task, handler)
        await loop.run()
    loop.tell(**{"write concern": "majority, journal"})


if __name__ == "__main__":
    run(main(task()))
