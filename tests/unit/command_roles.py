"""Command roles with what they need, for unit tests."""

import json
from collections.abc import Sequence
from datetime import datetime

from eventfleet.deciders.decider import Answer
from eventfleet.deciders.outcomes import (
    Outcome,
)
from eventfleet.deciders.proposed_event import ProposedEvent
from eventfleet.domains.orders import orders
from eventfleet.roles.command import CommandRole
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.memory.log import MemoryLog, MemoryReader, MemoryTransactionalWriter
from eventfleet.stores.memory.registry import MemoryRegistry
from eventfleet.topics.event import EventRecord
from eventfleet.topics.names import Topics
from eventfleet.topics.topic_specs import declare_topics
from tests.unit.marker_fixture import BODIES, MarkerFixture

GROUP = "g.command"
TOPIC = "orders.commands"


class ScriptedDecider:
    """A decider that gives the outcomes of one script after the other, by command id."""

    def __init__(self, *scripts: dict[str, Outcome]) -> None:
        self.scripts = list(scripts)
        self.asked: list[list[str]] = []

    async def decide(
        self, intents: Sequence[ProposedEvent], deadline: datetime, answer: Answer, _: object
    ) -> None:
        if not intents:
            return
        script, names = self.scripts.pop(0), [str(i.event.causation_id) for i in intents]
        self.asked.append(names)
        for index, name in reversed(list(enumerate(names))):
            answer(index, script[name])


class CommandRoleFixture:
    """The role of partition 0, and what it has answered."""

    def __init__(self, decider: ScriptedDecider) -> None:
        self.log = MemoryLog()
        for spec in declare_topics(Topics.of("orders", ""), 1, 1, -1):
            self.log.create(spec)
        self.reader = MemoryReader(self.log)
        writer = MemoryTransactionalWriter(self.log, GROUP, TOPIC, 0)
        self.role = CommandRole(orders, 0, decider, MemoryRegistry(), writer, SystemClock())

    async def said(self, kind: str = "replies") -> list[dict[str, object]]:
        topic = f"orders.{kind}"
        return [json.loads(r.value or b"") async for r in self.reader.read(topic, 0, 0, 99)]

    async def committed(self) -> int:
        return (await self.reader.committed(GROUP, TOPIC)).get(0, 0)


class MarkerRoleFixture:
    """The role over a Marking; `send` puts commands into its topic, and takes all that is new."""

    def __init__(self) -> None:
        self.desk = MarkerFixture()
        self.log = self.desk.memory.log
        self.restart()

    def restart(self) -> None:
        memory = self.desk.memory
        writer = MemoryTransactionalWriter(self.log, GROUP, TOPIC, 0)
        decider = self.desk.service()
        registry = memory.events.registry
        self.role = CommandRole(orders, 0, decider, registry, writer, memory.clock)

    async def put(self, *names: str) -> None:
        for name in names:
            kind = name.rstrip("0123456789")
            body = BODIES.get(kind, {})
            time = self.desk.memory.clock.now()
            command = EventRecord(
                id=name, type=kind, domain="orders", aggregate_id="a", time=time, data=body
            )
            await self.desk.memory.emit(TOPIC, command)

    async def take(self) -> None:
        offset = await self.role.open()
        records = self.desk.memory.records(TOPIC)[offset:]
        await self.role.process(records, offset + len(records))

    def outcomes(self) -> list[tuple[str, str]]:
        replies = self.desk.memory.records("orders.replies")
        answers = [json.loads(reply.value or b"") for reply in replies]
        return [(answer["command_id"], answer["outcome"]) for answer in answers]
