"""The snapshot agent: from `<domain>.stored` to the snapshot store and `<domain>.snapshots`."""

from collections.abc import Sequence
from typing import Any

from eventfleet.model.domain import Domain
from eventfleet.roles.snapshot import SnapshotRole
from eventfleet.workers.agent import DomainAgent, FaustApp
from eventfleet.workers.owner import Ack
from eventfleet.workers.owners import Owners
from eventfleet.workers.transport.chunk import ChunkSchema


class SnapshotAgent(DomainAgent):
    """Consumes `<domain>.stored` as the group `<prefix>.<domain>.snapshot`."""

    role = "snapshot"

    @classmethod
    def source_of(cls, domain: Domain[Any]) -> str:
        return domain.topics.stored

    @classmethod
    def targets_of(cls, domain: Domain[Any]) -> Sequence[str]:
        return [domain.topics.snapshots]

    def attach(self, app: FaustApp, owners: Owners) -> None:
        @app.agent(app.topic(self.source, schema=ChunkSchema()), name=self.group)
        async def snapshot(stream: Any) -> None:
            async for event in stream.noack().events():
                owners.dispatch(event.value)

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
