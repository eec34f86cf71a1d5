"""The command agent: from `<domain>.commands` to `<domain>.replies`, and events by its decider."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from eventfleet.model.domain import Domain
from eventfleet.roles.command import CommandRole
from eventfleet.runtime.event_services import patience
from eventfleet.workers.agent import DomainAgent
from eventfleet.workers.owner import Ack


class CommandAgent(DomainAgent):
    """Consumes `<domain>.commands` as the group `<prefix>.<domain>.command`."""

    role = "command"
    vital_kinds = ("events",)
    minor_kinds = ("dead_letters",)

    @classmethod
    def source_of(cls, domain: Domain[Any]) -> str:
        return domain.topics.commands

    @classmethod
    def targets_of(cls, domain: Domain[Any]) -> Sequence[str]:
        return [domain.topics.replies]

    def make_role(self, partition: int, ack: Ack) -> CommandRole:
        return CommandRole(
            self.domain,
            partition,
            self.context.deciders[self.domain.name],
            self.stores.events.registry,
            self.make_writer(partition, ack),
            self.context.clock,
            decide_timeout=timedelta(seconds=patience(self.context.settings)),
        )
