"""A domain whose roles have done their work on servers in memory, to be broken and audited."""

from collections.abc import Sequence
from dataclasses import replace as with_changes
from typing import Any

from msgspec.structs import replace

from eventfleet.audit import Auditor, AuditReport
from eventfleet.deciders.outcomes import Accepted, outcome_fields
from eventfleet.model.domain import Domain
from eventfleet.roles.append import AppendRole
from eventfleet.roles.build_choice import BUILDS_INTERVAL
from eventfleet.roles.build_parking import BuildParking
from eventfleet.roles.project import ProjectRole
from eventfleet.roles.relay import RelayRole
from eventfleet.roles.snapshot import SnapshotRole
from eventfleet.stores.contracts import DomainStores, PartitionWriter, Snapshot
from eventfleet.stores.memory.log import LogEntry, MemoryReader, MemoryTransactionalWriter
from eventfleet.stores.parked_log import TopicParkedLog
from eventfleet.stores.snapshot_retention import key_of
from eventfleet.topics.dead_letters import make_dead_letter
from eventfleet.topics.event import EventRecord
from eventfleet.topics.names import consumer_group
from eventfleet.topics.record import LogRecord, ProducerRecord
from eventfleet.topics.reply import encode_reply
from tests.simulation.in_memory_servers import InMemoryServers
from tests.simulation.recording_domain import tally

PREFIX = "unit"
PROJECT_TICKS = 3
"""So many bring a build up to date, make it live and note its progress."""


class AuditFixture:
    """The servers and roles of one domain; `domain` may be changed between work and audit."""

    def __init__(self, domain: Domain[Any] = tally) -> None:
        self.domain, self.memory = domain, InMemoryServers(domain)
        self.topics, self.log = self.memory.topics, self.memory.log

    # What the fleet does

    async def produce(self, *ids: str, aggregate_id: str = "a", **named: Any) -> None:
        """Put events into the log."""
        events = [self.memory.event(each, aggregate_id, **named) for each in ids]
        await self.memory.emit(self.topics.events, *events)

    async def work(self, *roles: str) -> None:
        """Let these roles, or all, do what is there to do."""
        for name in roles or self._roles:
            topic = self.topics.events if name == "append" else self.topics.stored
            group = consumer_group(PREFIX, self.domain.name, name)
            role = self._role(name, MemoryTransactionalWriter(self.log, group, topic, 0))
            start = await role.open()
            if records := [r for r in self.memory.records(topic) if r.offset >= start]:
                await role.process(records, len(self.log.entries(topic, 0)))
            if name == "project":
                for _ in range(PROJECT_TICKS):
                    self.memory.clock.time += BUILDS_INTERVAL
                    await role.tick()

    @property
    def _roles(self) -> list[str]:
        return ["append", "snapshot", "relay", *(["project"] if self.domain.views else [])]

    async def tick(self, name: str) -> None:
        """Let a role do what is due without a record."""
        topic = self.topics.events if name == "append" else self.topics.stored
        group = consumer_group(PREFIX, self.domain.name, name)
        role = self._role(name, MemoryTransactionalWriter(self.log, group, topic, 0))
        await role.open()
        await role.tick()

    def _role(
        self, name: str, writer: PartitionWriter
    ) -> AppendRole | SnapshotRole | RelayRole | ProjectRole:
        domain, memory, clock = self.domain, self.memory, self.memory.clock
        if name == "append":
            appended = memory.append_parking()
            return AppendRole(domain, 0, memory.events, writer, clock, appended, cached=10)
        if name == "relay":
            return RelayRole(domain, 0, memory.events, writer, memory.logged_parking(name))
        if name == "project":
            log = TopicParkedLog(self.topics, MemoryReader(self.log))
            parking = BuildParking(domain.topics, name, 0, memory.dead_letters, clock, log)
            place = (domain, 0, memory.stores, writer, parking, clock)
            return ProjectRole(*place, partitions=1, cached=10)
        return SnapshotRole(
            *(domain, 0, memory.stores, writer, memory.parking(name), clock),
            cached=10,
            limit=1_000_000,
        )

    async def refuse(self, offset: int, kind: str, reason: str) -> None:
        """Write append's dead letter of a record, and commit past it."""
        record = self.log.entries(self.topics.events, 0)[offset].record
        assert record
        self.log.append(
            make_dead_letter(self.domain.topics.dead_letters, "append", record, kind, reason)
        )
        group = consumer_group(PREFIX, self.domain.name, "append")
        await self.memory.events.registry.note_next_offset(0, 0, offset + 1)
        self.log.offsets[group, self.topics.events, 0] = offset + 1

    async def reply(self, command_id: str, event_id: str, aggregate_id: str = "a") -> None:
        """Write the reply that a command was accepted."""
        command = self.memory.event(command_id, aggregate_id)
        details = outcome_fields(Accepted(event_id, f"{self.topics.events}/0"))
        value = encode_reply(command, "accepted", details)
        await self.memory.put(self.topics.replies, (aggregate_id, value))

    async def audit(self, **named: Any) -> AuditReport:
        wanted = {"group_prefix": PREFIX, "exactly_once": True, "reader": MemoryReader(self.log)}
        stores: DomainStores = named.pop("stores", self.memory.stores)
        return await Auditor(self.domain, stores, **(wanted | named)).run()

    # What is broken by hand

    async def event(self, version: int, aggregate_id: str = "a") -> EventRecord:
        return (await self.memory.history(aggregate_id))[version - 1]

    def remove(self, event: EventRecord) -> None:
        """Delete an event from the store."""
        del self.memory.events._streams[event.aggregate_id][event.version]
        del self.memory.events._by_key[event.key]

    def alter(self, event: EventRecord, **fields: Any) -> None:
        """Change a stored event."""
        changed = replace(event, **fields)
        self.memory.events._streams[event.aggregate_id][event.version] = changed
        self.memory.events._by_key[event.key] = changed

    def lose(self, topic: str, offset: int) -> LogRecord:
        """Delete a record."""
        entries = self.log.entries(topic, 0)
        record = entries[offset].record
        assert record
        entries[offset] = LogEntry(None, None)
        return record

    def again(self, topic: str, offset: int) -> None:
        """Write a record a second time."""
        record = self.log.entries(topic, 0)[offset].record
        assert record
        self.log.append(ProducerRecord(topic, record.key, record.value, 0, record.headers))

    async def save(self, version: int, state: dict[str, Any], aggregate_id: str = "a") -> None:
        """Put a snapshot in the place of the one that is stored."""
        at = self.memory.clock.now()
        shape = self.domain.state_shape
        snapshot = Snapshot(aggregate_id, version, state, shape.version, at, shape.fingerprint)
        self.memory.snapshots._snapshots[aggregate_id][key_of(snapshot)] = snapshot

    def change(self, **fields: Any) -> None:
        """Go on with another declaration of the domain."""
        self.domain = with_changes(self.domain, **fields)


def faults(report: AuditReport) -> list[tuple[int, str, str]]:
    return [tuple(violation) for violation in report.violations]


def kinds(findings: Sequence[Any]) -> list[tuple[str, str]]:
    return [(finding.kind, finding.subject) for finding in findings]
