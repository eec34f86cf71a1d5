"""The outbox on MongoDB: two fields of an event's document and an index; leases lie beside them."""

from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from pymongo.errors import DuplicateKeyError

from eventfleet.stores.mongo import client
from eventfleet.stores.mongo.documents import Document, key_filter, to_event
from eventfleet.stores.mongo.indexes import BY_VERSION, PENDING, ensure_indexes
from eventfleet.stores.mongo.operation import MAX_QUERY_ITEMS, operation, split_items
from eventfleet.topics.event import EventKey, EventRecord

SETTLED = {"$unset": {"pending": "", "to_publish": ""}}


def pending_fields(event: EventRecord, *, to_publish: bool) -> Document:
    """Return the fields that make a stored event pending."""
    return {"pending": int(event.time.timestamp() * 1000), "to_publish": to_publish}


class MongoOutbox:
    """Outbox of the events of one collection."""

    def __init__(self, domain: str, events: client.Collection, leases: client.Collection) -> None:
        self._domain, self._events, self._leases = domain, events, leases

    async def prepare(self) -> None:
        with operation("prepare", self._events):
            await ensure_indexes(self._events, [PENDING])

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

    async def settle(self, keys: Collection[EventKey]) -> None:
        for part in split_items(keys):
            with operation("write", self._events):
                await self._events.update_many(key_filter(part), SETTLED)

    async def hold_lease(self, name: str, owner: str, seconds: float) -> bool:
        now = datetime.now(UTC)
        free = {"_id": name, "$or": [{"owner": owner}, {"until": {"$lt": now}}]}
        held = {"owner": owner, "until": now + timedelta(seconds=seconds)}
        with operation("registry", self._leases), suppress(DuplicateKeyError):
            await self._leases.update_one(free, {"$set": held}, upsert=True)
            return True
        return False

    async def release_lease(self, name: str, owner: str) -> None:
        with operation("registry", self._leases):
            await self._leases.delete_one({"_id": name, "owner": owner})


def _highest_versions(documents: Iterable[Document]) -> dict[str, int]:
    """Return the highest version of each aggregate among these."""
    highest: dict[str, int] = {}
    for each in documents:
        id, version = each["aggregate_id"], each["version"]
        highest[id] = max(version, highest.get(id, 0))
    return highest
