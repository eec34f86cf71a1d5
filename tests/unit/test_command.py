"""The command role: answers in the order of the commands, and none before the chunk is decided."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from domains.orders import orders
from protocols.command import Commands
from protocols.marking import Answer, Intent
from protocols.outcomes import Accepted, Outcome, Rejected, Repeated, Unavailable
from stores import errors
from stores.memory.log import MemoryLog, MemoryReader, MemoryTransactionalWriter
from stores.system import NothingParked, SystemClock
from topics.codec import encode
from topics.declaration import declare
from topics.event import EventRecord
from topics.record import LogRecord

GROUP = "g.command"
TOPIC = "orders.commands"


class Scripted:
    """A decider that gives the outcomes of one script after the other, by command id."""

    def __init__(self, *scripts: dict[str, Outcome]) -> None:
        self.scripts = list(scripts)
        self.asked: list[list[str]] = []

    async def decide(self, intents: Sequence[Intent], deadline: datetime, answer: Answer) -> None:
        script, names = self.scripts.pop(0), [str(i.event.causation_id) for i in intents]
        self.asked.append(names)
        for index, name in reversed(list(enumerate(names))):
            answer(index, script[name])


class Role:
    """The role of partition 0, and what it has answered."""

    def __init__(self, decider: Scripted) -> None:
        self.log = MemoryLog()
        for spec in declare("orders", 1, 1, -1):
            self.log.create(spec)
        self.reader = MemoryReader(self.log)
        writer = MemoryTransactionalWriter(self.log, GROUP, TOPIC, 0)
        self.role = Commands(orders, 0, decider, writer, NothingParked(), SystemClock())

    async def said(self, kind: str = "replies") -> list[dict[str, object]]:
        topic = f"orders.{kind}"
        return [json.loads(r.value or b"") async for r in self.reader.read(topic, 0, 0, 99)]

    async def committed(self) -> int:
        return (await self.reader.committed(GROUP, TOPIC)).get(0, 0)


def record(offset: int, name: str, kind: str = "Pay") -> LogRecord:
    time = datetime(2024, 1, 1, tzinfo=UTC)
    command = EventRecord(
        id=name,
        type=kind,
        domain="orders",
        aggregate_id="order-1",
        time=time,
        data={"amount": 1},
        reply_to="me",
        correlation_id="k",
    )
    return LogRecord(TOPIC, 0, offset, b"order-1", encode(command))


ACCEPTED, REPEATED = Accepted("e-1", "orders.events/0"), Repeated("e-2", "orders.events/0")
REJECTED, AWAY = Rejected("too late", "Cancelled"), Unavailable("away")


async def test_each_command_is_answered_in_order_with_what_became_of_it() -> None:
    role = Role(Scripted({"a": ACCEPTED, "b": REJECTED, "c": REPEATED}))
    await role.role.open()
    records = [record(0, "a"), record(1, "b"), record(2, "c"), record(3, "d", kind="Bribe")]
    report = await role.role.chunk(records, 4)
    about = {"command": "Pay", "aggregate_id": "order-1", "reply_to": "me", "correlation_id": "k"}
    assert await role.said() == [
        {
            **about,
            "command_id": "a",
            "outcome": "accepted",
            "event_id": "e-1",
            "place": "orders.events/0",
        },
        {
            **about,
            "command_id": "b",
            "outcome": "rejected",
            "reason": "too late",
            "marked": "Cancelled",
        },
        {
            **about,
            "command_id": "c",
            "outcome": "repeated",
            "event_id": "e-2",
            "place": "orders.events/0",
        },
    ]
    assert [letter["id"] for letter in await role.said("dead-letters")] == ["d"]
    assert await role.committed() == 4
    counts = report.accepted, report.rejected, report.repeated, report.dead_letters
    assert counts == (1, 1, 1, 1)


async def test_nothing_is_answered_before_all_is_and_what_was_decided_stays_so() -> None:
    decider = Scripted({"a": REJECTED, "b": ACCEPTED, "c": AWAY}, {"c": AWAY}, {"c": ACCEPTED})
    role = Role(decider)
    records = [record(0, "a"), record(1, "b"), record(2, "c")]
    for _ in range(2):
        await role.role.open()
        with pytest.raises(errors.Unavailable, match="away"):
            await role.role.chunk(records, 3)
        assert await role.said() == []
        assert await role.committed() == 0
    assert await role.role.open() == 0
    report = await role.role.chunk(records, 3)
    assert decider.asked == [["a", "b", "c"], ["c"], ["c"]]
    outcomes = [answer["outcome"] for answer in await role.said()]
    assert outcomes == ["rejected", "accepted", "accepted"]
    assert (report.accepted, report.rejected, report.repeated) == (2, 1, 0)


async def test_the_next_chunk_is_decided_anew() -> None:
    decider = Scripted({"a": ACCEPTED}, {"a": REPEATED})
    role = Role(decider)
    await role.role.open()
    await role.role.chunk([record(0, "a")], 1)
    await role.role.chunk([record(1, "a")], 2)
    assert [answer["outcome"] for answer in await role.said()] == ["accepted", "repeated"]
