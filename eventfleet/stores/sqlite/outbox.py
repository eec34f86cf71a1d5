"""The outbox on SQLite: a column of an event's row says in what state it is."""

from collections.abc import Collection

import orjson

from eventfleet.stores.contracts.outbox import BusNote, BusPlace
from eventfleet.stores.sqlite.database import Database
from eventfleet.stores.sqlite.event_table import EventTable
from eventfleet.topics.event import EventKey, EventRecord

PUBLISH, PROJECT, PARKED, PUBLISHED = "publish", "project", "parked", "published"
PENDING = f"outbox IN ('{PUBLISH}', '{PROJECT}')"


class SqliteOutbox:
    """Outbox of the events of one domain."""

    def __init__(self, database: Database, table: EventTable) -> None:
        self._database, self._table, self._domain = database, table, table.domain

    async def prepare(self) -> None:
        """Prepare nothing: the tables are there."""

    async def pending(self, limit: int, *, to_publish: bool) -> list[EventRecord]:
        state = PUBLISH if to_publish else PROJECT
        return await self._database.read(
            lambda connection: self._table.select(
                connection,
                "outbox = ? AND aggregate_id IN"
                " (SELECT aggregate_id FROM events WHERE domain = ? AND outbox = ?"
                " ORDER BY seq LIMIT ?) ORDER BY aggregate_id, version LIMIT ?",
                *(state, self._domain, state, limit, limit),
            )
        )

    async def settle(self, keys: Collection[EventKey], place: BusPlace | None = None) -> None:
        await self._move(keys, PENDING, PUBLISHED if place else None, place)

    async def park(self, keys: Collection[EventKey]) -> None:
        await self._move(keys, PENDING, PARKED)

    async def park_pending(self, aggregate_id: str) -> None:
        await self._database.run_each(
            f"UPDATE events SET outbox = '{PARKED}' WHERE domain = ? AND aggregate_id = ?"
            f" AND {PENDING}",
            [(self._domain, aggregate_id)],
        )

    async def parked_aggregates(self, among: Collection[str] | None = None) -> set[str]:
        select = "SELECT DISTINCT aggregate_id FROM events WHERE domain = ? AND outbox = ?"
        found = await self._database.rows(select, self._domain, PARKED)
        parked = {str(aggregate_id) for (aggregate_id,) in found}
        return parked if among is None else parked & {*among}

    async def parked(self, aggregate_id: str, limit: int) -> list[EventRecord]:
        return await self._database.read(
            lambda connection: self._table.select(
                connection,
                "outbox = ? AND aggregate_id = ? ORDER BY version LIMIT ?",
                *(PARKED, aggregate_id, limit),
            )
        )

    async def settle_parked(self, key: EventKey, place: BusPlace | None = None) -> None:
        await self._move([key], f"outbox = '{PARKED}'", PUBLISHED if place else None, place)

    async def confirm(self, place: BusPlace) -> None:
        await self._database.run_each(
            "UPDATE events SET outbox = NULL, bus_incarnation = NULL, bus_offset = NULL"
            f" WHERE domain = ? AND outbox = '{PUBLISHED}' AND bus_incarnation = ?"
            " AND bus_offset <= ?",
            [(self._domain, place.incarnation, place.offset)],
        )

    async def publish_again(self, incarnation: str) -> bool:
        changed = await self._database.run_each(
            f"UPDATE events SET outbox = '{PUBLISH}', bus_incarnation = NULL, bus_offset = NULL"
            f" WHERE domain = ? AND outbox = '{PUBLISHED}' AND bus_incarnation <> ?",
            [(self._domain, incarnation)],
        )
        return changed > 0

    async def bus_note(self, name: str) -> BusNote | None:
        select = "SELECT incarnation, groups FROM bus_notes WHERE domain = ? AND name = ?"
        found = await self._database.rows(select, self._domain, name)
        return BusNote(found[0][0], tuple(orjson.loads(found[0][1]))) if found else None

    async def note_bus(self, name: str, note: BusNote) -> None:
        row = self._domain, name, note.incarnation, orjson.dumps(note.groups).decode()
        insert = "INSERT OR REPLACE INTO bus_notes VALUES (?, ?, ?, ?)"
        await self._database.run_each(insert, [row])

    async def hold_lease(self, name: str, owner: str, seconds: float) -> bool:
        return self._database.leases.hold((self._domain, name), owner, seconds)

    async def release_lease(self, name: str, owner: str) -> None:
        self._database.leases.release((self._domain, name), owner)

    async def _move(
        self,
        keys: Collection[EventKey],
        state: str,
        to: str | None,
        place: BusPlace | None = None,
    ) -> None:
        """Move those of these events that are in a state to another one; with a place, there."""
        at = (place.incarnation, place.offset) if place else (None, None)
        update = (
            "UPDATE events SET outbox = ?, bus_incarnation = ?, bus_offset = ?"
            f" WHERE domain = ? AND aggregate_id = ? AND id = ? AND {state}"
        )
        if keys:
            await self._database.run_each(update, [(to, *at, self._domain, *key) for key in keys])
