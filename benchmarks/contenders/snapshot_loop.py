"""Hand-written snapshot: states in memory, one bulk of due snapshots, the topic and the offset in
one transaction."""

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson
from pymongo import AsyncMongoClient, DeleteOne

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
from benchmarks.data import EVENTS, SNAPSHOT_INTERVAL_EVENTS, Account, evolve

MAX_CACHED_AGGREGATES = 100_000
KEPT_SNAPSHOTS = 3


class EventEnvelope(msgspec.Struct):
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


class LoopState:
    """A state, its version, and the version of its last snapshot."""

    __slots__ = ("snapshot_version", "state", "version")

    def __init__(self, state: Account, version: int) -> None:
        self.state, self.version, self.snapshot_version = state, version, version


decode = msgspec.json.Decoder(EventEnvelope).decode
payload_decoders = {kind.__name__: msgspec.json.Decoder(kind).decode for kind in EVENTS}
event_types = {kind.__name__: kind for kind in EVENTS}


class SnapshotHandler:
    """Handles one partition."""

    def __init__(
        self, task: ContenderTask, partition: int, events: Collection, snapshots: Collection
    ) -> None:
        self.events, self.snapshots = events, snapshots
        self.target = (f"{task.domain}.snapshots", partition)
        self.live_states: dict[str, LoopState] = {}

    async def __call__(self, records: list[Any]) -> OutputRecords:
        envelopes = [decode(record.value) for record in records]
        first = {envelope.subject: envelope.version for envelope in reversed(envelopes)}
        await self.load_states({key: first[key] for key in first.keys() - self.live_states.keys()})
        for envelope in envelopes:
            live = self.live_states[envelope.subject]
            if envelope.version == live.version + 1:
                live.state = evolve(live.state, payload_decoders[envelope.type](envelope.data))
                live.version = envelope.version
            elif envelope.version > live.version:
                raise RuntimeError(f"a gap before {envelope.subject} version {envelope.version}")
        output = new_output()
        if due := [key for key in first if self.is_due(self.live_states[key])]:
            await self.save(due, output)
        for _ in range(len(self.live_states) - MAX_CACHED_AGGREGATES):
            del self.live_states[next(iter(self.live_states))]
        return output

    def is_due(self, live: LoopState) -> bool:
        return live.version - live.snapshot_version >= SNAPSHOT_INTERVAL_EVENTS

    async def load_states(self, missing: dict[str, int]) -> None:
        """Load the states just before these versions: newest snapshot, then the events after it."""
        self.live_states |= {key: LoopState(Account(), 0) for key in missing}
        for keys in split_for_queries(list(missing)):
            pipeline: list[dict[str, Any]] = [
                {"$match": {"aggregate_id": {"$in": keys}, "state_version": 1}},
                {"$sort": {"aggregate_id": -1, "state_version": -1, "version": -1}},
                {"$group": {"_id": "$aggregate_id", "newest": {"$first": "$$ROOT"}}},
            ]
            async for found in await self.snapshots.aggregate(pipeline):
                newest = found["newest"]
                state = msgspec.convert(newest["state"], Account)
                self.live_states[found["_id"]] = LoopState(state, newest["version"])
        for key, version in missing.items():
            if (live := self.live_states[key]).version < version - 1:
                await self.catch_up(key, live, version)

    async def catch_up(self, key: str, live: LoopState, below: int) -> None:
        versions = {"$gt": live.version, "$lt": below}
        found = self.events.find({"aggregate_id": key, "version": versions})
        async for event in found.sort([("aggregate_id", 1), ("version", 1)]):
            payload = msgspec.convert(event["data"], event_types[event["type"]])
            live.state = evolve(live.state, payload)
            live.version = event["version"]

    async def save(self, due: list[str], output: OutputRecords) -> None:
        now = datetime.now(UTC)
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        documents = []
        for key in due:
            live = self.live_states[key]
            snapshot = {
                "aggregate_id": key,
                "version": live.version,
                "state": msgspec.to_builtins(live.state),
                "state_version": 1,
                "taken_at": now,
            }
            output[self.target].append(
                (key.encode(), orjson.dumps(snapshot, option=orjson.OPT_UTC_Z))
            )
            documents.append({"_id": f"{key}/1/{live.version}"} | snapshot)
            live.snapshot_version = live.version
        await self.snapshots.insert_many(documents, ordered=False)
        await self.prune(due)

    async def prune(self, due: list[str]) -> None:
        """Delete all but the newest KEPT_SNAPSHOTS of each aggregate."""
        kept: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
        fields = {"_id": 1, "aggregate_id": 1, "version": 1}
        for keys in split_for_queries(due):
            found = self.snapshots.find({"aggregate_id": {"$in": keys}}, fields)
            for document in await found.to_list(None):
                kept[document["aggregate_id"]].append((document["version"], document["_id"]))
        excess = [
            DeleteOne({"_id": i})
            for versions in kept.values()
            for _, i in sorted(versions)[:-KEPT_SNAPSHOTS]
        ]
        if excess:
            await self.snapshots.bulk_write(excess, ordered=False)


async def main(task: ContenderTask) -> None:
    async with AsyncMongoClient[dict[str, Any]](task.mongo_url, timeoutMS=10_000) as client:
        events, snapshots = (
            open_collection(task, client, kind) for kind in ("events", "snapshots")
        )

        def handler(partition: int) -> ChunkHandler:
            return SnapshotHandler(task, partition, events, snapshots)

        loop = HandWrittenLoop(task, handler)
        await loop.run()
    loop.write_result(**{"write concern": "majority, journal"})


if __name__ == "__main__":
    run(main(read_task()))
