"""LiveState: an aggregate's state that events are folded into, and its snapshots."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from eventfleet.model.domain import Domain
from eventfleet.model.team_traceback import error_line
from eventfleet.model.value_copy import copy_value
from eventfleet.snapshot_rules import Rule, SinceSnapshot
from eventfleet.stores.contracts import DomainStores, Snapshot
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.topics.codec import parse_encoded
from eventfleet.topics.errors import EventfleetError, InvalidRecord
from eventfleet.topics.event import FoldableEvent


class ReplayFailed(EventfleetError):
    """The domain's evolve or upcaster raised for `event`; `cause` is what it raised."""

    def __init__(self, domain: str, event: FoldableEvent, cause: Exception) -> None:
        where = f"{domain} {event.aggregate_id!r} version {event.version}, {event.type}"
        super().__init__(f"{where}: {error_line(cause)}")
        self.domain, self.event, self.cause = domain, event, cause


@dataclass(slots=True)
class LiveState:
    """An aggregate's state, and what has happened since its last snapshot.

    `time` is when the snapshot was taken, or when the first event after it came in; None before.
    `contended`: other writers' events were found when the state was last brought up to date, or
    have been noted since.
    """

    aggregate_id: str
    state: Any
    version: int = 0
    snapshot_version: int = 0
    time: datetime | None = None
    types: set[str] = field(default_factory=set)
    size: int = 0
    contended: bool = False

    def fold(self, domain: Domain[Any], event: FoldableEvent, now: datetime | None = None) -> None:
        """Fold the next event, which has just come in (`now`) or was read from the store.

        ReplayFailed for what evolve or an upcaster raises; ServerUnavailable when an event is
        missing before this one. Either leaves the state as it was.
        """
        version = self.version + 1
        if event.version != version:
            missing = f"{domain.name} {self.aggregate_id!r} version {version}"
            raise ServerUnavailable(f"{missing} is missing: version {event.version} follows")
        try:
            self.state = domain.fold(self.state, event)
        except Exception as error:
            raise ReplayFailed(domain.name, event, error) from error
        self.version = version
        if self.time is None:
            self.time = now or event.time
        if domain.needs_types:
            self.types.add(event.type)
        if domain.needs_size:
            self.size += len(orjson.dumps(event.data))

    def copy(self) -> "LiveState":
        """Return a state to fold into while this one stays as it is, whatever `evolve` does."""
        return LiveState(
            self.aggregate_id,
            copy_value(self.state),
            self.version,
            self.snapshot_version,
            self.time,
            {*self.types},
            self.size,
            self.contended,
        )

    def since_snapshot(self, now: datetime) -> SinceSnapshot:
        """Return the input of snapshot rules."""
        return SinceSnapshot(
            version=self.version,
            snapshot_version=self.snapshot_version,
            time=self.time or now,
            now=now,
            types=frozenset(self.types),
            size=self.size,
        )

    def is_due(self, rule: Rule, now: datetime) -> bool:
        """Return whether a snapshot is due by a rule, whose errors pass through."""
        enough = self.version - self.snapshot_version >= rule.min_events
        return enough and rule.due(self.since_snapshot(now))

    def record_snapshot(self, now: datetime) -> None:
        """Count anew from this version on, of which a snapshot was taken (or given up)."""
        self.snapshot_version, self.time = self.version, now
        self.types, self.size = set(), 0


async def load_live_states(
    domain: Domain[Any], stores: DomainStores, aggregate_ids: Collection[str]
) -> dict[str, LiveState]:
    """The states of aggregates as of their newest usable snapshots; version 0 without one."""
    snapshots = await stores.snapshots.latest(aggregate_ids, domain.state_shape)
    return {
        aggregate_id: restore(domain, snapshots.get(aggregate_id), aggregate_id)
        for aggregate_id in aggregate_ids
    }


def restore(domain: Domain[Any], snapshot: Snapshot | None, aggregate_id: str) -> LiveState:
    """The state as of a snapshot; version 0 without one, or when it no longer fits the domain."""
    if snapshot is None:
        return LiveState(aggregate_id, domain.first_state())
    try:
        state = domain.load_state(snapshot.state)
    except InvalidRecord:
        return LiveState(aggregate_id, domain.first_state())
    version = snapshot.version
    return LiveState(aggregate_id, state, version, version, snapshot.taken_at)


def take_snapshot(
    domain: Domain[Any], live: LiveState, now: datetime, limit: int
) -> Snapshot | None:
    """The snapshot of a state; None for a state that no store can keep.

    No store keeps more than `limit` bytes as JSON, nor what JSON or `parse` refuses: integers
    beyond 64 bits, a NUL in a key, too many levels.
    """
    try:
        state = domain.dump_state(live.state)
        encoded = orjson.dumps(state)
        parse_encoded(encoded)
    except (TypeError, InvalidRecord):
        return None
    if len(encoded) > limit:
        return None
    version, fingerprint = domain.state_shape
    return Snapshot(live.aggregate_id, live.version, state, version, now, fingerprint)


def reload_state(domain: Domain[Any], live: LiveState, limit: int) -> Any | None:
    """Return the state as its snapshot gives it back; None for one that no store can keep.

    InvalidRecord: it can't be read back.
    """
    snapshot = take_snapshot(domain, live, datetime.min, limit)
    return domain.load_state(snapshot.state) if snapshot else None
