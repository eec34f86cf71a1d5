"""The relay agent: from `<domain>.stored` to the topics that the domain's routes name."""

from collections.abc import Sequence
from typing import Any

from eventfleet.model.domain import Domain
from eventfleet.roles.logged_parking import LoggedParking
from eventfleet.roles.relay import RelayRole
from eventfleet.workers.agent import DomainAgent
from eventfleet.workers.owner import Ack


class RelayAgent(DomainAgent):
    """Consumes `<domain>.stored` as the group `<prefix>.<domain>.relay`."""

    role = "relay"
    vital_kinds = ("parked",)
    minor_kinds = ("dead_letters",)

    @classmethod
    def targets_of(cls, domain: Domain[Any]) -> Sequence[str]:
        return domain.targets

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
