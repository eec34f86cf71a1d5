"""Hand-written snapshot on a fleet's file: states in memory, the rows of due snapshots."""

import time
from datetime import UTC, datetime
from typing import Any

import apsw
import msgspec
import orjson

from benchmarks.contenders.file_loop import FileLoop, InputRecord, OutputRecord
from benchmarks.contenders.snapshot_loop import (
    KEPT_SNAPSHOTS,
    MAX_CACHED_AGGREGATES,
    EventEnvelope,
    LoopState,
    decode,
    payload_decoders,
)
from benchmarks.contenders.task import ContenderTask, read_task, run
from benchmarks.data import SNAPSHOT_INTERVAL_EVENTS, Account, declare_ledger, evolve

NEWEST = """
SELECT version, state FROM snapshots
WHERE domain = ? AND aggregate_id = ? AND state_version = 1 AND fingerprint = ?
ORDER BY version DESC LIMIT 1
"""
EVENTS_BETWEEN = """
SELECT version, type, data FROM events
WHERE domain = ? AND aggregate_id = ? AND version > ? AND version < ? ORDER BY version
"""
INSERT = """
INSERT INTO snapshots (domain, aggregate_id, version, state, state_version, taken_at, fingerprint)
VALUES (?, ?, ?, ?, 1, ?, ?)
"""
DELETE_EXCESS = """
DELETE FROM snapshots WHERE rowid IN (
  SELECT rowid FROM snapshots
  WHERE domain = ? AND aggregate_id = ? AND state_version = 1 AND fingerprint = ?
  ORDER BY version DESC LIMIT -1 OFFSET ?)
"""


class SnapshotHandler:
    """Handles one partition."""

    def __init__(self, task: ContenderTask, connection: apsw.Connection, partition: int) -> None:
        self.domain, self.connection = task.domain, connection
        self.fingerprint = declare_ledger(task.domain).state_shape.fingerprint
        self.target = (f"{task.domain}.snapshots", partition)
        self.live_states: dict[str, LoopState] = {}

    def __call__(self, records: list[InputRecord]) -> list[OutputRecord]:
        envelopes = [decode(record.value) for record in records]
        first = {envelope.subject: envelope.version for envelope in reversed(envelopes)}
        for key in first.keys() - self.live_states.keys():
            self.live_states[key] = self.load_state(key, first[key])
        for envelope in envelopes:
            self.fold(envelope)
        due = [key for key in first if self.is_due(self.live_states[key])]
        output = self.save(due) if due else []
        for _ in range(len(self.live_states) - MAX_CACHED_AGGREGATES):
            del self.live_states[next(iter(self.live_states))]
        return output

    def fold(self, envelope: EventEnvelope) -> None:
        live = self.live_states[envelope.subject]
        if envelope.version == live.version + 1:
            live.state = evolve(live.state, payload_decoders[envelope.type](envelope.data))
            live.version = envelope.version
        elif envelope.version > live.version:
            raise RuntimeError(f"a gap before {envelope.subject} version {envelope.version}")

    def is_due(self, live: LoopState) -> bool:
        return live.version - live.snapshot_version >= SNAPSHOT_INTERVAL_EVENTS

    def load_state(self, key: str, below: int) -> LoopState:
        """Load the state just before a version: the newest snapshot, and the events after it."""
        live = LoopState(Account(), 0)
        place = self.domain, key, self.fingerprint
        for version, state in self.connection.execute(NEWEST, place):
            live = LoopState(msgspec.json.decode(state, type=Account), version)
        between = self.domain, key, live.version, below
        for version, kind, payload in self.connection.execute(EVENTS_BETWEEN, between):
            live.state = evolve(live.state, payload_decoders[kind](payload))
            live.version = version
        return live

    def save(self, due: list[str]) -> list[OutputRecord]:
        now = datetime.now(UTC)
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        taken = f"{now.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
        timestamp = time.time_ns() // 1_000_000
        rows: list[tuple[Any, ...]] = []
        output = []
        for key in due:
            live = self.live_states[key]
            state = msgspec.to_builtins(live.state)
            snapshot = {
                "aggregate_id": key,
                "version": live.version,
                "state": state,
                "state_version": 1,
                "fingerprint": self.fingerprint,
                "taken_at": now,
            }
            value = orjson.dumps(snapshot, option=orjson.OPT_UTC_Z).decode()
            output.append(OutputRecord(self.target, timestamp, key, value, None, to_compact=True))
            dumped = orjson.dumps(state).decode()
            rows.append((self.domain, key, live.version, dumped, taken, self.fingerprint))
            live.snapshot_version = live.version
        self.connection.executemany(INSERT, rows)
        excess = [(self.domain, key, self.fingerprint, KEPT_SNAPSHOTS) for key in due]
        self.connection.executemany(DELETE_EXCESS, excess)
        return output


async def main(task: ContenderTask) -> None:
    FileLoop(task, lambda connection, n: SnapshotHandler(task, connection, n)).run()


if __name__ == "__main__":
    run(main(read_task()))
