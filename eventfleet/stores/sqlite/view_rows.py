"""The rows of views on SQLite: a table of its own for each table of a build.

`view_tables` has their numbers: the rows of the table 7 are in `view_rows_7`.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

import apsw
import orjson

from eventfleet.stores.contracts.views import RowQuery, StoredRow
from eventfleet.stores.cursors import FeedPoint
from eventfleet.stores.row_filters import in_order
from eventfleet.stores.sqlite.database import Database
from eventfleet.stores.sqlite.event_table import dump_time, load_time
from eventfleet.stores.sqlite.row_conditions import (
    best_index,
    dump_json,
    id_ranges,
    selections,
    value_of,
)

BATCH_ROWS = 1_000
"""How many rows one transaction removes."""

COLUMNS = "id, fields, partition, epoch, log_offset, version, written_at"
CREATE = """
CREATE TABLE {table} (
  id TEXT NOT NULL PRIMARY KEY,
  fields TEXT,
  partition INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  log_offset INTEGER NOT NULL,
  version INTEGER NOT NULL,
  written_at TEXT NOT NULL
) STRICT;
CREATE INDEX {table}_deleted ON {table} (partition, written_at) WHERE fields IS NULL;
"""
SAVE = """
INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET fields = excluded.fields, partition = excluded.partition,
  epoch = excluded.epoch, log_offset = excluded.log_offset, version = excluded.version,
  written_at = excluded.written_at
WHERE (epoch, log_offset, version)
  < (excluded.epoch, excluded.log_offset, excluded.version)
"""
PURGE = """
DELETE FROM {table} WHERE rowid IN (
  SELECT rowid FROM {table} WHERE fields IS NULL AND partition = ? AND written_at < ?
  AND (epoch, log_offset, version) <= (?, ?, ?) LIMIT ?)
"""


class TableKey(NamedTuple):
    """A table of a build of a view."""

    domain: str
    view: str
    build: int
    name: str


class _Table(NamedTuple):
    """A table as `view_tables` has it."""

    id: int
    indexes: list[list[str]]

    @property
    def rows(self) -> str:
        """The name of the table that has the rows."""
        return f"view_rows_{self.id}"

    def load(self, connection: apsw.Connection, ids: Collection[str]) -> list[StoredRow]:
        select = f"SELECT {COLUMNS} FROM {self.rows} WHERE id = ?"
        return [*map(_load, connection.executemany(select, [(id,) for id in ids]))]

    def find(self, connection: apsw.Connection, query: RowQuery, limit: int) -> list[StoredRow]:
        select = f"SELECT {COLUMNS} FROM {self.rows} {self._access(query)}"
        ranges = id_ranges(query)
        rows: list[StoredRow] = []
        for ids in ranges:
            if len(rows) >= limit and not query.order_by:
                break
            left = limit
            for (where, values), order in selections(query, ids):
                statement = f"{select} WHERE {where} ORDER BY {order} LIMIT ?"
                found = connection.execute(statement, (*values, left)).fetchall()
                rows += map(_load, found)
                left -= len(found)
        return in_order(rows, query)[:limit] if len(ranges) > 1 else rows

    def create_indexes(self, connection: apsw.Connection, added: Sequence[list[str]]) -> None:
        for fields in added:
            # Rows of the same value come by their ids.
            columns = ", ".join([*map(value_of, fields), "id"])
            connection.execute(
                f"CREATE INDEX IF NOT EXISTS {self._index(fields)} ON {self.rows} ({columns})"
                " WHERE fields IS NOT NULL"
            )
        connection.execute(
            "UPDATE view_tables SET indexes = ? WHERE id = ?",
            (dump_json([*self.indexes, *added]), self.id),
        )

    def _access(self, query: RowQuery) -> str:
        if fields := best_index(self.indexes, query):
            return f"INDEXED BY {self._index(fields)}"
        if query.order_by and query.aggregates is None:
            return "NOT INDEXED"  # all rows are read: in the order in which they lie
        return f"INDEXED BY sqlite_autoindex_{self.rows}_1"

    def _index(self, fields: Sequence[str]) -> str:
        return f"{self.rows}_{sha256(orjson.dumps([*fields])).hexdigest()[:16]}"


class SqliteRows:
    """RowStore on a table of its own, which is made when it is prepared or written to."""

    def __init__(self, database: Database, key: TableKey) -> None:
        self._database, self._key = database, key

    async def prepare(self, indexes: Sequence[Sequence[str]]) -> None:
        declared = [[*fields] for fields in indexes]

        def run(connection: apsw.Connection) -> None:
            table = _make_table(connection, self._key)
            if missing := [fields for fields in declared if fields not in table.indexes]:
                table.create_indexes(connection, missing)

        await self._database.write(run, sync=False)

    async def load(self, ids: Collection[str]) -> dict[str, StoredRow]:
        found = await self._read(lambda connection, table: table.load(connection, ids), long=False)
        return {row.id: row for row in found}

    async def save(self, rows: Sequence[StoredRow]) -> None:
        """Save as RowStore says. Rows that a loss of power takes are made again: it also takes what
        was written after them, such as the progress of their build."""
        dumped = [*map(_dump, rows)]

        def run(connection: apsw.Connection) -> None:
            table = _make_table(connection, self._key)
            connection.executemany(SAVE.format(table=table.rows), dumped)

        if rows:
            await self._database.write(run, sync=False)

    async def find(self, query: RowQuery, limit: int) -> list[StoredRow]:
        return await self._read(lambda connection, table: table.find(connection, query, limit))

    async def purge(self, up_to: FeedPoint, before: datetime) -> int:
        partition, *at = up_to

        def run(connection: apsw.Connection) -> int:
            if not (table := _find_table(connection, self._key)):
                return 0
            purge = PURGE.format(table=table.rows)
            connection.execute(purge, (partition, dump_time(before), *at, BATCH_ROWS))
            return connection.changes()

        purged = count = await self._database.write(run, sync=False)
        while count == BATCH_ROWS:
            purged += (count := await self._database.write(run, sync=False))
        return purged

    async def _read(
        self, read: Callable[[apsw.Connection, _Table], list[StoredRow]], *, long: bool = True
    ) -> list[StoredRow]:
        def run(connection: apsw.Connection) -> list[StoredRow]:
            rows: list[StoredRow] = []
            with connection:  # so that the table is not removed between two statements
                if table := _find_table(connection, self._key):
                    rows += read(connection, table)
            return rows

        return await (self._database.search(run) if long else self._database.read(run))


def hide_tables(connection: apsw.Connection, domain: str, view: str, kept: Collection[int]) -> None:
    """Hide the tables of a view's builds, but for those that are kept; `remove_rows` goes on."""
    marks = ", ".join("?" * len(kept))
    connection.execute(
        "UPDATE view_tables SET build = NULL"
        f" WHERE domain = ? AND view = ? AND build NOT IN ({marks})",
        (domain, view, *kept),
    )


def remove_rows(connection: apsw.Connection, domain: str) -> bool:
    """Remove BATCH_ROWS rows of hidden tables, or an empty one. False: there is none."""
    id: int | None = connection.execute(
        "SELECT id FROM view_tables WHERE domain = ? AND build IS NULL LIMIT 1", (domain,)
    ).get
    if id is None:
        return False
    rows = _Table(id, []).rows
    connection.execute(
        f"DELETE FROM {rows} WHERE rowid IN (SELECT rowid FROM {rows} LIMIT ?)", (BATCH_ROWS,)
    )
    if not connection.changes():
        connection.execute(f"DROP TABLE {rows}")
        connection.execute("DELETE FROM view_tables WHERE id = ?", (id,))
    return True


def _find_table(connection: apsw.Connection, key: TableKey) -> _Table | None:
    found = connection.execute(
        "SELECT id, indexes FROM view_tables"
        " WHERE domain = ? AND view = ? AND build = ? AND name = ?",
        key,
    ).fetchone()
    return _Table(found[0], orjson.loads(found[1])) if found else None


def _make_table(connection: apsw.Connection, key: TableKey) -> _Table:
    if found := _find_table(connection, key):
        return found
    connection.execute(
        "INSERT INTO view_tables (domain, view, build, name, indexes) VALUES (?, ?, ?, ?, '[]')",
        key,
    )
    table = _Table(connection.last_insert_rowid(), [])
    connection.execute(CREATE.format(table=table.rows))
    return table


def _dump(row: StoredRow) -> tuple[Any, ...]:
    fields = None if row.fields is None else dump_json(row.fields)
    return row.id, fields, *row.point, dump_time(row.written_at)


def _load(row: Any) -> StoredRow:
    id, fields, partition, epoch, offset, version, written_at = row
    point = FeedPoint(partition, epoch, offset, version)
    return StoredRow(id, fields and orjson.loads(fields), point, load_time(written_at))
