"""The append agent: from `<domain>.events` to the event store and `<domain>.stored`."""

from collections.abc import Sequence
from typing import Any

from eventfleet.model.domain import Domain
from eventfleet.roles.append import AppendRole
from eventfleet.roles.append_parking import AppendParking
from eventfleet.roles.sweep import Sweep
from eventfleet.stores.contracts import PartitionWriter
from eventfleet.workers.agent import DomainAgent
from eventfleet.workers.owner import Ack


class AppendAgent(DomainAgent):
    """Consumes `<domain>.events` as the group `<prefix>.<domain>.append`."""

    role = "append"

    @classmethod
    def source_of(cls, domain: Domain[Any]) -> str:
        return domain.topics.events

    @classmethod
    def targets_of(cls, domain: Domain[Any]) -> Sequence[str]:
        return [domain.topics.stored]

    def make_role(self, partition: int, ack: Ack) -> AppendRole:
        writer = self.make_writer(partition, ack)
        return AppendRole(
            self.domain,
            partition,
            self.stores.events,
            writer,
            self.context.clock,
            self._parking(partition),
            cached=self.context.settings.cached_aggregates,
            notifier=self.context.notifier,
            sweep=self._sweep(partition, writer) if self.domain.synchronous else None,
        )

    def _parking(self, partition: int) -> AppendParking:
        letters, settings = self.stores.dead_letters, self.context.settings
        assert letters is not None
        parking = AppendParking(
            *(self.domain.topics, partition, letters, self.context.clock, self.stores.events),
            self.context.writer,
            most=settings.parked_aggregates,
            tried=self.tried,
        )
        return self.watched(parking, partition)

    def _sweep(self, partition: int, owner: PartitionWriter) -> Sweep:
        return Sweep(
            self.source,
            partition,
            self.stores.events,
            self.context.writer,
            owner.watermarks,
            self.context.clock,
        )
