"""Hand-written append: heads, one ordered insert, `.stored` and the offset in one transaction."""

from datetime import datetime
from typing import Any

import msgspec
from pymongo import AsyncMongoClient

from benchmarks.contenders.loop import (
    ChunkHandler,
    Collection,
    HandWrittenLoop,
    OutputRecords,
    new_output,
    open_collection,
    split_for_queries,
)
from benchmarks.contenders.task import ContenderTask, read_task, run

MAX_CACHED_AGGREGATES = 100_000


class EventEnvelope(msgspec.Struct, omit_defaults=True):
    """An event as JSON in a topic."""

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


decode = msgspec.json.Decoder(EventEnvelope).decode
encode = msgspec.json.Encoder().encode


class AppendHandler:
    """Handles one partition; `heads` holds the latest version of each aggregate."""

    def __init__(self, task: ContenderTask, partition: int, events: Collection) -> None:
        self.partition, self.events = partition, events
        self.target = (f"{task.domain}.stored", partition)
        self.heads: dict[str, int] = {}
        self.is_first_chunk = True

    async def __call__(self, records: list[Any]) -> OutputRecords:
        envelopes = [decode(record.value) for record in records]
        await self.load_heads({envelope.subject for envelope in envelopes} - self.heads.keys())
        if self.is_first_chunk:
            await self.check_positions(records)
            self.is_first_chunk = False
        heads: dict[str, int] = {}
        documents, output = [], new_output()
        for record, envelope in zip(records, envelopes, strict=True):
            subject = envelope.subject
            envelope.version = heads[subject] = (heads.get(subject) or self.heads[subject]) + 1
            envelope.position = f"0-{self.partition}-{record.offset}"
            documents.append(self.make_document(envelope, record.offset))
            output[self.target].append((record.key, encode(envelope)))
        await self.events.insert_many(documents, ordered=True)
        self.heads |= heads
        for _ in range(len(self.heads) - MAX_CACHED_AGGREGATES):
            del self.heads[next(iter(self.heads))]
        return output

    def make_document(self, envelope: EventEnvelope, offset: int) -> dict[str, Any]:
        return {
            "_id": f"{envelope.subject}\0{envelope.id}",
            "aggregate_id": envelope.subject,
            "version": envelope.version,
            "type": envelope.type,
            "time": envelope.time,
            "schema_version": envelope.schemaversion,
            "data": envelope.data,
            "epoch": 0,
            "partition": self.partition,
            "offset": offset,
        }

    async def load_heads(self, subjects: set[str]) -> None:
        """Load the heads of these aggregates, some of them in each query."""
        self.heads |= dict.fromkeys(subjects, 0)
        for part in split_for_queries(list(subjects)):
            pipeline: list[dict[str, Any]] = [
                {"$match": {"aggregate_id": {"$in": part}}},
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

    async def check_positions(self, records: list[Any]) -> None:
        """Verify after a take-over that no other events have these positions."""
        for part in split_for_queries([record.offset for record in records]):
            wanted = {"epoch": 0, "partition": self.partition, "offset": {"$in": part}}
            found = self.events.find(wanted).sort([("offset", 1), ("version", 1)])
            if await found.to_list(None):
                raise RuntimeError("the positions are taken")


async def main(task: ContenderTask) -> None:
    async with AsyncMongoClient[dict[str, Any]](task.mongo_url, timeoutMS=10_000) as client:
        events = open_collection(task, client, "events")

        def handler(partition: int) -> ChunkHandler:
            return AppendHandler(task, partition, events)

        loop = HandWrittenLoop(task, handler)
        await loop.run()
    loop.write_result(**{"write concern": "majority, journal"})


if __name__ == "__main__":
    run(main(read_task()))
