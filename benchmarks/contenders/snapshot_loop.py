"""Snapshot by hand: states in memory, one bulk of those due, the topic and the offset in one
transaction."""

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson
from pymongo import AsyncMongoClient, DeleteOne

from benchmarks.contenders.loop import Collection, Handle, Loop, Rows, collection, rows, split
from benchmarks.contenders.task import Task, run, task
from benchmarks.data import EVENTS, EVERY, Account, evolve

CACHED = 100_000

KEPT = 3


class Wire(msgspec.Struct):
    """An event on its way; its data is decoded as what its type says."""

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


class Live:
    """A state, its version, and that of its last snapshot."""

    __slots__ = ("snapshot_version", "state", "version")

    def __init__(self, state: Account, version: int) -> None:
        self.state, self.version, self.snapshot_version = state, version, version


decode = msgspec.json.Decoder(Wire).decode
payloads = {kind.__name__: msgspec.json.Decoder(kind).decode for kind in EVENTS}
kinds = {kind.__name__: kind for kind in EVENTS}


class Snapshots:
    """One partition."""

    def __init__(self, task: Task, partition: int, events: Collection, shots: Collection) -> None:
        self.events, self.shots = events, shots
        self.target = (f"{task.domain}.snapshots", partition)
        self.lives: dict[str, Live] = {}

    async def __call__(self, records: list[Any]) -> Rows:
        wires = [decode(record.value) for record in records]
        first = {wire.subject: wire.version for wire in reversed(wires)}
        await self.load({key: first[key] for key in first.keys() - self.lives.keys()})
        for wire in wires:
            live = self.lives[wire.subject]
            if wire.version == live.version + 1:
                live.state = evolve(live.state, payloads[wire.type](wire.data))
                live.version = wire.version
            elif wire.version > live.version:
                raise RuntimeError(f"a gap before {wire.subject} version {wire.version}")
        out = rows()
        if due := [key for key in first if self.due(self.lives[key])]:
            await self.save(due, out)
        for _ in range(len(self.lives) - CACHED):
            del self.lives[next(iter(self.lives))]
        return out

    def due(self, live: Live) -> bool:
        return live.version - live.snapshot_version >= EVERY

    async def load(self, missing: dict[str, int]) -> None:
        """The states just before these versions: the newest snapshot and the events after it."""
        self.lives |= {key: Live(Account(), 0) for key in missing}
        for keys in split(list(missing)):
            pipeline: list[dict[str, Any]] = [
                {"$match": {"aggregate_id": {"$in": keys}, "state_version": 1}},
                {"$sort": {"aggregate_id": -1, "state_version": -1, "version": -1}},
                {"$group": {"_id": "$aggregate_id", "newest": {"$first": "$$ROOT"}}},
            ]
            async for found in await self.shots.aggregate(pipeline):
                newest = found["newest"]
                state = msgspec.convert(newest["state"], Account)
                self.lives[found["_id"]] = Live(state, newest["version"])
        for key, version in missing.items():
            if (live := self.lives[key]).version < version - 1:
                await self.catch_up(key, live, version)

    async def catch_up(self, key: str, live: Live, below: int) -> None:
        versions = {"$gt": live.version, "$lt": below}
        found = self.events.find({"aggregate_id": key, "version": versions})
        async for event in found.sort([("aggregate_id", 1), ("version", 1)]):
            payload = msgspec.convert(event["data"], kinds[event["type"]])
            live.state = evolve(live.state, payload)
            live.version = event["version"]

    async def save(self, due: list[str], out: Rows) -> None:
        now = datetime.now(UTC)
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        documents = []
        for key in due:
            live = self.lives[key]
            shot = {
                "aggregate_id": key,
                "version": live.version,
                "state": msgspec.to_builtins(live.state),
                "state_version": 1,
                "taken_at": now,
            }
            out[self.target].append((key.encode(), orjson.dumps(shot, option=orjson.OPT_UTC_Z)))
            documents.append({"_id": f"{key}/1/{live.version}"} | shot)
            live.snapshot_version = live.version
        await self.shots.insert_many(documents, ordered=False)
        await self.prune(due)

    async def prune(self, due: list[str]) -> None:
        """Keep the newest few of each."""
        kept: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
        fields = {"_id": 1, "aggregate_id": 1, "version": 1}
        for keys in split(due):
            found = self.shots.find({"aggregate_id": {"$in": keys}}, fields)
            for document in await found.to_list(None):
                kept[document["aggregate_id"]].append((document["version"], document["_id"]))
        excess = [DeleteOne({"_id": i}) for some in kept.values() for _, i in sorted(some)[:-KEPT]]
        if excess:
            await self.shots.bulk_write(excess, ordered=False)


async def main(task: Task) -> None:
    async with AsyncMongoClient[dict[str, Any]](task.mongo_url, timeoutMS=10_000) as client:
        events, shots = (collection(task, client, kind) for kind in ("events", "snapshots"))

        def handler(partition: int) -> Handle:
            return Snapshots(task, partition, events, shots)

        loop = Loop(task, handler)
        await loop.run()
    loop.tell(**{"write concern": "majority, journal"})


if __name__ == "__main__":
    run(main(task()))
