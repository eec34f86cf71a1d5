"""The registry of a domain's event store: its schema, epoch, partitions, offsets and repairs.

In a small collection that all domains share, a domain has the document `<domain>`, and one for each
partition, `<domain>/<partition>`: many owners write at once, each to the document of its own.
"""

from collections.abc import Collection as Items
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import uuid4

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from eventfleet.model.event_shapes import EventShape
from eventfleet.stores.contracts import (
    UNKNOWN_INCARNATION,
    OffsetNote,
    OffsetRange,
    RegistryFacts,
    Repair,
    RepairKind,
)
from eventfleet.stores.errors import Misconfigured, ServerUnavailable
from eventfleet.stores.mongo.client import Collection, full_name
from eventfleet.stores.mongo.documents import Document
from eventfleet.stores.mongo.operation import operation
from eventfleet.stores.registry_facts import merge_repairs, merge_shapes

PARTITION_SEPARATOR = "/"
FIRST = "first_life"
BEGAN_UNKNOWN = {"$set": {FIRST: UNKNOWN_INCARNATION}}
"""The part of an update after which the domain's first incarnation is not known."""
SCHEMA = 2
"""The version of the documents and indexes that this code reads and writes."""


class DomainExtent(NamedTuple):
    """The newest epoch, and every partition in which an event was ever placed."""

    epoch: int
    partitions: list[int]


class DomainMetadata:
    """StoreRegistry of one domain."""

    def __init__(self, domain: str, domains: Collection) -> None:
        self._domain = domain
        self._key = {"_id": domain}
        self._domains = domains
        self._known_partitions: set[int] = set()

    async def register_schema(self, *, stored: bool) -> None:
        """Register SCHEMA in a new store. Misconfigured: the store's schema is another one.

        `stored`: the store holds events, so it is not new.
        """
        with operation("registry", self._domains):
            found = await self._domains.find_one(self._key) or {}
            if "schema" not in found and not stored:
                await self._domains.update_one(self._key, {"$set": {"schema": SCHEMA}}, upsert=True)
                return
        schema = found.get("schema", 1)
        if schema != SCHEMA:
            raise Misconfigured(
                f"{full_name(self._domains)}: domain {self._domain!r} is stored in schema "
                f"{schema}, but this version of eventfleet reads and writes schema {SCHEMA}. "
                "Nothing was changed: run the version that wrote it, or choose another database"
            )

    async def extent(self) -> DomainExtent:
        """Read the epoch and the partitions."""
        with operation("registry", self._domains):
            found = await self._domains.find_one(self._key) or {}
        return DomainExtent(found.get("epoch", 0), sorted(found.get("partitions", ())))

    async def add_partitions(self, partitions: Items[int]) -> None:
        """Record partitions before anything is placed in them; costs nothing when repeated."""
        fresh = sorted(set(partitions) - self._known_partitions)
        if fresh:
            with operation("registry", self._domains):
                await self._domains.update_one(
                    self._key, {"$addToSet": {"partitions": {"$each": fresh}}}, upsert=True
                )
            self._known_partitions.update(fresh)

    async def epoch(self) -> int:
        return (await self.extent()).epoch

    async def incarnation(self) -> str:
        with operation("registry", self._domains):
            while "incarnation" not in (found := await self._domains.find_one(self._key) or {}):
                unregistered = self._key | {"incarnation": {"$exists": False}}
                registered = {"$set": {"incarnation": uuid4().hex}}
                with suppress(DuplicateKeyError):
                    await self._domains.update_one(unregistered, registered, upsert=True)
        return f"{found['incarnation']}.{found.get('epoch', 0)}"

    async def check_writable(self) -> None:
        written = {"$set": {"writable_at": datetime.now(UTC)}}
        with operation("registry", self._domains):
            await self._domains.update_one(self._key, written)

    async def raise_epoch(self) -> int:
        return await self._raise_epoch({"$unset": {"begun": ""}, **BEGAN_UNKNOWN})

    async def partition_count(self) -> int | None:
        return (await self.facts()).partition_count

    async def register_partition_count(self, count: int) -> int:
        epoch = await self.epoch()
        unregistered = self._key | {"partition_count.epoch": {"$ne": epoch}}
        registered: Document = {
            "$set": {"partition_count": {"epoch": epoch, "count": count}},
            "$addToSet": {"partition_counts": {"$each": [*await self.partition_counts(), count]}},
        }
        with operation("registry", self._domains), suppress(DuplicateKeyError):
            await self._domains.update_one(unregistered, registered, upsert=True)
        return await self.partition_count() or count

    async def partition_counts(self) -> set[int]:
        with operation("registry", self._domains):
            found = await self._domains.find_one(self._key) or {}
        registered = found.get("partition_count", {}).get("count")  # before all were kept
        return {*found.get("partition_counts", ()), registered} - {None}

    async def event_shapes(self) -> list[EventShape]:
        return [*(await self.facts()).event_shapes]

    async def replace_event_shapes(
        self, recorded: Sequence[EventShape], shapes: Sequence[EventShape]
    ) -> bool:
        known = [each._asdict() for each in recorded] or {"$exists": False}
        changed = {"$set": {"event_shapes": [each._asdict() for each in shapes]}}
        with operation("registry", self._domains), suppress(DuplicateKeyError):
            done = await self._domains.update_one(
                self._key | {"event_shapes": known}, changed, upsert=not recorded
            )
            return bool(done.matched_count or done.upserted_id)
        return False

    async def declarations(self) -> dict[str, list[EventShape]]:
        with operation("registry", self._domains):
            found = await self._domains.find_one(self._key) or {}
        noted = found.get("declarations", {}).items()
        return {role: [EventShape(**each) for each in shapes] for role, shapes in noted}

    async def note_declaration(self, roles: Items[str], shapes: Sequence[EventShape]) -> None:
        documents = [each._asdict() for each in shapes]
        noted = {"$set": {f"declarations.{role}": documents for role in roles}}
        with operation("registry", self._domains):
            await self._domains.update_one(self._key, noted, upsert=True)

    async def next_offset(self, partition: int) -> int:
        epoch = await self.epoch()
        with operation("registry", self._domains):
            found = await self._domains.find_one(self._partition_key(partition))
        if not found or found["epoch"] < epoch:
            return 0
        self._check_epoch(epoch, found["epoch"])
        return int(found["next_offset"])

    async def last_note(self, partition: int) -> OffsetNote | None:
        with operation("registry", self._domains):
            found = await self._domains.find_one(self._partition_key(partition))
        return OffsetNote(found["epoch"], found["next_offset"]) if found else None

    async def next_offsets(self) -> dict[int, int]:
        epoch = await self.epoch()
        behind = f"{self._domain}{chr(ord(PARTITION_SEPARATOR) + 1)}"
        first = f"{self._domain}{PARTITION_SEPARATOR}"
        wanted = {"_id": {"$gt": first, "$lt": behind}, "epoch": {"$gte": epoch}}
        with operation("registry", self._domains):
            found = await self._domains.find(wanted).to_list(None)
        return {int(each["_id"].removeprefix(first)): each["next_offset"] for each in found}

    async def note_next_offset(self, partition: int, epoch: int, next_offset: int) -> None:
        key = self._partition_key(partition)
        present, earlier = key | {"epoch": epoch}, key | {"epoch": {"$lt": epoch}}
        first = {"$set": {"epoch": epoch, "next_offset": next_offset}}
        with operation("registry", self._domains):
            noted = await self._domains.update_one(present, {"$max": {"next_offset": next_offset}})
            if noted.matched_count:
                return
            try:
                await self._domains.update_one(earlier, first, upsert=True)
            except DuplicateKeyError:
                await self._check_noted(partition, epoch)

    async def rewind(self, ranges: Items[OffsetRange], time: datetime) -> int:
        """Rewind as StoreRegistry says. The offsets come first: one that is cut off is repeated."""
        epoch = await self.epoch()
        offsets = await self.next_offsets() | {each.partition: each.first for each in ranges}
        for partition, offset in sorted(offsets.items()):
            with operation("registry", self._domains):
                await self._domains.update_one(
                    self._partition_key(partition),
                    {"$set": {"epoch": epoch + 1, "next_offset": offset}},
                    upsert=True,
                )
        return await self._raise_epoch(_recorded(RepairKind.REWIND, epoch + 1, ranges, time))

    async def record_restore(self, ranges: Items[OffsetRange], time: datetime) -> None:
        epoch = await self.epoch()
        for each in ranges:
            await self.note_next_offset(each.partition, epoch, each.end)
        with operation("registry", self._domains):
            await self._domains.update_one(
                self._key, _recorded(RepairKind.RESTORE, epoch, ranges, time), upsert=True
            )

    async def has_begun(self, role: str, partition: int) -> bool:
        with operation("registry", self._domains):
            found = await self._domains.find_one(self._key | {f"begun.{role}": partition})
        return found is not None

    async def note_begun(self, role: str, partition: int) -> None:
        noted = {"$addToSet": {f"begun.{role}": partition}}
        with operation("registry", self._domains):
            await self._domains.update_one(self._key, noted, upsert=True)

    async def owner(self, role: str, partition: int) -> str:
        with operation("registry", self._domains):
            found = await self._domains.find_one(self._key, {"_id": 0, f"owners.{role}": 1})
        return _owner_in(found, role, partition)

    async def note_owner(self, role: str, partition: int, owner: str) -> str:
        noted = {"$set": {f"owners.{role}.{partition}": owner}}
        wanted = {"_id": 0, f"owners.{role}": 1}
        with operation("registry", self._domains):
            before = await self._domains.find_one_and_update(
                self._key, noted, wanted, upsert=True, return_document=ReturnDocument.BEFORE
            )
        return _owner_in(before, role, partition)

    async def repairs(self) -> list[Repair]:
        return [*(await self.facts()).repairs]

    async def first_incarnation(self) -> str:
        with operation("registry", self._domains):
            found = await self._domains.find_one(self._key, {"_id": 0, FIRST: 1}) or {}
        return str(found.get(FIRST, ""))

    async def register_first_incarnation(self, incarnation_id: str) -> str:
        unregistered = self._key | {FIRST: {"$exists": False}}
        with operation("registry", self._domains), suppress(DuplicateKeyError):
            await self._domains.update_one(
                unregistered, {"$set": {FIRST: incarnation_id}}, upsert=True
            )
        return await self.first_incarnation()

    async def facts(self) -> RegistryFacts:
        with operation("registry", self._domains):
            found = await self._domains.find_one(self._key) or {}
        return _facts(found)

    async def recover(self, facts: RegistryFacts) -> None:
        """Recover as StoreRegistry says; one that is cut off is repeated. No worker runs now."""
        known = await self.facts()
        epoch = max(known.epoch, facts.epoch)
        current = [each for each in (known, facts) if each.epoch == epoch]
        counts = [each.partition_count for each in current if each.partition_count is not None]
        repairs = merge_repairs(facts.repairs, known.repairs)
        shapes = merge_shapes(facts.event_shapes, known.event_shapes)
        begun: dict[str, list[int]] = {}
        for role, partition in sorted({pair for each in current for pair in each.begun}):
            begun.setdefault(role, []).append(partition)
        changed: Document = {"epoch": epoch, "begun": begun, FIRST: UNKNOWN_INCARNATION}
        if repairs:
            changed["repairs"] = [_repair_document(each) for each in repairs]
        if shapes:
            changed["event_shapes"] = [each._asdict() for each in shapes]
        if counts:
            changed["partition_count"] = {"epoch": epoch, "count": counts[0]}
        with operation("registry", self._domains):
            await self._domains.update_one(self._key, {"$set": changed}, upsert=True)

    async def _check_noted(self, partition: int, epoch: int) -> None:
        """Misconfigured in a later epoch; else another try of the same owner was at it."""
        found = await self._domains.find_one(self._partition_key(partition))
        if found:
            self._check_epoch(epoch, found["epoch"])
        raise ServerUnavailable(f"{full_name(self._domains)}: another owner notes its offset")

    async def _raise_epoch(self, further: dict[str, Any]) -> int:
        with operation("registry", self._domains):
            raised: Any = await self._domains.find_one_and_update(
                self._key,
                {"$inc": {"epoch": 1}, **further},
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        return int(raised["epoch"])

    def _partition_key(self, partition: int) -> dict[str, Any]:
        return {"_id": f"{self._domain}{PARTITION_SEPARATOR}{partition}"}

    def _check_epoch(self, epoch: int, noted: int) -> None:
        if noted > epoch:
            raise Misconfigured(
                f"{full_name(self._domains)}: domain {self._domain!r} has offsets of epoch "
                f"{noted}, not {epoch}: it was rewound meanwhile, or a rewind was cut off. Stop "
                "the workers; if that rewind has not ended, repeat it: eventfleet rewind "
                f"{self._domain}"
            )


def _recorded(
    kind: RepairKind, epoch: int, ranges: Items[OffsetRange], time: datetime
) -> dict[str, Any]:
    """Return the update that records a repair."""
    repairs = [_repair_document(Repair(kind, epoch, each, time)) for each in ranges]
    return {"$push": {"repairs": {"$each": repairs}}, **BEGAN_UNKNOWN}


def _repair_document(repair: Repair) -> Document:
    kind, epoch, offsets, time = repair
    return {"kind": kind.value, "epoch": epoch, "time": time, **offsets._asdict()}


def _owner_in(found: Document | None, role: str, partition: int) -> str:
    owners = (found or {}).get("owners", {})
    return str(owners.get(role, {}).get(str(partition), ""))


def _facts(found: Document) -> RegistryFacts:
    epoch, registered = found.get("epoch", 0), found.get("partition_count", {})
    return RegistryFacts(
        epoch,
        registered.get("count") if registered.get("epoch") == epoch else None,
        tuple(EventShape(**each) for each in found.get("event_shapes", ())),
        tuple(sorted((role, p) for role, ps in found.get("begun", {}).items() for p in ps)),
        tuple(_repair(each) for each in found.get("repairs", ())),
    )


def _repair(found: Document) -> Repair:
    offsets = OffsetRange(found["partition"], found["first"], found["end"])
    return Repair(RepairKind(found["kind"]), found["epoch"], offsets, found["time"])
