"""Commands of a domain without rules."""

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from eventfleet.deciders.direct_decider import DirectDecider
from eventfleet.deciders.outcomes import Accepted, IdReused, Outcome, Repeated, Unavailable
from eventfleet.deciders.proposed_event import ProposedEvent, propose_event
from eventfleet.model.command_rules import Emits
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import State
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import MemoryLog, MemoryProducer
from eventfleet.topics.codec import decode
from eventfleet.topics.event import EventRecord, event_id
from eventfleet.topics.names import Topics
from eventfleet.topics.topic_specs import declare_topics
from tests.simulation.in_memory_servers import HandClock
from tests.unit.marker_fixture import Failing

NOW = datetime(2025, 1, 1, tzinfo=UTC)
FREE = Domain("free", state=State, evolve=lambda s, e: s, commands=[Emits("Say", "Said")])
PLACE = "free.events/0"


class DirectFixture:
    def __init__(self) -> None:
        self.log = MemoryLog()
        for spec in declare_topics(Topics.of("free", ""), 1, 1, -1):
            self.log.create(spec)
        self.events = MemoryEvents()
        self.store, self.producer = Failing(self.events), Failing(MemoryProducer(self.log))
        self.clock = HandClock()
        self.direct = DirectDecider(
            *(self.store, self.producer, "free.events", self.clock), partitions=1
        )

    async def decide(self, *commands: ProposedEvent) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        await self.direct.decide(commands, NOW, outcomes.__setitem__)
        return [outcomes[index] for index in range(len(commands))]

    def produced(self) -> list[EventRecord]:
        return [decode(e.record.value) for e in self.log.entries("free.events", 0) if e.record]

    async def store_one(self, proposed: ProposedEvent) -> None:
        await self.events.write([replace(proposed.event, version=1, position="0-0-0")])


def say(id: str, **data: Any) -> ProposedEvent:
    command = EventRecord(id=id, type="Say", domain="free", aggregate_id="a", time=NOW, data=data)
    return propose_event(FREE, command)


def id_of(command: str) -> str:
    return event_id("free", "a", command)


async def test_commands_become_events_in_their_order_in_one_produce() -> None:
    desk = DirectFixture()
    outcomes = await desk.decide(say("1"), say("2"))
    assert outcomes == [Accepted(id_of("1"), PLACE), Accepted(id_of("2"), PLACE)]
    assert [(e.id, e.type, e.prev) for e in desk.produced()] == [
        (id_of("1"), "Said", None),
        (id_of("2"), "Said", None),
    ]
    assert len(desk.producer.calls) == 1


async def test_the_id_of_a_new_command_is_not_looked_up() -> None:
    desk = DirectFixture()
    new = say("1")._replace(new=True)
    assert await desk.decide(new) == [Accepted(id_of("1"), PLACE)]
    assert desk.store.asked("find") == []
    assert len(await desk.decide(new, say("2"))) == 2
    assert desk.store.asked("find") == [[say("2").event.key]]


async def test_a_stored_command_is_repeated_and_another_with_its_id_refused() -> None:
    desk = DirectFixture()
    await desk.store_one(say("1", word="hello"))
    assert await desk.decide(say("1", word="hello"), say("2")) == [
        Repeated(id_of("1"), PLACE),
        Accepted(id_of("2"), PLACE),
    ]
    assert await desk.decide(say("1", word="bye")) == [
        IdReused("the command's id was used for another, Said")
    ]
    assert [event.id for event in desk.produced()] == [id_of("2")]


async def test_repeats_alone_produce_nothing() -> None:
    desk = DirectFixture()
    await desk.store_one(say("1"))
    assert await desk.decide(say("1")) == [Repeated(id_of("1"), PLACE)]
    assert desk.producer.calls == []


@pytest.mark.parametrize("server", ["store", "producer"])
async def test_when_a_server_is_away_nothing_is_known_of_any(server: str) -> None:
    desk = DirectFixture()
    method = {"store": "find", "producer": "produce"}[server]
    getattr(desk, server).before[method] = 1
    assert await desk.decide(say("1"), say("2")) == [Unavailable(f"{method} failed")] * 2
    assert await desk.decide(say("1")) == [Accepted(id_of("1"), PLACE)]


async def test_what_is_late_is_not_produced_though_others_of_its_batch_have_time() -> None:
    desk = DirectFixture()
    late, repeated = say("1")._replace(deadline=NOW), say("2")._replace(deadline=NOW)
    await desk.store_one(repeated)
    outcomes = await desk.decide(late, repeated, say("3"))
    assert outcomes == [
        Unavailable("the deadline has passed"),
        Repeated(id_of("2"), PLACE),
        Accepted(id_of("3"), PLACE),
    ]
    assert [event.id for event in desk.produced()] == [id_of("3")]
