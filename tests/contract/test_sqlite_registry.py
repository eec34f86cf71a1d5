"""What the registry on SQLite promises beyond every registry's contract."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import apsw
import pytest

from eventfleet.model.event_shapes import EventShape
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.sqlite.database import Database, open_database
from eventfleet.stores.sqlite.registry import SqliteRegistry
from tests.contract.faulty_files import FaultyFiles, faulty_files


@pytest.fixture
def files() -> Iterator[FaultyFiles]:
    with faulty_files() as files:
        yield files


@pytest.fixture
async def database(files: FaultyFiles, tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(tmp_path / "file", 30) as database:
        yield database


@pytest.mark.parametrize("failing", ["on_write", "on_sync"])
async def test_a_check_of_writes_fails_where_writes_do_though_reads_are_answered(
    database: Database, files: FaultyFiles, failing: str
) -> None:
    def refuse(*_: object) -> None:
        raise apsw.IOError("no disk")

    registry = SqliteRegistry(database, "d")
    await registry.check_writable()
    setattr(files, failing, refuse)
    assert await registry.epoch() == 0
    with pytest.raises(ServerUnavailable):
        await registry.check_writable()
    setattr(files, failing, None)
    await registry.check_writable()


async def test_notes_of_offsets_and_owners_do_without_the_rest_of_the_registry(
    database: Database,
) -> None:
    registry = SqliteRegistry(database, "d")
    await registry.note_declaration(["append"], [EventShape("Placed", 1, "{}")])
    await database.write(
        lambda connection: connection.execute(
            "UPDATE registry SET value = 'unread' WHERE fact NOT IN ('epoch', 'notes', 'owners')"
        )
    )
    await registry.note_next_offset(0, 0, 7)
    await registry.note_owner("command", 0, "me")
    assert await registry.epoch() == 0
    assert await registry.next_offset(0) == 7
    assert await registry.owner("command", 0) == "me"
