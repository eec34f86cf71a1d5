"""What a former owner of a partition has in hand is not stored once another has decided it."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from eventfleet.deciders.outcomes import Accepted
from eventfleet.roles.command import CommandRole
from eventfleet.stores.contracts import MarkOwner
from eventfleet.stores.errors import Fenced, ServerUnavailable
from eventfleet.stores.memory.log import MemoryReader, MemoryTransactionalWriter
from eventfleet.topics.codec import encode
from eventfleet.topics.event import CommandRecord
from eventfleet.topics.record import LogRecord, ProducerRecord
from tests.unit.command_roles import TOPIC, MarkerRoleFixture
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


async def replies(desk: SyncFixture) -> list[str]:
    """The outcomes that were sent."""
    found = [r async for r in MemoryReader(desk.log).read("till.replies", 0, 0, 9)]
    return [json.loads(reply.value or b"")["outcome"] for reply in found]


async def test_a_rejected_command_is_not_stored_by_a_former_owner(desk: SyncFixture) -> None:
    former, successor, records = role_of(desk), role_of(desk), [take_out(5)]
    await former.open()
    await successor.open()
    await successor.process(records, 1)
    await desk.send("PutIn", cents=100)
    with pytest.raises(Fenced):
        await former.process(records, 1)
    assert await replies(desk) == ["rejected"]
    assert [event.type for event in await desk.stored()] == ["Put"]


async def test_an_owner_that_takes_over_again_decides_again(desk: SyncFixture) -> None:
    former, successor = role_of(desk), role_of(desk)
    await former.open()
    await successor.open()
    await desk.send("PutIn", cents=100)
    await former.open()
    await former.process([take_out(5)], 1)
    assert [event.type for event in await desk.stored()] == ["Put", "Taken", "Charged"]


async def fail_to_commit(role: CommandRole, records: list[LogRecord]) -> None:
    """Let a role decide these, and lose its answers."""

    async def commit(*_: object) -> None:
        raise ServerUnavailable("no broker")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryTransactionalWriter, "commit", commit)
        with pytest.raises(ServerUnavailable):
            await role.process(records, 1)


async def test_an_owner_forgets_what_it_decided_before_another_did(desk: SyncFixture) -> None:
    former, successor, records = role_of(desk), role_of(desk), [take_out(5)]
    await former.open()
    await fail_to_commit(former, records)
    await successor.open()
    await desk.send("PutIn", cents=100)
    await fail_to_commit(successor, records)
    await former.open()
    await former.process(records, 1)
    assert [event.type for event in await desk.stored()] == ["Put", "Taken", "Charged"]
    assert await replies(desk) == ["repeated"]


async def test_an_owner_knows_what_it_decided_where_no_other_did(desk: SyncFixture) -> None:
    role, records = role_of(desk), [take_out(5)]
    await role.open()
    await fail_to_commit(role, records)
    await desk.send("PutIn", cents=100)
    await role.open()
    await role.process(records, 1)
    assert await replies(desk) == ["rejected"]


async def test_an_owner_that_is_slow_to_take_over_decides_nothing_that_is_decided(
    desk: SyncFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, successor, records = role_of(desk), role_of(desk), [take_out(5)]
    desk.log.append(ProducerRecord("till.commands", b"a", records[0].value, 0))
    note_owner = desk.events.registry.note_owner

    async def note_slowly(*note: Any) -> None:
        monkeypatch.undo()
        await successor.open()
        await successor.process(records, 1)
        await note_owner(*note)

    monkeypatch.setattr(desk.events.registry, "note_owner", note_slowly)
    assert await slow.open() == 1


# With markers


class Offices(MarkerRoleFixture):
    """Two workers that think they decide the commands of partition 0."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = 0
        self.guards = {self.role: self.desk.guard}
        self.former, self.successor = self.role, self.another()

    def another(self) -> CommandRole:
        self.restart()
        self.guards[self.role] = self.desk.guard
        return self.role

    async def process(self, role: CommandRole) -> None:
        """What the topic has, but for what the former owner has taken in time."""
        self.desk.guard, records = self.guards[role], self.desk.memory.records(TOPIC)
        await role.process(records[self.taken :], len(records))

    async def place(self) -> None:
        """By a service: what allows the payment."""
        self.desk.guard = self.guards[self.successor]
        assert isinstance(await self.desk.send("Place"), Accepted)


@pytest.fixture
async def offices() -> Offices:
    offices = Offices()
    await offices.former.open()
    await offices.put("Pay0")
    await offices.process(offices.former)
    offices.taken = 1
    await offices.put("Pay")
    return offices


async def reject_then_allow(offices: Offices) -> None:
    """The successor rejects what is in the topic; then a service makes it allowed."""
    await offices.successor.open()
    await offices.process(offices.successor)
    assert offices.outcomes()[1:] == [("Pay", "rejected")]
    await offices.place()


async def test_a_rejected_command_is_not_noted_by_a_former_owner(
    offices: Offices, monkeypatch: pytest.MonkeyPatch
) -> None:
    markers, noted = offices.desk.markers, []
    mark = markers.mark

    async def mark_slowly(requests: Any) -> Any:
        monkeypatch.undo()
        await reject_then_allow(offices)
        noted.append({**offices.desk.redis.data.owners})
        return await mark(requests)

    monkeypatch.setattr(markers, "mark", mark_slowly)
    with pytest.raises(Fenced):
        await offices.process(offices.former)
    assert offices.desk.types() == ["Placed"]
    assert noted == [offices.desk.redis.data.owners]


async def test_a_former_owner_is_not_noted_anew_in_another_life_of_redis(offices: Offices) -> None:
    await reject_then_allow(offices)
    offices.desk.redis.flush()
    with pytest.raises(Fenced):
        await offices.process(offices.former)
    assert offices.desk.types() == ["Placed"]


async def test_an_owner_goes_on_in_another_life_of_redis(offices: Offices) -> None:
    await offices.place()
    offices.desk.redis.flush()
    await offices.process(offices.former)
    assert offices.outcomes()[1:] == [("Pay", "accepted")]


async def test_an_owner_goes_on_whose_note_a_former_one_has_taken_the_place_of(
    offices: Offices,
) -> None:
    await reject_then_allow(offices)
    markers = offices.desk.markers
    await markers.note_owner(MarkOwner(0, "late"), await markers.incarnation())
    await offices.put("Pay2")
    await offices.process(offices.successor)
    assert offices.desk.types() == ["Placed", "Paid"]


async def test_what_is_answered_without_a_decision_is_not_noted_by_a_former_owner(
    offices: Offices,
) -> None:
    await offices.successor.open()
    await offices.successor.process([], 1)
    await offices.place()
    with pytest.raises(Fenced):
        await offices.process(offices.former)
    assert offices.desk.types() == ["Placed"]
