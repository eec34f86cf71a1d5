"""What a former owner of a partition has in hand is not stored once another has decided it."""

import json
from collections.abc import AsyncIterator

import pytest

from eventfleet.roles.command import CommandRole
from eventfleet.stores.errors import Fenced
from eventfleet.stores.memory.log import MemoryReader, MemoryTransactionalWriter
from eventfleet.topics.codec import encode
from eventfleet.topics.event import CommandRecord
from eventfleet.topics.record import LogRecord
from tests.unit.sync_domain import NOW, SyncFixture, till


@pytest.fixture
async def desk() -> AsyncIterator[SyncFixture]:
    async with SyncFixture().open() as desk:
        yield desk


def role_of(desk: SyncFixture) -> CommandRole:
    writer = MemoryTransactionalWriter(desk.log, "g.command", "till.commands", 0)
    return CommandRole(till, 0, desk.manager, desk.events.registry, writer, desk.clock)


def take_out(cents: int) -> LogRecord:
    about = {"id": "c1", "domain": "till", "aggregate_id": "a", "time": NOW}
    command = CommandRecord(type="TakeOut", data={"cents": cents}, **about)
    return LogRecord("till.commands", 0, 0, b"a", encode(command))


async def test_a_rejected_command_is_not_stored_by_a_former_owner(desk: SyncFixture) -> None:
    former, successor, records = role_of(desk), role_of(desk), [take_out(5)]
    await former.open()
    await successor.open()
    await successor.process(records, 1)
    await desk.send("PutIn", cents=100)
    with pytest.raises(Fenced):
        await former.process(records, 1)
    replies = [r async for r in MemoryReader(desk.log).read("till.replies", 0, 0, 9)]
    assert [json.loads(reply.value or b"")["outcome"] for reply in replies] == ["rejected"]
    assert [event.type for event in await desk.stored()] == ["Put"]


async def test_an_owner_that_takes_over_again_decides_again(desk: SyncFixture) -> None:
    former, successor = role_of(desk), role_of(desk)
    await former.open()
    await successor.open()
    await desk.send("PutIn", cents=100)
    await former.open()
    await former.process([take_out(5)], 1)
    assert [event.type for event in await desk.stored()] == ["Put", "Taken", "Charged"]
