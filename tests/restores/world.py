"""One domain's servers in memory, and its real roles, in a history drawn from a seed."""

from collections.abc import Sequence
from copy import deepcopy
from datetime import timedelta
from random import Random
from typing import Any, NamedTuple

from eventfleet.audit import Auditor
from eventfleet.roles.append import AppendRole
from eventfleet.roles.append_parking import AppendParking
from eventfleet.roles.build_parking import BuildParking
from eventfleet.roles.logged_parking import LoggedParking
from eventfleet.roles.parking import Parking
from eventfleet.roles.project import ProjectRole
from eventfleet.roles.raised_epoch import raise_epoch
from eventfleet.roles.relay import RelayRole
from eventfleet.roles.repair import RepairContext
from eventfleet.roles.rewind import rewind
from eventfleet.roles.role import Role
from eventfleet.roles.snapshot import SnapshotRole
from eventfleet.roles.sweep import Sweep
from eventfleet.states.live_state import ReplayFailed
from eventfleet.states.querier import Querier
from eventfleet.stores.contracts import DomainStores
from eventfleet.stores.contracts.dead_letters import ParkedQuery
from eventfleet.stores.memory.dead_letters import MemoryDeadLetters
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import (
    MemoryAdmin,
    MemoryLog,
    MemoryProducer,
    MemoryReader,
    MemoryTransactionalWriter,
)
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.stores.memory.views import MemoryViews
from eventfleet.stores.parked_log import TopicParkedLog
from eventfleet.topics.codec import decode_stored, encode
from eventfleet.topics.event import EventRecord
from eventfleet.topics.names import consumer_group
from eventfleet.topics.parked import Discard
from eventfleet.topics.partitioner import partition_of
from eventfleet.topics.record import ProducerRecord
from eventfleet.topics.topic_specs import TopicSpec
from tests.restores.faulty_domain import OUT, Code
from tests.simulation.in_memory_servers import HandClock

PREFIX = "fleet"
PARTITIONS = 2
AGGREGATES = "abcdef"
ROLES = ("append", "snapshot", "relay", "project")
BEHIND = ROLES[1:]
TICK = timedelta(minutes=6)
"""Longer than any role waits before it looks at the stores again."""


class Stores(NamedTuple):
    """All that is lost with the store."""

    events: MemoryEvents
    snapshots: MemorySnapshots
    views: MemoryViews
    letters: MemoryDeadLetters

    @classmethod
    def empty(cls) -> "Stores":
        events = MemoryEvents(PARTITIONS, domain="walks")
        return cls(events, MemorySnapshots(), MemoryViews(), MemoryDeadLetters())

    @property
    def of_domain(self) -> DomainStores:
        return DomainStores(self.events, self.snapshots, self.views, self.letters)


class World:
    """The servers and the roles; equal seeds and equal steps give equal worlds."""

    def __init__(self, seed: int, *, synchronous: bool) -> None:
        self.random, self.synchronous = Random(seed), synchronous
        self.code = Code()
        self.domain = self.code.domain(synchronous=synchronous)
        self.topics, self.clock = self.domain.topics, HandClock()
        self.log, self.stores = MemoryLog(), Stores.empty()
        for topic in (*self.topics, OUT):
            self.log.create(TopicSpec(topic, PARTITIONS, 1))
        self.reader, self.producer = MemoryReader(self.log), MemoryProducer(self.log)
        self.accepted = 0
        self.last: dict[str, str] = {}  # by aggregate, the id of its last accepted event

    # The history

    async def step(self) -> str:
        """Do one thing; returns its name."""
        steps = {"send": 10, "work": 10, "redrive": 2, "discard": 3, "mend": 1}
        steps |= {"anew": 1} | ({} if self.synchronous else {"rewind": 1})
        name = self.random.choices([*steps], [*steps.values()])[0]
        self.clock.time += TICK
        await getattr(self, f"_{name}")()
        return name

    def copy(self) -> Stores:
        return deepcopy(self.stores)

    async def _send(self) -> None:
        """Have commands accepted: their events are in the log, and in a synchronous store."""
        for _ in range(self.random.randint(1, 6)):
            await self.send(self.random.choice(AGGREGATES), self._faults())

    def _faults(self) -> list[str]:
        roles = BEHIND if self.synchronous else ROLES
        return [role for role in roles if self.random.random() < 0.04]

    async def send(self, key: str, fails: Sequence[str] = ()) -> None:
        """Have one command accepted."""
        self.accepted += 1
        event = EventRecord(
            id=f"e{self.accepted}",
            type="Step",
            domain=self.domain.name,
            aggregate_id=key,
            time=self.clock.now(),
            data={"n": str(self.accepted), "fails": [*fails]},
            prev=None if self.synchronous else self.last.get(key, ""),
        )
        partition = partition_of(key, PARTITIONS)
        if self.synchronous:
            heads = await self.stores.events.heads([key])
            version = heads[key].version + 1 if key in heads else 1
            event = EventRecord(
                **{f: getattr(event, f) for f in event.__struct_fields__} | {"version": version}
            )
            await self.stores.events.put([event], partition)
        self.last[key] = event.id
        record = ProducerRecord(self.topics.events, key.encode(), encode(event), partition)
        await self.producer.produce([record])

    async def _work(self) -> None:
        """Let some of the roles do what is there to do."""
        for role in self.random.sample(ROLES, self.random.randint(1, 4)):
            await self.work(role)

    async def _mend(self) -> None:
        self.code.mended[self.random.choice(ROLES)] = self.accepted

    async def _redrive(self) -> None:
        role = self.random.choice(ROLES)
        for parked in await self.stores.letters.find(ParkedQuery(role), 100):
            await self.stores.letters.request(parked, None)
        await self.work(role)

    async def _discard(self) -> None:
        parked = await self.stores.letters.find(ParkedQuery(), 100)
        if parked := [each for each in parked if each.event_id]:
            each = self.random.choice(parked)
            why = Discard("of no use", "ann", self.clock.now())
            await self.stores.letters.request(each, why)
            await self.work(each.role)

    async def _rewind(self) -> None:
        partition = self.random.randrange(PARTITIONS)
        end = self.log.offsets.get((self._group("append"), self.topics.events, partition), 0)
        if end:
            await rewind(self.context, {partition: self.random.randrange(end)})
            await self.work("append")

    async def _anew(self) -> None:
        """Have the log of events made anew, and the epoch raised."""
        if self.random.random() < 0.3:
            await self.work("append")
            for partition in range(PARTITIONS):
                self.log.entries(self.topics.events, partition).clear()
                self.log.offsets.pop((self._group("append"), self.topics.events, partition), None)
            if await self.stores.events.registry.next_offsets():
                await raise_epoch(self.context)
            await self.work("append")

    # The roles

    async def work(self, name: str) -> None:
        """Let the owners of a role take all records, do what is asked for, and come to rest."""
        for partition in range(PARTITIONS):
            role, topic = self._role(name, partition), self._source(name)
            await role.open()
            for _ in range(6):
                self.clock.time += TICK
                await self._take_all(role, name, topic, partition)
                await role.tick()
            await self._take_all(role, name, topic, partition)

    async def _take_all(self, role: Role, name: str, topic: str, partition: int) -> None:
        start = self.log.offsets.get((self._group(name), topic, partition), 0)
        entries = self.log.entries(topic, partition)
        marks = self.log.watermarks(topic, partition)
        records = [r async for r in self.reader.read(topic, partition, start, marks.end)]
        if records:
            await role.process(records, len(entries))

    def _group(self, name: str) -> str:
        return consumer_group(PREFIX, self.domain.name, name)

    def _source(self, name: str) -> str:
        return self.topics.events if name == "append" else self.topics.stored

    def _role(self, name: str, partition: int) -> Any:
        owner = self._group(name), self._source(name), partition
        writer, stores = MemoryTransactionalWriter(self.log, *owner), self.stores
        place = self.domain.topics, name, partition, stores.letters, self.clock
        if name == "append":
            parking: Any = AppendParking(
                *(self.domain.topics, partition, stores.letters, self.clock, stores.events),
                self.producer,
            )
            sweep = Sweep(
                *(self.domain.topics.events, partition, stores.events, self.producer),
                *(writer.watermarks, self.clock),
            )
            return AppendRole(
                *(self.domain, partition, stores.events, writer, self.clock, parking),
                cached=3,
                sweep=sweep if self.synchronous else None,
            )
        if name == "snapshot":
            snapshots = self.domain, partition, stores.of_domain, writer, Parking(*place)
            return SnapshotRole(*snapshots, self.clock, cached=3, limit=1_000_000)
        log = TopicParkedLog(self.topics, self.reader)
        if name == "relay":
            logged = LoggedParking(*place, log)
            return RelayRole(self.domain, partition, stores.events, writer, logged)
        return ProjectRole(
            *(self.domain, partition, stores.of_domain, writer, BuildParking(*place, log)),
            self.clock,
            partitions=PARTITIONS,
            cached=3,
        )

    @property
    def context(self) -> RepairContext:
        return RepairContext(
            *(self.domain, self.stores.of_domain, self.reader, MemoryAdmin(self.log), self.clock),
            PREFIX,
            writers={
                p: MemoryTransactionalWriter(self.log, self._group("append"), self.topics.events, p)
                for p in range(PARTITIONS)
            },
            producer=self.producer,
        )

    # What is seen of it

    async def settle(self) -> None:
        """Let all roles come to the end of what is there."""
        for _ in range(2):
            for role in ROLES:
                await self.work(role)

    async def kept(self) -> dict[str, Any]:
        """What the store holds that nothing builds anew."""
        events, letters = self.stores.events, self.stores.letters
        facts = await events.registry.facts()
        marks = {p: await events.registry.next_offset(p) for p in range(PARTITIONS)}
        parked = await letters.find(ParkedQuery(), 1_000)
        discarded = [each for role in ROLES for each in await letters.discarded_by(role)]
        return {
            "events": sorted(
                events._by_key.values(), key=lambda each: (each.aggregate_id, each.version)
            ),
            "parked by append": await events.parked(),
            "epoch": facts.epoch,
            "rewinds": [each for each in facts.repairs if each.kind == "rewind"],
            "next offsets": marks,
            "parked": [(p.role, p.aggregate_id, p.first, p.event_id) for p in parked],
            "discarded": discarded,
        }

    async def begun(self) -> set[tuple[str, int]]:
        return {*(await self.stores.events.registry.facts()).begun}

    async def seen(self) -> dict[str, Any]:
        """What callers see."""
        queries = Querier(self.domain, self.stores.of_domain, self.clock)
        feed, cursor = [], ""
        while page := await self.stores.events.feed(cursor, 50):
            cursor = page.cursor
            feed += [(e.id, e.version, e.position, e.discarded) for e in page.items]
            if len(page.items) < 50:
                break
        rows = await queries.views.find("trails", {}, limit=1_000)
        return {
            "states": {key: await _state(queries, key) for key in AGGREGATES},
            "feed": feed,
            "rows": [(row.aggregate_id, row.row) for row in rows.rows],
            "routed": self._routed(),
        }

    def _routed(self) -> list[list[tuple[str, int]]]:
        entries = [self.log.entries(OUT, p) for p in range(PARTITIONS)]
        found = [[decode_stored(e.record.value) for e in each if e.record] for each in entries]
        return [[(event.id, event.version) for event in each] for each in found]

    async def violations(self) -> list[Any]:
        auditor = Auditor(
            *(self.domain, self.stores.of_domain, self.reader),
            group_prefix=PREFIX,
            exactly_once=True,
        )
        return (await auditor.run()).violations


async def _state(queries: Querier[Any], key: str) -> Any:
    try:
        found = await queries.latest(key)
    except ReplayFailed as error:
        return f"fails at version {error.event.version}"
    return (found.version, found.state.steps) if found else None
