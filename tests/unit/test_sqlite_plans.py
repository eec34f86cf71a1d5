"""Statements of commands and queries use indexes: they scan no table, and do as much in a store of
2,000 as in one of 200.

`find` of documents is left out: it looks at each one.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import apsw

from eventfleet.stores.contracts import Snapshot
from eventfleet.stores.contracts.documents import StoredDocument
from eventfleet.stores.contracts.views import StoredRow
from eventfleet.stores.cursors import FeedPoint
from eventfleet.stores.sqlite import open_stores
from eventfleet.stores.sqlite.database import Database, open_database
from eventfleet.stores.sqlite.document_store import SqliteDocuments
from tests.contract.samples import DOMAIN, KEPT, TIME, at, event
from tests.contract.store_calls import CALLS, INDEXES, name, parked

SMALL, LARGE = 200, 2_000
MOST_GROWTH = 1.2
EXPLAINED = ("SELECT", "INSERT", "UPDATE", "DELETE")
ARGUMENTS = "json_each"
"""What scans the values of a filter."""
INDEXED = {what: call for what, call in CALLS.items() if what != "find in order"}


class Stores:
    """All stores of one file."""

    def __init__(self, database: Database) -> None:
        domain = open_stores(database, [DOMAIN], snapshots_kept=KEPT)[DOMAIN]
        self.events, self.snapshots = domain.events, domain.snapshots
        self.letters, self.views = domain.dead_letters, domain.views
        self.rows = domain.views.rows("items", "items", 1) if domain.views else None
        self.documents = SqliteDocuments(database, "db", "documents", "events", "version", 4)

    async def fill(self, size: int) -> None:
        """Store as many events, snapshots, rows, documents and parked aggregates."""
        assert self.letters
        assert self.rows
        numbers = range(size)
        await self.documents.prepare()
        await self.rows.prepare(INDEXES)
        await self.letters.park([parked(n) for n in numbers])
        await self.events.write([event(name(n), 1, at(n // 4, n % 4)) for n in numbers])
        snapshots = [Snapshot(name(n), 1, {}, 1, TIME, fingerprint="f") for n in numbers]
        await self.snapshots.save(snapshots)
        await self.documents.project([StoredDocument(name(n), 1, {"n": n}) for n in numbers])
        point = FeedPoint(0, 0, 1, 1)
        await self.rows.save(
            [StoredRow(name(n), {"n": n, "kind": name(n // 20)}, point, TIME) for n in numbers]
        )


class Statements:
    """What the connections of a file have run."""

    def __init__(self, database: Database) -> None:
        self._connections = *database._readers, database._writer
        self._file = database.path
        self._run: list[tuple[str, Any]] = []
        self.steps = 0
        """Of SQLite's machine."""

    @contextmanager
    def heard(self) -> Iterator[None]:
        self._run.clear()
        self.steps = 0
        for each in self._connections:
            each.exec_trace = self._note
            each.trace_v2(apsw.SQLITE_TRACE_PROFILE, self._count)
        yield
        for each in self._connections:
            each.exec_trace = None
            each.trace_v2(0, None)

    def plans(self) -> list[tuple[str, list[str]]]:
        with apsw.Connection(str(self._file)) as connection:
            return [
                (
                    sql,
                    [step for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)],
                )
                for sql, values in self._run
            ]

    def _note(self, cursor: apsw.Cursor, sql: str, values: Any) -> bool:
        if sql.lstrip().startswith(EXPLAINED):
            self._run.append((sql, values))
        return True

    def _count(self, profile: dict[str, Any]) -> None:
        self.steps += profile["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]


@asynccontextmanager
async def filled(path: Path, size: int) -> AsyncIterator[tuple[Any, Statements]]:
    async with open_database(path, 30) as database:
        stores = Stores(database)
        await stores.fill(size)
        yield stores, Statements(database)


def scans(sql: str, plan: list[str]) -> bool:
    """Return whether a statement scans; a page in the order of an index does not."""
    found = [step for step in plan if step.startswith("SCAN ") and ARGUMENTS not in step]
    is_page = sql.endswith("LIMIT ?") and not any("ORDER BY" in step for step in plan)
    return bool(found) and not (is_page and all(" USING INDEX " in step for step in found))


async def test_no_statement_scans_a_table(tmp_path: Path) -> None:
    found = []
    async with filled(tmp_path / "file", SMALL) as (stores, statements):
        for what, call in INDEXED.items():
            with statements.heard():
                await call(stores)
            plans = statements.plans()
            assert plans, what
            found += [(what, sql, plan) for sql, plan in plans if scans(sql, plan)]
    assert not found, "\n".join(map(str, found))


async def test_each_call_is_flat_in_what_is_stored(tmp_path: Path) -> None:
    steps: dict[int, dict[str, int]] = {}
    for size in (SMALL, LARGE):
        async with filled(tmp_path / f"{size}", size) as (stores, statements):
            steps[size] = {}
            for what, call in INDEXED.items():
                with statements.heard():
                    await call(stores)
                steps[size][what] = statements.steps
    small, large = steps.values()
    assert all(small.values())
    grown = {what: (small[what], large[what]) for what in small}
    assert not {what: each for what, each in grown.items() if each[1] > MOST_GROWTH * each[0] + 20}
