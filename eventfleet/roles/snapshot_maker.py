"""SnapshotMaker: makes the snapshots of states that are due, and their records."""

import logging
from datetime import datetime
from typing import Any

import orjson

from eventfleet.model.domain import Domain
from eventfleet.snapshot_rules.causes import cause
from eventfleet.states.live_state import LiveState, take_snapshot
from eventfleet.stores.contracts import Clock, Snapshot
from eventfleet.topics.record import ProducerRecord

logger = logging.getLogger(__name__)


class SnapshotMaker:
    """Makes the snapshots of one partition; none of a state of more than `limit` bytes."""

    def __init__(self, domain: Domain[Any], partition: int, clock: Clock, limit: int) -> None:
        self._domain, self._partition, self._clock = domain, partition, clock
        self._limit, self._topic = limit, domain.topics.snapshots

    def cause(self, state: LiveState, now: datetime) -> str:
        """The name of the rule that makes the snapshot due."""
        assert self._domain.snapshot
        return cause(self._domain.snapshot, state.since_snapshot(now))

    def again(self, state: LiveState, first: int) -> list[ProducerRecord]:
        """The record of a snapshot that was saved at or past an event which is handled now."""
        snapshot = self.make(state, state.time) if state.version >= first else None
        return [self.record(snapshot)] if snapshot else []

    def make(self, state: LiveState, taken_at: datetime | None) -> Snapshot | None:
        snapshot = take_snapshot(self._domain, state, taken_at or self._clock.now(), self._limit)
        if snapshot is None:
            logger.warning(
                "%s %r version %d: no snapshot is kept of a state with more than %d bytes "
                "or with values that JSON or the store can't hold",
                *(self._domain.name, state.aggregate_id, state.version, self._limit),
            )
        return snapshot

    def record(self, snapshot: Snapshot) -> ProducerRecord:
        value = {
            "aggregate_id": snapshot.aggregate_id,
            "version": snapshot.version,
            "state": snapshot.state,
            "state_version": snapshot.state_version,
            "fingerprint": snapshot.fingerprint,
            "taken_at": snapshot.taken_at,
        }
        encoded = orjson.dumps(value, option=orjson.OPT_UTC_Z)
        return ProducerRecord(self._topic, snapshot.aggregate_id.encode(), encoded, self._partition)
