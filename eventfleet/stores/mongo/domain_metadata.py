"""The metadata of a domain as a whole: its epoch, and the partitions that hold its events."""

from collections.abc import Collection as Items
from typing import Any, NamedTuple

from pymongo import ReturnDocument

from eventfleet.stores.mongo.client import Collection
from eventfleet.stores.mongo.operation import operation


class DomainExtent(NamedTuple):
    """The newest epoch, and every partition in which an event was ever placed."""

    epoch: int
    partitions: list[int]


class DomainMetadata:
    """One domain's document in a small collection that all domains share."""

    def __init__(self, domain: str, domains: Collection) -> None:
        self._key = {"_id": domain}
        self._domains = domains
        self._known_partitions: set[int] = set()

    async def extent(self) -> DomainExtent:
        """Read the epoch and the partitions."""
        with operation(self._domains):
            found = await self._domains.find_one(self._key) or {}
        return DomainExtent(found.get("epoch", 0), sorted(found.get("partitions", ())))

    async def raise_epoch(self) -> int:
        """Raise the epoch by one, and return it."""
        with operation(self._domains):
            raised: Any = await self._domains.find_one_and_update(
                self._key,
                {"$inc": {"epoch": 1}},
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        return int(raised["epoch"])

    async def add_partitions(self, partitions: Items[int]) -> None:
        """Record partitions before anything is placed in them; costs nothing when repeated."""
        fresh = sorted(set(partitions) - self._known_partitions)
        if fresh:
            with operation(self._domains):
                await self._domains.update_one(
                    self._key, {"$addToSet": {"partitions": {"$each": fresh}}}, upsert=True
                )
            self._known_partitions.update(fresh)
