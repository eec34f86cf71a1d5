"""The snapshot agent: from `<domain>.stored` to the snapshot store and `<domain>.snapshots`."""

from collections.abc import Sequence
from typing import Any

from eventfleet.model.domain import Domain
from eventfleet.roles.snapshot import SnapshotRole
from eventfleet.workers.agent import DomainAgent
from eventfleet.workers.owner import Ack


class SnapshotAgent(DomainAgent):
    """Consumes `<domain>.stored` as the group `<prefix>.<domain>.snapshot`."""

    role = "snapshot"

    @classmethod
    def targets_of(cls, domain: Domain[Any]) -> Sequence[str]:
        return [domain.topics.snapshots]

    def make_role(self, partition: int, ack: Ack) -> SnapshotRole:
        return SnapshotRole(
            self.domain,
            partition,
            self.stores,
            self.make_writer(partition, ack),
            self.make_parking(partition),
            self.context.clock,
            cached=self.context.settings.cached_aggregates,
            limit=self.context.settings.snapshot_bytes,
            notifier=self.context.notifier,
        )
