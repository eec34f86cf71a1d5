"""The snapshot store on MongoDB."""

from collections.abc import Collection, Sequence

from pymongo import DeleteOne

from eventfleet.model.shapes import StateShape
from eventfleet.stores.contracts import ShapeCount, Snapshot
from eventfleet.stores.mongo import client
from eventfleet.stores.mongo.documents import Document
from eventfleet.stores.mongo.indexes import SNAPSHOT_INDEXES, SNAPSHOTS, ensure_indexes
from eventfleet.stores.mongo.operation import operation, split_items
from eventfleet.stores.mongo.transactions import insert_each
from eventfleet.stores.snapshot_retention import SnapshotKey, find_excess, key_of

FIELDS = ("aggregate_id", "version", "state", "state_version", "taken_at", "fingerprint")
KEYS_ONLY = {"_id": 0} | dict.fromkeys(SNAPSHOTS.keys, 1)
NEWEST_FIRST = dict.fromkeys(SNAPSHOTS.keys, -1)


class MongoSnapshots:
    """SnapshotStore with one document per aggregate, shape and version.

    `keep`: how many snapshots of each aggregate and shape are kept.
    """

    def __init__(self, snapshots: client.Collection, keep: int) -> None:
        self._snapshots = snapshots
        self._keep = keep

    async def prepare(self) -> None:
        with operation("prepare", self._snapshots):
            await ensure_indexes(self._snapshots, SNAPSHOT_INDEXES)

    async def clear(self) -> None:
        with operation("prepare", self._snapshots):
            await self._snapshots.delete_many({})

    async def save(self, snapshots: Sequence[Snapshot]) -> None:
        """Save as SnapshotStore says. The excess that a save left, which was cut off, goes before
        this one's snapshots come, so that such saves do not add up. Where less was deleted than is
        too much, another save is under way: then the keys are read again, and the last save leaves
        no more."""
        if not snapshots:
            return
        saved = {each.aggregate_id: each.shape for each in snapshots}
        with operation("save_snapshots", self._snapshots):
            stored = await self._keys(saved)
            await self._delete(find_excess(stored, saved, self._keep))
            await self._insert_missing([_document(snapshot) for snapshot in snapshots])
            stored += [key_of(snapshot) for snapshot in snapshots]
            excess = find_excess({*stored}, saved, self._keep)
            if await self._delete(excess) < len(excess):
                await self._delete(find_excess(await self._keys(saved), saved, self._keep))

    async def latest(
        self, aggregate_ids: Collection[str], shape: StateShape
    ) -> dict[str, Snapshot]:
        found: dict[str, Snapshot] = {}
        with operation("read_snapshots", self._snapshots):
            for ids in split_items(aggregate_ids):
                pipeline: list[Document] = [
                    {"$match": {"aggregate_id": {"$in": ids}, **_shape_fields(shape)}},
                    {"$sort": NEWEST_FIRST},
                    {"$group": {"_id": "$aggregate_id", "newest": {"$first": "$$ROOT"}}},
                ]
                async for group in await client.maybe_await(self._snapshots.aggregate(pipeline)):
                    found[group["_id"]] = _snapshot(group["newest"])
        return found

    async def at(self, aggregate_id: str, version: int, shape: StateShape) -> Snapshot | None:
        wanted = {
            "aggregate_id": aggregate_id,
            **_shape_fields(shape),
            "version": {"$lte": version},
        }
        with operation("read_snapshots", self._snapshots):
            document = await self._snapshots.find_one(wanted, sort=list(NEWEST_FIRST.items()))
        return _snapshot(document) if document else None

    async def count(self) -> int:
        pipeline: list[Document] = [{"$group": {"_id": "$aggregate_id"}}, {"$count": "aggregates"}]
        with operation("read_snapshots", self._snapshots):
            found = await client.maybe_await(self._snapshots.aggregate(pipeline))
            counted = await found.to_list(1)
        return counted[0]["aggregates"] if counted else 0

    async def shapes(self) -> list[ShapeCount]:
        shape = {name: f"${name}" for name in ("state_version", "fingerprint")}
        counted = {"snapshots": {"$sum": 1}, "aggregate_id": {"$min": "$aggregate_id"}}
        with operation("read_snapshots", self._snapshots):
            found = await client.maybe_await(
                self._snapshots.aggregate([{"$group": {"_id": shape, **counted}}])
            )
            groups = await found.to_list(None)
        return sorted(map(_shape_count, groups))

    async def _insert_missing(self, documents: list[Document]) -> None:
        """Insert, since an update would refuse a state's keys with `$` or `.`; skip what exists."""
        await insert_each(self._snapshots, documents)

    async def _keys(self, aggregate_ids: Collection[str]) -> list[SnapshotKey]:
        """Return the keys of all stored snapshots; the index covers the query."""
        stored: list[SnapshotKey] = []
        for ids in split_items(aggregate_ids):
            found = self._snapshots.find({"aggregate_id": {"$in": ids}}, KEYS_ONLY)
            stored += map(_key, await found.to_list(None))
        return stored

    async def _delete(self, keys: Collection[SnapshotKey]) -> int:
        """Delete these snapshots; return how many were there."""
        if not keys:
            return 0
        requests = [DeleteOne({"_id": _id(key)}) for key in keys]
        return (await self._snapshots.bulk_write(requests, ordered=False)).deleted_count


def _shape_fields(shape: StateShape) -> Document:
    return {"state_version": shape.version, "fingerprint": shape.fingerprint}


def _key(document: Document) -> SnapshotKey:
    shape = StateShape(document["state_version"], document.get("fingerprint") or "")
    return SnapshotKey(document["aggregate_id"], shape, document["version"])


def _shape_count(group: Document) -> ShapeCount:
    version, fingerprint = group["_id"]["state_version"], group["_id"].get("fingerprint") or ""
    return ShapeCount(StateShape(version, fingerprint), group["snapshots"], group["aggregate_id"])


def _id(key: SnapshotKey) -> str:
    shape = "-".join(map(str, filter(None, key.shape)))
    return f"{key.aggregate_id}/{shape}/{key.version}"


def _document(snapshot: Snapshot) -> Document:
    document = {field: getattr(snapshot, field) for field in FIELDS}
    return {"_id": _id(key_of(snapshot))} | document


def _snapshot(document: Document) -> Snapshot:
    return Snapshot(**{field: document[field] for field in FIELDS})
