"""The base of every agent: its topic, its consumer group, a role for each partition."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from eventfleet.model.domain import Domain
from eventfleet.roles.logged_parking import LoggedParking
from eventfleet.roles.notices import NULL_NOTIFIER, StageNotifier
from eventfleet.roles.parking import Parking
from eventfleet.roles.role import Role
from eventfleet.runtime.settings import Settings
from eventfleet.runtime.topic_watch import TopicUse
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import (
    Clock,
    DeadLetterStore,
    DomainStores,
    LogReader,
    LogWriter,
    PartitionWriter,
)
from eventfleet.stores.parked_log import TopicParkedLog
from eventfleet.topics.names import Topics, consumer_group
from eventfleet.workers.metrics import Metrics
from eventfleet.workers.owner import Ack
from eventfleet.workers.owners import Owners
from eventfleet.workers.timed_writer import TimedWriter
from eventfleet.workers.transport.chunk import ChunkSchema
from eventfleet.workers.worker_log import WorkerLog

if TYPE_CHECKING:
    from eventfleet.deciders.decider import Decider


P = TypeVar("P", bound=Parking)
L = TypeVar("L", bound=LoggedParking)

AgentFunction = Callable[[Any], Coroutine[Any, Any, None]]
"""Consumes a Faust stream, whose events are chunks."""


class FaustApp(Protocol):
    """The part of a Faust app that agents use."""

    def topic(self, name: str, *, schema: ChunkSchema) -> Any:
        """Describe a topic."""

    def agent(self, channel: Any, *, name: str) -> Callable[[AgentFunction], Any]:
        """Decorate the agent function of a topic."""


class Agent(ABC):
    """A Faust agent: one role of one domain, over one topic, as one consumer group."""

    role: ClassVar[str]
    rest_seconds: ClassVar[float] = 10.0
    """Between two ticks of a role at rest."""
    partitions: int | None = None
    """How many the role takes, where that is known: it stands still at any other."""

    def __init__(self, domain_name: str, source: str, group_prefix: str) -> None:
        self.domain_name, self.source = domain_name, source
        self.group = consumer_group(group_prefix, domain_name, self.role)

    def __str__(self) -> str:
        return f"{self.role} of {self.domain_name}"

    def attach(self, app: FaustApp, owners: Owners) -> None:
        """Add the agent to a Faust app; each chunk goes to the owner of its partition."""

        @app.agent(app.topic(self.source, schema=ChunkSchema()), name=self.group)
        async def dispatch(stream: Any) -> None:
            async for event in stream.noack().events():
                owners.dispatch(event.value)

    @abstractmethod
    def make_role(self, partition: int, ack: Ack) -> Role:
        """Make the role of one partition. `ack` is for a writer without transactions."""


@dataclass(frozen=True)
class WorkerContext:
    """The resources that the agents of one process share.

    `deciders`, by domain name, are for the command agent; `writer` publishes again what sweeps
    find, `reader` looks for topics of routes and reads what is parked. `metrics` are those of the
    process, which show the commits of its roles.
    """

    settings: Settings
    log: WorkerLog
    writer: LogWriter
    reader: LogReader
    deciders: "Mapping[str, Decider]" = field(default_factory=dict)
    notifier: StageNotifier = NULL_NOTIFIER
    clock: Clock = field(default_factory=SystemClock)
    metrics: Metrics = field(default_factory=Metrics)


class DomainAgent(Agent):
    """An agent of the fleet, over one of its domain's own topics.

    Beside its targets the role writes to topics of the domain of the `vital_kinds`, without which
    it must stand still, and of the `minor_kinds`.
    """

    vital_kinds: ClassVar[Sequence[str]] = ()
    minor_kinds: ClassVar[Sequence[str]] = ("parked", "dead_letters")

    def __init__(self, domain: Domain[Any], stores: DomainStores, context: WorkerContext) -> None:
        super().__init__(domain.name, self.source_of(domain), context.settings.group_prefix)
        self.domain, self.stores, self.context = domain, stores, context
        self.partitions = context.settings.partitions
        self.tried: set[tuple[str, int]] = set()  # what is parked, and was tried in this process

    @classmethod
    def serves(cls, domain: Domain[Any]) -> bool:
        """Return whether the role has anything to do in a domain."""
        return True

    @classmethod
    def source_of(cls, domain: Domain[Any]) -> str:
        """The topic that the agent consumes: the stored events, unless it says another."""
        return domain.topics.stored

    @classmethod
    @abstractmethod
    def targets_of(cls, domain: Domain[Any]) -> Sequence[str]:
        """The topics that the agent writes to, apart from dead letters."""

    @property
    def topic_uses(self) -> list[TopicUse]:
        """The topics that the role uses, for the watch over them."""
        name, topics = self.domain_name, self.domain.topics
        vital = [*self.targets_of(self.domain), *(getattr(topics, k) for k in self.vital_kinds)]
        minor = [getattr(topics, kind) for kind in self.minor_kinds]
        return [
            TopicUse(name, self.source, "Read"),
            *(TopicUse(name, each, "Write", is_route=each not in topics) for each in vital),
            *(TopicUse(name, each, "Write", is_vital=False) for each in minor),
        ]

    @property
    def guarantee(self) -> str:
        """The line for the log that says how often a record is delivered to the agent's targets."""
        where = f"{self} to {', '.join(self.targets_of(self.domain)) or 'no topic'}"
        if self.context.log.transactional:
            return f"{where}: delivery is exactly once for readers of committed records"
        return (
            f"{where}: delivery is at least once, since the broker has no transactions; "
            "consumers must drop repeats by event id"
        )

    def make_writer(self, partition: int, ack: Ack) -> PartitionWriter:
        """Make the writer that moves the offset together with the records that a role writes."""
        histograms = self.context.metrics.histograms(self.domain_name, self.role)
        writer = self.context.log.writer(self.group, self.source, partition, ack)
        return TimedWriter(writer, histograms.commit_seconds)

    def make_parking(self, partition: int) -> Parking:
        """Make the parking of a role that keeps what it parks in the dead-letter store."""
        return self.watched(
            Parking(
                *self._parking_of(partition),
                most=self.context.settings.parked_aggregates,
                tried=self.tried,
            ),
            partition,
        )

    def make_logged_parking(self, partition: int, kind: type[L]) -> L:
        """Make the parking of a role that keeps what it parks in the log, beside its offset."""
        parking = kind(
            *self._parking_of(partition),
            TopicParkedLog(self.domain.topics, self.context.reader),
            most=self.context.settings.parked_aggregates,
            tried=self.tried,
        )
        return self.watched(parking, partition)

    def watched(self, parking: P, partition: int) -> P:
        """Have the metrics show what a role parks."""
        self.context.metrics.watch_parking(self.domain_name, self.role, partition, parking)
        return parking

    def _parking_of(self, partition: int) -> tuple[Topics, str, int, DeadLetterStore, Clock]:
        letters = self.stores.dead_letters
        assert letters is not None
        return self.domain.topics, self.role, partition, letters, self.context.clock
