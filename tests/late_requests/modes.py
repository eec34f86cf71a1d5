"""The roles that write in transactions: their source records, and what must follow of each."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as with_changes
from datetime import datetime
from itertools import count
from random import Random
from typing import Any, ClassVar

import orjson
from msgspec.structs import replace

from eventfleet.deciders.decider import Answer
from eventfleet.deciders.outcomes import Accepted
from eventfleet.model.declaration import Route
from eventfleet.model.domain import Domain
from eventfleet.model.views import Row, View
from eventfleet.roles.append import AppendRole
from eventfleet.roles.append_parking import AppendParking
from eventfleet.roles.command import CommandRole
from eventfleet.roles.logged_parking import LoggedParking
from eventfleet.roles.parking import Parking
from eventfleet.roles.project import ProjectRole
from eventfleet.roles.relay import RelayRole
from eventfleet.roles.role import Role
from eventfleet.roles.snapshot import SnapshotRole
from eventfleet.snapshot_rules import every
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import DomainStores, LogReader, LogWriter, PartitionWriter
from eventfleet.stores.memory.dead_letters import MemoryDeadLetters
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.stores.memory.views import MemoryViews
from eventfleet.stores.parked_log import TopicParkedLog
from eventfleet.topics.codec import decode_stored, encode
from eventfleet.topics.event import CommandRecord, EventRecord
from eventfleet.topics.partitioner import partition_of
from eventfleet.topics.record import LogRecord, ProducerRecord
from eventfleet.topics.topic_specs import TopicSpec, declare_topics
from tests.simulation.in_memory_servers import START
from tests.simulation.recording_domain import Tally, marker_tally, sync_tally, tally

AGGREGATES = 2
MAX_CHUNK_RECORDS = 3
CACHED = 100
STATE_BYTES = 10_000


class Count(Row):
    events: int = 0


COUNTS = View(
    "counts", row=Count, project=lambda row, _: Count(events=row.events + 1 if row else 1)
)


@dataclass
class Material:
    """The chunks of a source partition, and the names of what must be emitted of each."""

    chunks: list[list[ProducerRecord]] = field(default_factory=list)
    names: list[list[str]] = field(default_factory=list)

    @property
    def ends(self) -> list[int]:
        """The offset after each chunk."""
        ends = [0]
        for chunk in self.chunks:
            ends.append(ends[-1] + len(chunk))
        return ends[1:]

    def names_below(self, offset: int) -> list[str]:
        """What must have been emitted when this offset is committed."""
        done = [names for end, names in zip(self.ends, self.names, strict=True) if end <= offset]
        return [name for names in done for name in names]


class Mode(ABC):
    """A role of a domain of its own, over any number of partitions; its stores are in memory.

    `source` and `target`: the topics that it reads, and that it emits to.
    """

    name: ClassVar[str]
    role: ClassVar[str]
    model: ClassVar[Domain[Tally]] = tally

    def __init__(self, prefix: str, partitions: int, reader: LogReader, writer: LogWriter) -> None:
        self.partitions, self.reader, self.writer = partitions, reader, writer
        self.domain = self._domain(f"{prefix}-{self.name}")
        self.topics, self.clock = self.domain.topics, SystemClock()
        self.group = f"{self.domain.name}.{self.role}"
        self.events = MemoryEvents(partitions)
        self.letters, self.views = MemoryDeadLetters(), MemoryViews()
        self.stores = DomainStores(
            self.events, MemorySnapshots(), self.views, dead_letters=self.letters
        )

    def _domain(self, name: str) -> Domain[Tally]:
        return with_changes(self.model, name=name)

    @property
    @abstractmethod
    def source(self) -> str: ...

    @property
    @abstractmethod
    def target(self) -> str: ...

    def specs(self) -> list[TopicSpec]:
        """The topics that the role needs here: brokers under load make many slowly."""
        needed = {self.source, self.target, self.topics.parked}
        declared = declare_topics(self.domain.topics, self.partitions, 1, -1)
        return [spec for spec in declared if spec.name in needed]

    @abstractmethod
    def make_role(self, partition: int, writer: PartitionWriter) -> Role: ...

    @abstractmethod
    async def add(self, chunk: "Chunk", material: Material) -> None:
        """Add a chunk of records, and whatever the stores must have before it."""

    def name_of(self, record: LogRecord) -> str:
        """`aggregate@version id` of an emitted record."""
        event = decode_stored(record.value)
        return f"{event.aggregate_id}@{event.version} {event.id}"

    async def faults(self, partition: int) -> list[str]:
        """What is wrong with the stores in the end."""
        return []

    async def material(self, partition: int, chunks: int, chance: Random) -> Material:
        """Make the records of a partition, which is empty so far."""
        material, sequence = Material(), Lineage(self, partition)
        for _ in range(chunks):
            records = chance.randrange(1, MAX_CHUNK_RECORDS + 1)
            await self.add(Chunk(sequence, records, chance), material)
        return material

    def parking(self, partition: int) -> Parking:
        return Parking(self.domain.topics, self.role, partition, self.letters, self.clock)

    def logged_parking(self, partition: int) -> LoggedParking:
        log = TopicParkedLog(self.topics, self.reader)
        place = self.domain.topics, self.role, partition
        return LoggedParking(*place, self.letters, self.clock, log)


class Lineage:
    """The aggregates of a partition, the versions that they have come to, and the next offset."""

    def __init__(self, mode: Mode, partition: int) -> None:
        self.mode, self.partition, self.offset = mode, partition, 0
        ids = (f"a{n}" for n in count() if partition_of(f"a{n}", mode.partitions) == partition)
        self.last = {id: ("", 0) for id, _ in zip(ids, range(AGGREGATES), strict=False)}

    def next_event(self, aggregate_id: str, **named: Any) -> EventRecord:
        """The aggregate's next event."""
        version = self.last[aggregate_id][1] + 1
        id = f"{aggregate_id}-{version}"
        self.last[aggregate_id] = id, version
        return EventRecord(
            id=id,
            type="Counted",
            domain=self.mode.domain.name,
            aggregate_id=aggregate_id,
            time=START,
            data={"n": id},
            **named,
        )


@dataclass
class Chunk:
    """A number of records that are to be made."""

    sequence: Lineage
    records: int
    chance: Random

    def aggregates(self) -> Iterator[str]:
        """The aggregate of each record; with it, the next offset moves."""
        for _ in range(self.records):
            yield self.chance.choice([*self.sequence.last])
            self.sequence.offset += 1

    def record(self, topic: str, event: EventRecord | CommandRecord) -> ProducerRecord:
        key = event.aggregate_id.encode()
        return ProducerRecord(topic, key, encode(event), self.sequence.partition)


def name_of(event: EventRecord, version: int) -> str:
    return f"{event.aggregate_id}@{version} {event.id}"


# Append, in both kinds of domains


class Append(Mode):
    role = "append"

    @property
    def source(self) -> str:
        return self.topics.events

    @property
    def target(self) -> str:
        return self.topics.stored

    def make_role(self, partition: int, writer: PartitionWriter) -> Role:
        parking = AppendParking(
            *(self.domain.topics, partition, self.letters, self.clock, self.events), self.writer
        )
        what = self.domain, partition, self.events, writer, self.clock, parking
        return AppendRole(*what, cached=CACHED)


class AsynchronousAppend(Append):
    name, model = "append-asynchronous", marker_tally

    async def add(self, chunk: Chunk, material: Material) -> None:
        records, names = list[ProducerRecord](), list[str]()
        for aggregate_id in chunk.aggregates():
            prev, _ = chunk.sequence.last[aggregate_id]
            event = chunk.sequence.next_event(aggregate_id, prev=prev)
            records.append(chunk.record(self.source, event))
            names.append(name_of(event, chunk.sequence.last[aggregate_id][1]))
        material.chunks.append(records)
        material.names.append(names)


class SynchronousAppend(Append):
    name, model = "append-synchronous", sync_tally

    async def add(self, chunk: Chunk, material: Material) -> None:
        records, names = list[ProducerRecord](), list[str]()
        for aggregate_id in chunk.aggregates():
            put = []
            for _ in range(chunk.chance.randrange(1, 3)):
                version = chunk.sequence.last[aggregate_id][1] + 1
                put.append(chunk.sequence.next_event(aggregate_id, version=version))
            await self.events.put(put, chunk.sequence.partition)
            records.append(chunk.record(self.source, put[-1]))
            names += [name_of(event, event.version) for event in put]
        material.chunks.append(records)
        material.names.append(names)


# The roles behind append


class Behind(Mode):
    @property
    def source(self) -> str:
        return self.topics.stored

    async def add(self, chunk: Chunk, material: Material) -> None:
        events = [await self._store(chunk, each) for each in chunk.aggregates()]
        material.chunks.append([chunk.record(self.source, event) for event in events])
        material.names.append(self.emitted(events))

    def emitted(self, events: Sequence[EventRecord]) -> list[str]:
        return [name_of(event, event.version) for event in events]

    async def _store(self, chunk: Chunk, aggregate_id: str) -> EventRecord:
        sequence = chunk.sequence
        version = sequence.last[aggregate_id][1] + 1
        position = f"0-{sequence.partition}-{sequence.offset}"
        event = sequence.next_event(aggregate_id, version=version, position=position)
        await self.events.write([event])
        return event


class Relay(Behind):
    name = role = "relay"

    def _domain(self, name: str) -> Domain[Tally]:
        return with_changes(tally, name=name, routes=[Route(f"{name}.out")])

    @property
    def target(self) -> str:
        return f"{self.domain.name}.out"

    def specs(self) -> list[TopicSpec]:
        return [*super().specs(), TopicSpec(self.target, self.partitions, 1)]

    def make_role(self, partition: int, writer: PartitionWriter) -> Role:
        parking = self.logged_parking(partition)
        return RelayRole(self.domain, partition, self.events, writer, parking)


class Snapshot(Behind):
    name = role = "snapshot"
    model = with_changes(tally, snapshot=every(1))

    @property
    def target(self) -> str:
        return self.topics.snapshots

    def make_role(self, partition: int, writer: PartitionWriter) -> Role:
        what = self.domain, partition, self.stores, writer, self.parking(partition), self.clock
        return SnapshotRole(*what, cached=CACHED, limit=STATE_BYTES)

    def emitted(self, events: Sequence[EventRecord]) -> list[str]:
        last = {event.aggregate_id: event for event in events}
        return [f"{event.aggregate_id}@{event.version} " for event in last.values()]

    def name_of(self, record: LogRecord) -> str:
        value = orjson.loads(record.value or b"")
        return f"{value['aggregate_id']}@{value['version']} "


class Project(Behind):
    """Its dead letters are what it emits: each chunk begins with a record that is no event."""

    name = role = "project"
    model = with_changes(tally, views=[COUNTS])

    @property
    def target(self) -> str:
        return self.topics.dead_letters

    async def add(self, chunk: Chunk, material: Material) -> None:
        sequence = chunk.sequence
        aggregate_id, offset = min(sequence.last), sequence.offset
        name = f"{aggregate_id}@{offset} "
        unreadable = ProducerRecord(
            self.source, aggregate_id.encode(), name.encode(), sequence.partition
        )
        sequence.offset += 1
        await super().add(chunk, material)
        material.chunks[-1].insert(0, unreadable)
        material.names[-1] = [name]

    def make_role(self, partition: int, writer: PartitionWriter) -> Role:
        parking = self.logged_parking(partition)
        return ProjectRole(
            *(self.domain, partition, self.stores, writer, parking, self.clock),
            partitions=self.partitions,
            cached=CACHED,
        )

    def name_of(self, record: LogRecord) -> str:
        return (record.value or b"").decode()

    async def faults(self, partition: int) -> list[str]:
        ids = [*Lineage(self, partition).last]
        heads = await self.events.heads(ids)
        rows = await self.views.rows("counts", "counts", 1).load([f"{id}\0" for id in ids])
        found = {id: (rows[f"{id}\0"].fields or {})["events"] for id in ids if f"{id}\0" in rows}
        wanted = {id: head.version for id, head in heads.items() if head.version}
        return [] if found == wanted else [f"rows {found}, not {wanted}"]


class AcceptingDecider:
    """Accepts each command."""

    async def decide(
        self, commands: Sequence[Any], deadline: datetime, answer: Answer, *_: object
    ) -> None:
        for index, _ in enumerate(commands):
            answer(index, Accepted(f"e{index}", "somewhere"))


class Command(Mode):
    name = role = "command"
    model = marker_tally

    @property
    def source(self) -> str:
        return self.topics.commands

    @property
    def target(self) -> str:
        return self.topics.replies

    def make_role(self, partition: int, writer: PartitionWriter) -> Role:
        registry, decider = self.events.registry, AcceptingDecider()
        return CommandRole(self.domain, partition, decider, registry, writer, self.clock)

    async def add(self, chunk: Chunk, material: Material) -> None:
        commands = [
            replace(chunk.sequence.next_event(aggregate_id), type="Count")
            for aggregate_id in chunk.aggregates()
        ]
        material.chunks.append([chunk.record(self.source, each) for each in commands])
        material.names.append([f"{each.aggregate_id}@ {each.id}" for each in commands])

    def name_of(self, record: LogRecord) -> str:
        value = orjson.loads(record.value or b"")
        return f"{value['aggregate_id']}@ {value['command_id']}"


MODES: list[type[Mode]] = [
    AsynchronousAppend,
    SynchronousAppend,
    Snapshot,
    Relay,
    Project,
    Command,
]
