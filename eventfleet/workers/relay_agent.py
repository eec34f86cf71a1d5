"""The relay agent: from `<domain>.stored` to the topics that the domain's routes name."""

from collections.abc import Sequence
from typing import Any

from eventfleet.model.domain import Domain
from eventfleet.roles.logged_parking import LoggedParking
from eventfleet.roles.relay import RelayRole
from eventfleet.workers.agent import DomainAgent, FaustApp
from eventfleet.workers.owner import Ack
from eventfleet.workers.owners import Owners
from eventfleet.workers.transport.chunk import ChunkSchema


class RelayAgent(DomainAgent):
    """Consumes `<domain>.stored` as the group `<prefix>.<domain>.relay`."""

    role = "relay"
    vital_kinds = ("parked",)
    minor_kinds = ("dead_letters",)

    @classmethod
    def source_of(cls, domain: Domain[Any]) -> str:
        return domain.topics.stored

    @classmethod
    def targets_of(cls, domain: Domain[Any]) -> Sequence[str]:
        return domain.targets

    def attach(self, app: FaustApp, owners: Owners) -> None:
        @app.agent(app.topic(self.source, schema=ChunkSchema()), name=self.group)
        async def relay(stream: Any) -> None:
            async for event in stream.noack().events():
                owners.dispatch(event.value)

    def make_role(self, partition: int, ack: Ack) -> RelayRole:
        return RelayRole(
            self.domain,
            partition,
            self.stores.events,
            self.make_writer(partition, ack),
            self.make_logged_parking(partition, LoggedParking),
            reader=self.context.reader,
            notifier=self.context.notifier,
        )
