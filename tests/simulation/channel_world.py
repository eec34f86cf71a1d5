"""Processes that pass the commands of their clients on to each other over channels, and their
servers, in simulated time."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from eventfleet.deciders.commander import Commander
from eventfleet.deciders.event_publisher import EventPublisher
from eventfleet.deciders.manager import Manager
from eventfleet.feeds.channel_commands import (
    ChannelCommand,
    ChannelCommandSender,
    ChannelCommandSubscriber,
)
from eventfleet.service.command_batcher import CommandBatcher
from eventfleet.service.event_service import EventService
from eventfleet.states.querier import Querier
from eventfleet.states.snapshot_saver import SnapshotSaver
from eventfleet.stores.contracts import DomainStores
from eventfleet.stores.errors import Duplicate
from eventfleet.stores.ids import Uuid7Generator
from eventfleet.stores.memory.channels import MemoryChannels
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import MemoryLog, MemoryProducer
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.topics.event import EventRecord
from eventfleet.topics.topic_specs import declare_topics
from tests.simulation.accounts import accounts
from tests.simulation.fleet_world import LoopClock
from tests.simulation.scheduler import Scheduler, checkpoint
from tests.simulation.simulated_loop import Process, SimulatedLoop

BIG = 1_000_000


@dataclass(frozen=True)
class ChannelParts:
    """What the processes are made of; a test takes a rule out by putting another part in."""

    channels: type[MemoryChannels] = MemoryChannels
    subscriber: type[ChannelCommandSubscriber] = ChannelCommandSubscriber
    sender: type[ChannelCommandSender] = ChannelCommandSender
    commander: type[Commander] = Commander
    batcher: type[CommandBatcher] = CommandBatcher


@dataclass(frozen=True)
class ChannelScenario:
    """What happens in a schedule: how often, in a step, a process stands still or is killed, and
    how often the channels' server is begun anew. Upper bounds of clients and their commands."""

    processes: int = 3
    clients: int = 4
    commands: int = 5
    stalls: float = 0.004
    kills: float = 0.0
    restarts: float = 0.0
    parts: ChannelParts = field(default_factory=ChannelParts)


@dataclass
class Sending:
    """A command that a client has sent, once only, and its answer."""

    command: ChannelCommand
    outcome: str = ""
    answered_at: float = 0.0


class RecordingEvents(MemoryEvents):
    """`put_at`: for each event, by id, when its puts began."""

    def __init__(self, loop: SimulatedLoop) -> None:
        super().__init__(1, checkpoint)
        self._loop = loop
        self._under_way: set[str] = set()
        self.put_at: dict[str, list[float]] = {}

    def _note(self, events: Sequence[EventRecord]) -> None:
        for event in events:
            if event.id in self._under_way:
                continue
            self._loop.scheduler.note("puts", event.data)
            self.put_at.setdefault(event.id, []).append(self._loop.time())

    async def put(
        self, events: Sequence[EventRecord], partition: int, *, to_publish: bool = False
    ) -> None:
        self._note(events)
        await super().put(events, partition, to_publish=to_publish)

    async def put_each(self, events: Sequence[tuple[EventRecord, int]]) -> list[Duplicate | None]:
        self._note([event for event, _ in events])
        ids = {event.id for event, _ in events}
        self._under_way |= ids
        try:
            return await super().put_each(events)
        finally:
            self._under_way -= ids


class ChannelWorld:
    def __init__(self, scenario: ChannelScenario, seed: int | Random) -> None:
        self.scenario = scenario
        self.scheduler = Scheduler(seed)
        self.random = self.scheduler.random
        self.loop = SimulatedLoop(self.scheduler)
        self.clock = LoopClock(self.loop)
        self.events = RecordingEvents(self.loop)
        self.stores = DomainStores(self.events, MemorySnapshots(2, checkpoint))
        self.log = MemoryLog()
        for spec in declare_topics(accounts.topics, 1, 1, -1):
            self.log.create(spec)
        self.channels = scenario.parts.channels(self.loop.time, checkpoint)
        self.sendings: list[Sending] = []
        self.talking: set[Process] = set()

    def service(self, querier: Querier[Any], manager: Manager) -> EventService[Any]:
        service = EventService(accounts, manager, querier, self.clock, Uuid7Generator())
        service._batcher = self.scenario.parts.batcher(manager)
        return service

    async def run_process(
        self, process: Process, clients: Sequence[Sequence[ChannelCommand]]
    ) -> None:
        """A process with its clients' sockets; it decides until it is killed."""
        self.talking.add(process)
        parts, clock = self.scenario.parts, self.clock
        querier = Querier(accounts, self.stores, clock)
        saver = SnapshotSaver(accounts, self.stores.snapshots, clock, limit=BIG)
        commander = parts.commander(self.events, saver, partitions=1)
        publisher = EventPublisher(
            MemoryProducer(self.log, checkpoint), accounts.topics.events, clock, partitions=1
        )
        manager = Manager(
            *(accounts, querier, commander, publisher, clock), jitter=self.random.random
        )
        sender = parts.sender(self.channels, accounts.name)
        service = self.service(querier, manager)
        subscriber = parts.subscriber(self.channels, accounts.name, service)
        async with manager.running(), service, subscriber.running(), sender.running():
            await asyncio.gather(*(self._talk(process, sender, client) for client in clients))
            self.talking.discard(process)
            await self.loop.create_future()

    async def _talk(
        self, process: Process, sender: ChannelCommandSender, commands: Sequence[ChannelCommand]
    ) -> None:
        """Send a client's commands, each once the one before is answered."""
        for command in commands:
            await asyncio.sleep(self.random.random())
            self.sendings.append(sending := Sending(command))
            self.scheduler.tell(process.name, "sends", command)
            told = await sender.send(command)
            sending.outcome, sending.answered_at = told.outcome, self.loop.time()
            self.scheduler.tell(process.name, "is answered", told)
