"""The registry on SQLite: a row for each fact of a domain."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, TypeVar

import apsw
import msgspec

from eventfleet.model.event_shapes import EventShape
from eventfleet.stores.contracts import OffsetNote, OffsetRange, RegistryFacts, Repair
from eventfleet.stores.registry_state import RegistryState
from eventfleet.stores.sqlite.database import Database

SELECT = "SELECT fact, value FROM registry WHERE domain = ?"
SAVE = """
INSERT INTO registry (domain, fact, value) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET value = excluded.value
"""
T = TypeVar("T")

_encode = msgspec.json.Encoder().encode
_fields = {each.name: each.type for each in msgspec.structs.fields(RegistryState)}


class SqliteRegistry:
    """StoreRegistry of one domain."""

    def __init__(self, database: Database, domain: str) -> None:
        self._database, self._domain = database, domain

    async def epoch(self) -> int:
        return await self._read(lambda state: state.epoch, "epoch")

    async def incarnation(self) -> str:
        return f"{self._database.incarnation}.{await self.epoch()}"

    async def check_writable(self) -> None:
        await self._database.sync()

    async def raise_epoch(self) -> int:
        return await self._change(lambda state: state.raise_epoch())

    async def partition_count(self) -> int | None:
        return await self._read(lambda state: state.partition_count)

    async def register_partition_count(self, count: int) -> int:
        return await self._change(lambda state: state.register_partition_count(count))

    async def partition_counts(self) -> set[int]:
        return await self._read(lambda state: {*state.partition_counts.values()})

    async def event_shapes(self) -> list[EventShape]:
        return await self._read(lambda state: state.event_shapes)

    async def replace_event_shapes(
        self, recorded: Sequence[EventShape], shapes: Sequence[EventShape]
    ) -> bool:
        return await self._change(lambda state: state.replace_event_shapes(recorded, shapes))

    async def declarations(self) -> dict[str, list[EventShape]]:
        return await self._read(lambda state: state.declarations)

    async def note_declaration(self, roles: Collection[str], shapes: Sequence[EventShape]) -> None:
        await self._change(lambda state: state.note_declaration(roles, shapes))

    async def next_offset(self, partition: int) -> int:
        return await self._read(
            lambda state: state.next_offsets.get(partition, 0), "epoch", "notes"
        )

    async def next_offsets(self) -> dict[int, int]:
        return await self._read(lambda state: state.next_offsets)

    async def last_note(self, partition: int) -> OffsetNote | None:
        return await self._read(lambda state: state.notes.get(partition))

    async def note_next_offset(self, partition: int, epoch: int, next_offset: int) -> None:
        """Note it unsynced: the group's offset, which must not be above it, is committed later."""
        await self._change(
            lambda state: state.note_next_offset(partition, epoch, next_offset),
            *("epoch", "notes"),
            sync=False,
        )

    async def rewind(self, ranges: Collection[OffsetRange], time: datetime) -> int:
        return await self._change(lambda state: state.rewind(ranges, time))

    async def record_restore(self, ranges: Collection[OffsetRange], time: datetime) -> None:
        await self._change(lambda state: state.record_restore(ranges, time))

    async def has_begun(self, role: str, partition: int) -> bool:
        return await self._read(lambda state: (role, partition) in state.begun, "begun")

    async def note_begun(self, role: str, partition: int) -> None:
        await self._change(lambda state: state.begun.add((role, partition)))

    async def owner(self, role: str, partition: int) -> str:
        return await self._read(lambda state: state.owner(role, partition), "owners")

    async def note_owner(self, role: str, partition: int, owner: str) -> str:
        return await self._change(lambda state: state.note_owner(role, partition, owner), "owners")

    async def repairs(self) -> list[Repair]:
        return await self._read(lambda state: state.repairs)

    async def first_incarnation(self) -> str:
        return await self._read(lambda state: state.first_incarnation)

    async def register_first_incarnation(self, incarnation_id: str) -> str:
        return await self._change(lambda state: state.register_first_incarnation(incarnation_id))

    async def facts(self) -> RegistryFacts:
        return await self._read(lambda state: state.facts)

    async def recover(self, facts: RegistryFacts) -> None:
        await self._change(lambda state: state.recover(facts))

    async def _read(self, find: Callable[[RegistryState], T], *facts: str) -> T:
        """Find something in the state. `facts`: the ones that this needs; by default all."""
        return await self._database.read(
            lambda connection: find(_load(connection, self._domain, facts)[0])
        )

    async def _change(
        self, change: Callable[[RegistryState], T], *facts: str, sync: bool = True
    ) -> T:
        """Change the state, and save the facts that are others than before. `facts` as above."""

        def run(connection: apsw.Connection) -> T:
            state, values = _load(connection, self._domain, facts)
            result = change(state)
            for fact in facts or _fields:
                value = _encode(getattr(state, fact)).decode()
                if value != values.get(fact):
                    connection.execute(SAVE, (self._domain, fact, value))
            return result

        return await self._database.write(run, sync=sync)


def _load(
    connection: apsw.Connection, domain: str, facts: Sequence[str]
) -> tuple[RegistryState, dict[str, str]]:
    """Return the state, and its facts as they are kept."""
    named = f" AND fact IN ({', '.join('?' * len(facts))})" if facts else ""
    found: Any = connection.execute(f"{SELECT}{named}", (domain, *facts))
    values: dict[str, str] = dict(found)
    decoded = {
        fact: msgspec.json.decode(value, type=_fields[fact]) for fact, value in values.items()
    }
    return RegistryState(**decoded), values
