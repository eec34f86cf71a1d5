"""The project agent: from `<domain>.stored` to the domain's views."""

from collections.abc import Sequence
from typing import Any

from eventfleet.model.domain import Domain
from eventfleet.roles.build_parking import BuildParking
from eventfleet.roles.project import ProjectRole
from eventfleet.roles.recent_builds import RecentBuilds
from eventfleet.stores.contracts import DomainStores
from eventfleet.workers.agent import DomainAgent, WorkerContext
from eventfleet.workers.owner import Ack


class ProjectAgent(DomainAgent):
    """Consumes `<domain>.stored` as the group `<prefix>.<domain>.project`."""

    role = "project"
    rest_seconds = 3.0  # each tick looks at the builds: whoever begins one watches it
    vital_kinds = ("parked",)
    minor_kinds = ("dead_letters",)

    def __init__(self, domain: Domain[Any], stores: DomainStores, context: WorkerContext) -> None:
        super().__init__(domain, stores, context)
        assert stores.views is not None
        self._recent_builds = RecentBuilds(stores.views, context.clock)

    @classmethod
    def serves(cls, domain: Domain[Any]) -> bool:
        return bool(domain.views)

    @classmethod
    def targets_of(cls, domain: Domain[Any]) -> Sequence[str]:
        return []

    @property
    def guarantee(self) -> str:
        views = ", ".join(view.name for view in self.domain.views)
        return f"{self} to the views {views}: each event is applied once"

    def make_role(self, partition: int, ack: Ack) -> ProjectRole:
        return ProjectRole(
            self.domain,
            partition,
            self.stores,
            self.make_writer(partition, ack),
            self.make_logged_parking(partition, BuildParking),
            self.context.clock,
            partitions=self.context.settings.partitions,
            cached=self.context.settings.cached_aggregates,
            notifier=self.context.notifier,
            statistics=self.context.metrics.views(self.domain_name),
            recent_builds=self._recent_builds,
        )
