"""The views' stores on SQLite: a row of `view_builds` has the builds of a view."""

from collections.abc import Callable, Sequence
from typing import Any

import apsw
import msgspec

from eventfleet.model.views import ViewShape
from eventfleet.stores.contracts.views import BuildProgress, ViewBuild, ViewBuilds
from eventfleet.stores.cursors import FeedPoint
from eventfleet.stores.sqlite.database import Database
from eventfleet.stores.sqlite.view_rows import SqliteRows, TableKey, hide_tables, remove_rows

NOTE_REPAIRED = """
INSERT INTO view_builds (domain, view, repaired) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET repaired = max(coalesce(repaired, 0), excluded.repaired)
"""
NOTE_BUILDS = """
INSERT INTO view_builds (domain, view, builds) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET builds = excluded.builds
"""

Change = Callable[[ViewBuilds], ViewBuilds | None]
"""What becomes of a view's builds; None: they stay."""


class SqliteViews:
    """ViewStore of one domain."""

    def __init__(self, database: Database, domain: str) -> None:
        self._database, self._domain = database, domain

    async def builds(self) -> dict[str, ViewBuilds]:
        found = await self._noted("builds")
        return {view: _load(builds) for view, builds in found.items()}

    async def begin(
        self, view: str, tables: Sequence[str], shape: ViewShape, last_number: int
    ) -> bool:
        def run(connection: apsw.Connection) -> bool:
            builds = self._change(connection, view, lambda builds: builds.begun(shape, last_number))
            if builds is None:
                return False
            kept = [build.number for build in builds if build]
            hide_tables(connection, self._domain, view, kept)
            return True

        if not await self._database.write(run):
            return False
        while await self._database.write(self._remove_rows, sync=False):
            pass
        return True

    async def note_progress(
        self,
        view: str,
        number: int,
        partition: int,
        known: BuildProgress,
        progress: BuildProgress,
    ) -> bool:
        return await self._write(
            view, lambda builds: builds.noted(number, partition, known, progress)
        )

    async def make_live(self, view: str, number: int, partitions: int) -> bool:
        return await self._write(view, lambda builds: builds.made_live(number, partitions))

    async def note_repaired(self, view: str, number: int) -> None:
        def run(connection: apsw.Connection) -> None:
            connection.execute(NOTE_REPAIRED, (self._domain, view, number))

        await self._database.write(run)

    async def repaired(self) -> dict[str, int]:
        return await self._noted("repaired")

    def rows(self, view: str, table: str, number: int) -> SqliteRows:
        return SqliteRows(self._database, TableKey(self._domain, view, number, table))

    async def _noted(self, column: str) -> dict[str, Any]:
        """Return what is noted of the views, by their names."""
        select = f"SELECT view, {column} FROM view_builds WHERE domain = ? AND {column} NOT NULL"
        return await self._database.read(
            lambda connection: dict(connection.execute(select, (self._domain,)))
        )

    async def _write(self, view: str, change: Change) -> bool:
        return await self._database.write(
            lambda connection: self._change(connection, view, change) is not None
        )

    def _change(self, connection: apsw.Connection, view: str, change: Change) -> ViewBuilds | None:
        """Change a view's builds; return what they are then."""
        select = "SELECT builds FROM view_builds WHERE domain = ? AND view = ?"
        known: str | None = connection.execute(select, (self._domain, view)).get
        builds = change(_load(known) if known else ViewBuilds())
        if builds is not None:
            connection.execute(NOTE_BUILDS, (self._domain, view, _dump(builds)))
        return builds

    def _remove_rows(self, connection: apsw.Connection) -> bool:
        return remove_rows(connection, self._domain)


def _dump(builds: ViewBuilds) -> str:
    kinds = builds._asdict().items()
    return msgspec.json.encode({kind: _plain(build) for kind, build in kinds if build}).decode()


def _plain(build: ViewBuild) -> dict[str, Any]:
    partitions = {number: each._asdict() for number, each in build.partitions.items()}
    return {**build._asdict(), "partitions": partitions}


def _load(text: str) -> ViewBuilds:
    found = msgspec.json.decode(text)
    return ViewBuilds(**{kind: _build(**build) for kind, build in found.items()})


def _build(number: int, shape: dict[str, Any], partitions: dict[str, dict[str, Any]]) -> ViewBuild:
    progress = {int(partition): _progress(**noted) for partition, noted in partitions.items()}
    return ViewBuild(number, ViewShape(**shape), progress)


def _progress(point: list[int] | None, **noted: Any) -> BuildProgress:
    return BuildProgress(point=FeedPoint(*point) if point else None, **noted)
