"""The snapshot store on SQLite."""

from collections.abc import Collection, Sequence

import apsw

from eventfleet.model.shapes import StateShape
from eventfleet.stores.contracts import ShapeCount, Snapshot
from eventfleet.stores.snapshot_retention import SnapshotKey, find_excess
from eventfleet.stores.sqlite.database import Database
from eventfleet.stores.sqlite.event_table import JSON, dump_time, load_time

COLUMNS = "aggregate_id, version, state, state_version, taken_at, fingerprint"
OF_AGGREGATE = "domain = ? AND aggregate_id = ?"
OF_SHAPE = f"{OF_AGGREGATE} AND state_version = ? AND fingerprint = ?"
INSERT = f"""
INSERT INTO snapshots (domain, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
NEWEST = f"""
SELECT {COLUMNS} FROM snapshots WHERE {OF_SHAPE} AND version <= ? ORDER BY version DESC LIMIT 1
"""
KEYS = f"SELECT state_version, fingerprint, version FROM snapshots WHERE {OF_AGGREGATE}"
DELETE = f"DELETE FROM snapshots WHERE {OF_SHAPE} AND version = ?"
COUNT = "SELECT count(DISTINCT aggregate_id) FROM snapshots WHERE domain = ?"
SHAPES = """
SELECT state_version, fingerprint, count(*), min(aggregate_id) FROM snapshots WHERE domain = ?
GROUP BY state_version, fingerprint ORDER BY state_version, fingerprint
"""
MAX_VERSION = 2**63 - 1


class SqliteSnapshots:
    """SnapshotStore of one domain. `keep`: how many of each aggregate and shape are kept."""

    def __init__(self, database: Database, domain: str, keep: int) -> None:
        self._database, self._domain, self._keep = database, domain, keep

    async def prepare(self) -> None:
        """Prepare nothing: the table is there."""

    async def clear(self) -> None:
        delete = "DELETE FROM snapshots WHERE domain = ?"
        await self._database.run_each(delete, [(self._domain,)])

    async def save(self, snapshots: Sequence[Snapshot]) -> None:
        saved = {each.aggregate_id: each.shape for each in snapshots}

        def run(connection: apsw.Connection) -> None:
            connection.executemany(INSERT, [self._row(each) for each in snapshots])
            stored = [key for each in saved for key in self._keys(connection, each)]
            for aggregate_id, shape, version in find_excess(stored, saved, self._keep):
                connection.execute(DELETE, (self._domain, aggregate_id, *shape, version))

        if snapshots:  # which their events make again
            await self._database.write(run, sync=False)

    async def latest(
        self, aggregate_ids: Collection[str], shape: StateShape
    ) -> dict[str, Snapshot]:
        def run(connection: apsw.Connection) -> dict[str, Snapshot]:
            found = ((id, self._newest(connection, id, MAX_VERSION, shape)) for id in aggregate_ids)
            return {aggregate_id: snapshot for aggregate_id, snapshot in found if snapshot}

        return await self._database.read(run)

    async def at(self, aggregate_id: str, version: int, shape: StateShape) -> Snapshot | None:
        return await self._database.read(
            lambda connection: self._newest(connection, aggregate_id, version, shape)
        )

    async def count(self) -> int:
        [(count,)] = await self._database.rows(COUNT, self._domain)
        return int(count)

    async def shapes(self) -> list[ShapeCount]:
        rows = await self._database.rows(SHAPES, self._domain)
        return [ShapeCount(StateShape(version, name), n, first) for version, name, n, first in rows]

    def _row(self, each: Snapshot) -> tuple[str | int, ...]:
        state, time = JSON.dump(each.state), dump_time(each.taken_at)
        key = self._domain, each.aggregate_id, each.version
        return *key, state, each.state_version, time, each.fingerprint

    def _keys(self, connection: apsw.Connection, aggregate_id: str) -> list[SnapshotKey]:
        rows = connection.execute(KEYS, (self._domain, aggregate_id))
        return [SnapshotKey(aggregate_id, StateShape(*shape), version) for *shape, version in rows]

    def _newest(
        self, connection: apsw.Connection, aggregate_id: str, up_to: int, shape: StateShape
    ) -> Snapshot | None:
        row = connection.execute(NEWEST, (self._domain, aggregate_id, *shape, up_to)).fetchone()
        if row is None:
            return None
        id, version, state, state_version, time, fingerprint = row
        return Snapshot(id, version, JSON.load(state), state_version, load_time(time), fingerprint)
