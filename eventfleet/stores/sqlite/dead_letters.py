"""The dead-letter store on SQLite: a row for each parked aggregate, with its request."""

from collections.abc import Collection, Sequence
from typing import Any

import apsw
import msgspec

from eventfleet.stores.contracts.dead_letters import ParkedQuery, RedriveRequest
from eventfleet.stores.sqlite.database import Database
from eventfleet.topics.parked import Discard, DiscardedEvent, ParkedAggregate

PARK = """
INSERT INTO parked (domain, role, aggregate_id, partition, first, reason, parked)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET partition = excluded.partition, first = excluded.first,
  reason = excluded.reason, parked = excluded.parked
"""
REQUEST = """
UPDATE parked SET requested = ?4, requested_first = ?5
WHERE domain = ?1 AND role = ?2 AND aggregate_id = ?3 AND first = ?5
  AND (?4 <> 'null' OR requested IS NULL OR requested_first <> ?5)
"""


class SqliteDeadLetters:
    """DeadLetterStore of one domain."""

    def __init__(self, database: Database, domain: str) -> None:
        self._database, self._domain = database, domain

    async def prepare(self) -> None:
        """Prepare nothing: the tables are there."""

    async def parked_in(self, role: str, partition: int) -> list[ParkedAggregate]:
        return await self._parked("role = ? AND partition = ?", role, partition)

    async def park(self, parked: Sequence[ParkedAggregate]) -> None:
        rows = [
            (
                *(self._domain, each.role, each.aggregate_id, each.partition, each.first),
                *(each.reason, _dump(each)),
            )
            for each in parked
        ]
        if rows:
            await self._database.run_each(PARK, rows)

    async def unpark(self, role: str, aggregate_ids: Collection[str]) -> None:
        delete = "DELETE FROM parked WHERE domain = ? AND role = ? AND aggregate_id = ?"
        keys = [(self._domain, role, each) for each in aggregate_ids]
        await self._database.run_each(delete, keys)

    async def find(self, query: ParkedQuery, limit: int) -> list[ParkedAggregate]:
        where, values = "(role, aggregate_id) > (?, ?)", [*query.after]
        for column in ("role", "aggregate_id"):
            if wanted := getattr(query, column):
                where, values = f"{where} AND {column} = ?", [*values, wanted]
        return await self._parked(
            f"{where} AND substr(reason, 1, length(?)) = ? ORDER BY role, aggregate_id LIMIT ?",
            *(*values, query.reason, query.reason, limit),
        )

    async def count(self) -> dict[str, int]:
        select = "SELECT role, count(*) FROM parked WHERE domain = ? GROUP BY role"
        return dict(await self._database.rows(select, self._domain))

    async def request(self, parked: ParkedAggregate, discard: Discard | None) -> bool:
        return await self._request([parked], discard) == 1

    async def request_redrives(self, parked: Sequence[ParkedAggregate]) -> int:
        return await self._request(parked, None)

    async def requests(self, role: str, partition: int, limit: int) -> list[RedriveRequest]:
        found = await self._database.rows(
            "SELECT aggregate_id, requested_first, requested"
            " FROM parked INDEXED BY requested_redrives WHERE domain = ?"
            " AND role = ? AND partition = ? AND requested IS NOT NULL"
            " ORDER BY aggregate_id LIMIT ?",
            *(self._domain, role, partition, limit),
        )
        return [RedriveRequest(id, first, _load_discard(asked)) for id, first, asked in found]

    async def end_request(self, role: str, request: RedriveRequest) -> None:
        aggregate_id, first, discard = request
        update = (
            "UPDATE parked SET requested = NULL, requested_first = NULL WHERE domain = ?"
            " AND role = ? AND aggregate_id = ? AND requested_first = ? AND requested = ?"
        )
        key = (self._domain, role, aggregate_id, first, _dump(discard))
        await self._database.run_each(update, [key])

    async def note_discarded(self, events: Collection[DiscardedEvent]) -> None:
        insert = "INSERT INTO discarded VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
        rows = [
            (self._domain, each.role, each.aggregate_id, each.version, _dump(each))
            for each in events
        ]
        await self._database.run_each(insert, rows)

    async def discarded(self, role: str, aggregate_ids: Collection[str]) -> list[DiscardedEvent]:
        marks = ", ".join("?" * len(aggregate_ids))
        return await self._discarded(
            f"role = ? AND aggregate_id IN ({marks})", role, *aggregate_ids
        )

    async def discarded_by(self, role: str) -> list[DiscardedEvent]:
        return await self._discarded("role = ?", role)

    async def _discarded(self, where: str, *values: Any) -> list[DiscardedEvent]:
        select = f"SELECT discarded FROM discarded WHERE domain = ? AND {where}"
        order = "ORDER BY aggregate_id, version"
        found = await self._database.rows(f"{select} {order}", self._domain, *values)
        return [msgspec.json.decode(each, type=DiscardedEvent) for (each,) in found]

    async def _parked(self, where: str, *values: Any) -> list[ParkedAggregate]:
        select = f"SELECT parked FROM parked WHERE domain = ? AND {where}"
        found = await self._database.rows(select, self._domain, *values)
        return [msgspec.json.decode(each, type=ParkedAggregate) for (each,) in found]

    async def _request(self, parked: Sequence[ParkedAggregate], discard: Discard | None) -> int:
        """Return how many of them are parked so."""
        known = (
            "SELECT count(*) FROM parked"
            " WHERE domain = ? AND role = ? AND aggregate_id = ? AND first = ?"
        )

        def run(connection: apsw.Connection) -> int:
            count = 0
            for each in parked:
                key = self._domain, each.role, each.aggregate_id
                connection.execute(REQUEST, (*key, _dump(discard), each.first))
                count += connection.execute(known, (*key, each.first)).get
            return count

        return await self._database.write(run)


def _dump(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _load_discard(requested: str) -> Discard | None:
    return msgspec.json.decode(requested, type=Discard | None)
