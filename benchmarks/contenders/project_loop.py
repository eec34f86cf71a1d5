"""Hand-written projection: rows in memory, one bulk of guarded replacements, then the offset."""

from datetime import datetime
from typing import Any

import msgspec
from pymongo import AsyncMongoClient, ReplaceOne
from pymongo.errors import BulkWriteError

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
from benchmarks.data import EVENTS, AccountRow, project_account

MAX_CACHED_ROWS = 100_000
DUPLICATE_KEY = 11000


class ProjectedEnvelope(msgspec.Struct):
    """An event as JSON in a topic; its data is decoded as its type requires."""

    specversion: str
    id: str
    type: str
    source: str
    subject: str
    time: datetime
    data: msgspec.Raw
    version: int
    position: str
    schemaversion: int = 1


class LoopEvent:
    """What the user's own function takes of an event."""

    __slots__ = ("data", "time")

    def __init__(self, data: Any, time: datetime) -> None:
        self.data, self.time = data, time


decode = msgspec.json.Decoder(ProjectedEnvelope).decode
payload_decoders = {kind.__name__: msgspec.json.Decoder(kind).decode for kind in EVENTS}


class ProjectHandler:
    """Handles one partition."""

    def __init__(self, rows: Collection) -> None:
        self.rows = rows
        self.cached: dict[str, tuple[AccountRow | None, int]] = {}

    async def __call__(self, records: list[Any]) -> OutputRecords:
        envelopes = [decode(record.value) for record in records]
        keys = dict.fromkeys(envelope.subject for envelope in envelopes)
        await self.load([key for key in keys if key not in self.cached])
        changed: dict[str, ProjectedEnvelope] = {}
        for envelope in envelopes:
            row, version = self.cached[envelope.subject]
            if envelope.version > version:
                payload = payload_decoders[envelope.type](envelope.data)
                row = project_account(row, LoopEvent(payload, envelope.time))
                self.cached[envelope.subject] = row, envelope.version
                changed[envelope.subject] = envelope
        await self.save(changed)
        for _ in range(len(self.cached) - MAX_CACHED_ROWS):
            del self.cached[next(iter(self.cached))]
        return new_output()

    async def load(self, missing: list[str]) -> None:
        self.cached |= dict.fromkeys(missing, (None, 0))
        for keys in split_for_queries(missing):
            for found in await self.rows.find({"_id": {"$in": keys}}).to_list(None):
                row = msgspec.convert(found["row"], AccountRow)
                self.cached[found["_id"]] = row, found["version"]

    async def save(self, changed: dict[str, ProjectedEnvelope]) -> None:
        requests = []
        for key, envelope in changed.items():
            row, version = self.cached[key]
            document = {
                "version": version,
                "position": envelope.position,
                "time": envelope.time,
                "row": msgspec.to_builtins(row, builtin_types=(datetime,)),
            }
            earlier = {"_id": key, "version": {"$lt": version}}
            requests.append(ReplaceOne(earlier, document, upsert=True))
        try:
            await self.rows.bulk_write(requests, ordered=False)
        except BulkWriteError as error:
            if any(each["code"] != DUPLICATE_KEY for each in error.details["writeErrors"]):
                raise


async def main(task: ContenderTask) -> None:
    async with AsyncMongoClient[dict[str, Any]](task.mongo_url, timeoutMS=60_000) as client:
        rows = open_collection(task, client, "rows")

        def handler(partition: int) -> ChunkHandler:
            return ProjectHandler(rows)

        loop = HandWrittenLoop(task, handler)
        await loop.run()
    loop.write_result(**{"write concern": "majority, journal"})


if __name__ == "__main__":
    run(main(read_task()))
