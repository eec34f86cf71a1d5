"""Live states: an aggregate's state with what has happened since its last snapshot."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from domains.declaration import Domain
from snapshot_rules import Since
from stores.contracts import Opened as Stores
from stores.contracts import Snapshot
from topics.errors import Unreadable
from topics.event import EventRecord


@dataclass
class Live:
    """A state that events are folded into. `time` is None while nothing says how old it is."""

    aggregate_id: str
    state: Any
    version: int = 0
    snapshot_version: int = 0
    time: datetime | None = None
    types: set[str] = field(default_factory=set)
    size: int = 0

    def fold(self, domain: Domain[Any], event: EventRecord) -> None:
        """Fold the next event; what evolve or an upcaster raises leaves all as it was."""
        self.state = domain.fold(self.state, event)
        self.version = event.version
        self.time = self.time or event.time
        self.types.add(event.type)
        self.size += len(orjson.dumps(event.data))

    def since(self, now: datetime) -> Since:
        return Since(
            version=self.version,
            snapshot_version=self.snapshot_version,
            time=self.time or now,
            now=now,
            types=frozenset(self.types),
            size=self.size,
        )

    def rested(self, now: datetime) -> None:
        """A snapshot was taken (or given up) at this version: what happens since counts anew."""
        self.snapshot_version, self.time = self.version, now
        self.types, self.size = set(), 0


async def load(
    domain: Domain[Any], stores: Stores, aggregate_ids: Collection[str]
) -> dict[str, Live]:
    """Lives as of their newest usable snapshots; those without one start at version 0."""
    found = await stores.snapshots.latest(aggregate_ids, domain.state_version)
    return {
        aggregate_id: thawed(domain, found.get(aggregate_id), aggregate_id)
        for aggregate_id in aggregate_ids
    }


def thawed(domain: Domain[Any], snapshot: Snapshot | None, aggregate_id: str) -> Live:
    """The live state as of a snapshot; from the beginning without one, or if it no longer fits."""
    if snapshot is None:
        return Live(aggregate_id, domain.state())
    try:
        state = domain.thaw(snapshot.state)
    except Unreadable:
        return Live(aggregate_id, domain.state())
    version = snapshot.version
    return Live(aggregate_id, state, version, version, snapshot.taken_at)


def frozen(domain: Domain[Any], live: Live, now: datetime, limit: int) -> Snapshot | None:
    """The snapshot of a live state; None when it has more than `limit` bytes as JSON."""
    state = domain.freeze(live.state)
    try:
        if len(orjson.dumps(state)) > limit:
            return None
    except orjson.JSONEncodeError:  # an integer beyond 64 bits, or nested too deep
        return None
    return Snapshot(live.aggregate_id, live.version, state, domain.state_version, now)
