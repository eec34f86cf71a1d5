"""The outbox on MongoDB: fields of an event's document for each state, and partial indexes; leases
lie beside them."""

from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from pymongo.errors import DuplicateKeyError

from eventfleet.stores.contracts.outbox import BusNote, BusPlace
from eventfleet.stores.mongo import client
from eventfleet.stores.mongo.documents import Document, key_filter, to_event
from eventfleet.stores.mongo.indexes import BY_VERSION, OUTBOX_INDEXES, ensure_indexes
from eventfleet.stores.mongo.operation import MAX_QUERY_ITEMS, operation, split_items
from eventfleet.topics.event import EventKey, EventRecord

PENDING_FIELDS = ("pending", "to_publish")
PARKED_FIELDS = ("unpublished",)
PUBLISHED_FIELDS = ("published_in", "published_at")
PENDING_ONES: Document = {"pending": {"$gte": 0}}
PARKED_ONES: Document = {"unpublished": 1}
PUBLISH_AGAIN = {
    "$set": {"pending": 0, "to_publish": True},
    "$unset": dict.fromkeys(PUBLISHED_FIELDS, ""),
}
PARK = {"$unset": dict.fromkeys(PENDING_FIELDS, ""), "$set": PARKED_ONES}


def pending_fields(event: EventRecord, *, to_publish: bool) -> Document:
    """Return the fields that make a stored event pending."""
    return {"pending": int(event.time.timestamp() * 1000), "to_publish": to_publish}


class MongoOutbox:
    """Outbox of the events of one collection."""

    def __init__(self, domain: str, events: client.Collection, leases: client.Collection) -> None:
        self._domain, self._events, self._leases = domain, events, leases

    async def prepare(self) -> None:
        with operation("prepare", self._events):
            await ensure_indexes(self._events, OUTBOX_INDEXES)

    async def pending(self, limit: int, *, to_publish: bool) -> list[EventRecord]:
        # Writers' clocks differ, so an event may seem older than the one before it. And while a
        # query goes on, two events of an aggregate may be stored of which it shows the later one
        # alone: so it is made twice, and whatever is below a version that the first one shows, the
        # second one shows too.
        is_pending = {"pending": {"$gte": 0}, "to_publish": to_publish}
        with operation("find", self._events):
            oldest = self._events.find(is_pending, {"_id": 0, "aggregate_id": 1})
            shown = await oldest.sort("pending", 1).limit(limit).to_list(None)
            ids = list(dict.fromkeys(each["aggregate_id"] for each in shown))[:MAX_QUERY_ITEMS]
            if not ids:
                return []
            wanted = {"aggregate_id": {"$in": ids}, **is_pending}
            first = self._events.find(wanted, {"_id": 0, "aggregate_id": 1, "version": 1})
            highest = _highest_versions(await first.sort(BY_VERSION).limit(limit).to_list(None))
            found = await self._events.find(wanted).sort(BY_VERSION).limit(limit).to_list(None)
        return [
            to_event(self._domain, each)
            for each in found
            if each["version"] <= highest.get(each["aggregate_id"], 0)
        ]

    async def settle(self, keys: Collection[EventKey], place: BusPlace | None = None) -> None:
        await self._change(keys, PENDING_ONES, _settled(PENDING_FIELDS, place))

    async def park(self, keys: Collection[EventKey]) -> None:
        await self._change(keys, PENDING_ONES, PARK)

    async def park_pending(self, aggregate_id: str) -> None:
        wanted = {"aggregate_id": aggregate_id, **PENDING_ONES}
        with operation("write", self._events):
            await self._events.update_many(wanted, PARK)

    async def parked_aggregates(self, among: Collection[str] | None = None) -> set[str]:
        found: set[str] = set()
        for part in [None] if among is None else split_items(among):
            wanted = PARKED_ONES if part is None else PARKED_ONES | {"aggregate_id": {"$in": part}}
            with operation("find", self._events):
                ids = self._events.find(wanted, {"_id": 0, "aggregate_id": 1})
                found |= {each["aggregate_id"] for each in await ids.to_list(None)}
        return found

    async def parked(self, aggregate_id: str, limit: int) -> list[EventRecord]:
        wanted = PARKED_ONES | {"aggregate_id": aggregate_id}
        with operation("find", self._events):
            found = self._events.find(wanted).sort(BY_VERSION).limit(limit)
            return [to_event(self._domain, each) for each in await found.to_list(None)]

    async def settle_parked(self, key: EventKey, place: BusPlace | None = None) -> None:
        await self._change([key], PARKED_ONES, _settled(PARKED_FIELDS, place))

    async def confirm(self, place: BusPlace) -> None:
        offsets = {"$gte": 0, "$lte": place.offset}
        up_to = {"published_in": place.incarnation, "published_at": offsets}
        with operation("write", self._events):
            await self._events.update_many(up_to, {"$unset": dict.fromkeys(PUBLISHED_FIELDS, "")})

    async def publish_again(self, incarnation: str) -> bool:
        others = {"published_in": {"$ne": incarnation}, "published_at": {"$gte": 0}}
        with operation("write", self._events):
            done = await self._events.update_many(others, PUBLISH_AGAIN)
        return done.matched_count > 0

    async def bus_note(self, name: str) -> BusNote | None:
        with operation("registry", self._leases):
            found = await self._leases.find_one({"_id": name})
        return BusNote(found["incarnation"], tuple(found["groups"])) if found else None

    async def note_bus(self, name: str, note: BusNote) -> None:
        noted = {"incarnation": note.incarnation, "groups": [*note.groups]}
        with operation("registry", self._leases):
            await self._leases.update_one({"_id": name}, {"$set": noted}, upsert=True)

    async def hold_lease(self, name: str, owner: str, seconds: float) -> bool:
        now = datetime.now(UTC)
        held = {"$set": {"owner": owner, "until": now + timedelta(seconds=seconds)}}
        with operation("registry", self._leases), suppress(DuplicateKeyError):
            own = await self._leases.update_one({"_id": name, "owner": owner}, held)
            if not own.matched_count:
                free = {"_id": name, "until": {"$lt": now}}
                await self._leases.update_one(free, held, upsert=True)
            return True
        return False

    async def release_lease(self, name: str, owner: str) -> None:
        with operation("registry", self._leases):
            await self._leases.delete_one({"_id": name, "owner": owner})

    async def _change(self, keys: Collection[EventKey], state: Document, change: Document) -> None:
        for part in split_items(keys):
            with operation("write", self._events):
                await self._events.update_many(key_filter(part) | state, change)


def _settled(fields: Iterable[str], place: BusPlace | None) -> Document:
    """Return the change that settles events, or has them published at a place."""
    change: Document = {"$unset": dict.fromkeys(fields, "")}
    if place:
        change["$set"] = {"published_in": place.incarnation, "published_at": place.offset}
    return change


def _highest_versions(documents: Iterable[Document]) -> dict[str, int]:
    """Return the highest version of each aggregate among these."""
    highest: dict[str, int] = {}
    for each in documents:
        id, version = each["aggregate_id"], each["version"]
        highest[id] = max(version, highest.get(id, 0))
    return highest
