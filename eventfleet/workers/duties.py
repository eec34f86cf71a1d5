"""Roles wired to what they stand on: stores, the partition's writer, clock, limits."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

from eventfleet.deciders.decider import Decider
from eventfleet.model.domain import Domain
from eventfleet.roles.append import AppendRole
from eventfleet.roles.command import CommandRole
from eventfleet.roles.notices import NULL_NOTIFIER, StageNotifier
from eventfleet.roles.relay import RelayRole
from eventfleet.roles.role import Role
from eventfleet.roles.snapshot import SnapshotRole
from eventfleet.roles.sweep import Sweep
from eventfleet.runtime.event_services import patience
from eventfleet.runtime.settings import Settings
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import DomainStores, LogWriter, PartitionWriter
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.producer import PlainWriter
from eventfleet.stores.kafka.transactional_writer import TransactionalWriter
from eventfleet.stores.parked import NoParkedAggregates
from eventfleet.topics.names import Topics, consumer_group
from eventfleet.workers.app import RoleSpec
from eventfleet.workers.owners import Ack, RoleFactory

RoleName = Literal["append", "command", "snapshot", "relay"]
ROLES: tuple[RoleName, ...] = ("append", "command", "snapshot", "relay")


class Duties:
    """Makes the duties of one process.

    `transactional`: whether the broker has transactions. `deciders`: for the role command, by
    domain. `writer`: for what sweeps bring back. `notifier`: for those who wait for events.
    """

    def __init__(
        self,
        settings: Settings,
        connection: Connection,
        transactional: bool,
        deciders: Mapping[str, Decider],
        writer: LogWriter,
        notifier: StageNotifier = NULL_NOTIFIER,
    ) -> None:
        self.connection = connection
        self._settings, self._notifier = settings, notifier
        self._deciders, self._plain = deciders, writer
        self._transactional = transactional

    def duty(self, role: RoleName, domain: Domain[Any], opened: DomainStores) -> RoleSpec:
        return RoleSpec(domain.name, role, self._factory(role, domain, opened))

    def guarantee(self, role: RoleName, domain: Domain[Any]) -> str:
        """One line: how often its records reach their topics."""
        topics = Topics.of(domain.name)
        routes = sorted({route.to for route in domain.routes})
        to = {
            "append": [topics.stored],
            "command": [topics.replies],
            "snapshot": [topics.snapshots],
            "relay": routes,
        }[role]
        where = f"{role} of {domain.name} to {', '.join(to) or 'no topic'}"
        if self._transactional:
            return f"{where}: exactly once, by transactions, for readers of committed records"
        return f"{where}: at least once (no transactions here); drop repeats by event id"

    def _factory(self, role: RoleName, domain: Domain[Any], opened: DomainStores) -> RoleFactory:
        parked, clock = NoParkedAggregates(), SystemClock()
        cached, limit = self._settings.cached_aggregates, self._settings.snapshot_bytes

        def make(partition: int, ack: Ack) -> Role:
            writer = self._writer(role, domain, partition, ack)
            match role:
                case "append":
                    return AppendRole(
                        domain,
                        partition,
                        opened.events,
                        writer,
                        parked,
                        clock,
                        cached=cached,
                        notifier=self._notifier,
                        puts=domain.synchronous,
                        puts_only=domain.synchronous,
                        sweep=self._sweep(domain, partition, opened),
                        marked=domain.uses_marker,
                    )
                case "command":
                    return CommandRole(
                        domain,
                        partition,
                        self._deciders[domain.name],
                        writer,
                        parked,
                        clock,
                        patience=timedelta(seconds=patience(self._settings)),
                    )
                case "snapshot":
                    return SnapshotRole(
                        domain,
                        partition,
                        opened,
                        writer,
                        parked,
                        clock,
                        cached=cached,
                        limit=limit,
                        notifier=self._notifier,
                    )
                case "relay":
                    return RelayRole(domain, partition, writer, parked, notifier=self._notifier)

        return make

    def _sweep(self, domain: Domain[Any], partition: int, opened: DomainStores) -> Sweep | None:
        if not domain.synchronous:
            return None
        return Sweep(domain.name, partition, opened.events, self._plain, SystemClock())

    def _writer(
        self, role: RoleName, domain: Domain[Any], partition: int, ack: Ack
    ) -> PartitionWriter:
        source, name = (
            source_of(role, domain),
            consumer_group(self._settings.group_prefix, domain.name, role),
        )
        if self._transactional:
            return TransactionalWriter(self.connection, name, source, partition)
        return PlainWriter(self.connection, name, (source, partition), ack)


def source_of(role: RoleName, domain: Domain[Any]) -> str:
    """The topic that a role consumes."""
    topics = Topics.of(domain.name)
    sources = {"append": topics.events, "command": topics.commands}
    return sources.get(role, topics.stored)
