"""The Faust app of one agent: one role of one domain, as a member of its consumer group."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import faust
from faust.app.base import BootStrategy
from faust.tables import TableManager
from faust.tables.recovery import Recovery
from msgspec import UNSET

from eventfleet.roles.role import PartitionFault
from eventfleet.runtime.settings import variable
from eventfleet.runtime.topic_watch import SECTION
from eventfleet.stores.readiness_report import ReadinessReason, ReasonKind, time_of
from eventfleet.topics.errors import EventfleetError
from eventfleet.workers.agent import Agent
from eventfleet.workers.faust_log import FAUST_LOGGER
from eventfleet.workers.haltable_role import HaltableRole
from eventfleet.workers.metrics import Meter
from eventfleet.workers.owner import Ack, Owner
from eventfleet.workers.owner_outage import OwnerTimeouts
from eventfleet.workers.owners import Owners
from eventfleet.workers.transport import ConsumerConfig

logger = logging.getLogger(__name__)

RETIRE_SECONDS = 12.0
"""For the chunks in hand, which wait for a server at most as long as one call takes."""
LEAVE_SECONDS = 6.0
STOP_TIMEOUT_SECONDS = RETIRE_SECONDS + LEAVE_SECONDS
COMMIT_INTERVAL_SECONDS = 1.0
STOPPED = "is stopped"


Tell = Callable[[Exception], None]
"""Says why a process ends, while it still runs."""


def _fault_of(owner: Owner) -> str:
    return f"{owner} {STOPPED}: {owner.fault}"


def _tell_nobody(error: Exception) -> None:
    """Say nothing: the error is raised."""


class RoleFailed(EventfleetError):
    """The error that stopped a role, with the role, the domain and the partition."""


class NothingToRecover(Recovery):  # type: ignore[misc]
    """Looks at nothing: there are no tables whose changelogs would have to be read."""

    logger = FAUST_LOGGER

    @Recovery.task  # type: ignore[untyped-decorator]
    async def _slurp_changelogs(self) -> None: ...

    @Recovery.task  # type: ignore[untyped-decorator]
    async def _publish_stats(self) -> None: ...


class PromptTables(TableManager):  # type: ignore[misc]
    """Starts at once: there are no tables, so there is no declaration to wait a second for."""

    logger = FAUST_LOGGER
    _recovery: Recovery | None

    @property
    def recovery(self) -> Recovery:
        if self._recovery is None:
            self._recovery = NothingToRecover(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class ConsumerOnly(BootStrategy):  # type: ignore[misc]
    """Starts the consumer alone: roles produce by themselves, and web and sensors are our own."""

    enable_kafka_producer = False
    enable_web = False
    enable_sensors = False


class RoleApp(faust.App):  # type: ignore[misc]
    """Runs an agent, and the owners of the partitions that are assigned to it."""

    logger = FAUST_LOGGER
    BootStrategy = ConsumerOnly

    def __init__(
        self, agent: Agent, config: ConsumerConfig, meter: Meter, timeouts: OwnerTimeouts
    ) -> None:
        super().__init__(
            config.group,
            broker=config.broker,
            broker_session_timeout=config.session_timeout,
            broker_request_timeout=config.request_timeout,
            broker_commit_interval=COMMIT_INTERVAL_SECONDS,
            TableManager=PromptTables,
            stream_recovery_delay=0.0,
            stream_wait_empty=False,
            table_standby_replicas=0,
            topic_disable_leader=True,
            topic_allow_declare=False,
            web_enabled=False,
        )
        self.title = str(agent)
        self.consumer_config = config
        self.meter = meter
        self._agent = agent
        self.owners = Owners(self._make_role, meter, timeouts, self._fail_at)
        self.fault: PartitionFault | None = None  # of the whole role
        self._stopped_at = 0.0
        self.failed = asyncio.Event()
        self._failure: Exception | None = None
        agent.attach(self, self.owners)

    async def work(self, stop: asyncio.Event, tell: Tell = _tell_nobody) -> None:
        """Run until `stop` is set. RoleFailed, or whatever else ends the app earlier, is raised.

        It is told first, before the app is stopped. RoleFailed at the end, too, where a partition
        has stopped.
        """
        starting = asyncio.create_task(self.start())
        waits = [self.failed.wait(), self.wait_until_stopped(), stop.wait()]
        ends = {asyncio.create_task(wait) for wait in waits}
        await asyncio.wait({starting, *ends}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done() or starting.exception() is None:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        failure, faults = None if stop.is_set() else self._cause(starting), self._faults()
        if failure:
            tell(failure)
        await self._leave_group(starting)
        for task in ends:
            task.cancel()
        if failure := failure or self._failure:
            raise failure
        if faults:
            raise RoleFailed("\n".join(faults))

    def _cause(self, starting: asyncio.Task[None]) -> Exception:
        """The error that has ended the app."""
        start_error = starting.exception() if starting.done() else None
        found = self._failure or start_error or self.crash_reason
        return (
            found if isinstance(found, Exception) else RoleFailed(f"{self.title} ended by itself")
        )

    @property
    def is_ready(self) -> bool:
        """True when the app is a member of its group, which it hears from, and each of its
        partitions is open."""
        joined = self._consumer is not None and self._consumer.joined
        return joined and self._is_connected and self.owners.all_open(self._consumer.partitions())

    @property
    def _is_connected(self) -> bool:
        return self._consumer is not None and self._consumer.is_connected

    def obstacles(self) -> list[ReadinessReason]:
        """The reasons why the app is not ready: each partition that is stopped or waits for a
        server, or that it is not yet."""
        if self.fault:
            stopped = f"{self.title} {STOPPED}: {self.fault}"
            return [self._obstacle("stopped", stopped, self._stopped_at)]
        known = [obstacle for owner in self.owners if (obstacle := self._obstacle_of(owner))]
        if self._consumer is not None and self._consumer.joined and not self._is_connected:
            waits = f"{self.title} waits: no broker of Kafka is connected"
            known.append(self._obstacle("waiting", waits))
        starting = [] if self.is_ready else [self._obstacle("starting", f"{self.title}: not ready")]
        return known or starting

    def _obstacle_of(self, owner: Owner) -> ReadinessReason | None:
        place = {"partition": owner.partition}
        if owner.fault:
            return self._obstacle("stopped", _fault_of(owner), owner.stopped_at, **place)
        if owner.waits_for:
            waits = f"{owner} waits: {owner.waits_for}"
            return self._obstacle("waiting", waits, owner.outage.since, **place)
        return None

    def _obstacle(
        self, kind: ReasonKind, reason: str, since: float | None = None, **place: Any
    ) -> ReadinessReason:
        """A reason of this app; `since` is on the monotonic clock."""
        time = UNSET if since is None else time_of(since)
        place = {**self.meter.fields, **place}
        return ReadinessReason(kind=kind, reason=reason, blocking=True, since=time, **place)

    def problems(self, bound: float) -> list[str]:
        """The reasons to restart the process: each partition without progress for `bound` seconds
        though the servers are there, and a consumer that has ended."""
        if self.fault:
            return []
        found = [
            f"{self.title}, partition {owner.partition}: no progress for {bound:g} s"
            for owner in self.owners
            if self._is_connected and owner.is_stalled(bound)
        ]
        if self.started and self._consumer is not None and not self._consumer.is_alive:
            found.append(f"{self.title}: its consumer has ended")
        return found

    def halt(self, reason: str) -> None:
        """Have the role stand still at all partitions, for as long as the process runs."""
        if self.fault and str(self.fault) == reason:
            return
        self._stopped_at = self._stopped_at if self.fault else time.monotonic()
        self.fault = PartitionFault(reason)
        self.meter.halted(range(self._agent.partitions or 0))
        logger.error(
            "%s %s until the process is restarted: %s",
            *(self.title, STOPPED, reason),
            extra=self.meter.fields,
        )

    def fail(self, error: Exception) -> None:
        """End the app, because of an error that is not of one partition."""
        self._end(self.title, error)

    async def _leave_group(self, starting: asyncio.Task[None]) -> None:
        """Finish the chunks in hand, commit, leave the group."""
        if self._consumer is not None:
            await self._within(RETIRE_SECONDS, self._consumer.retire())
        await self._within(LEAVE_SECONDS, self._stop(starting))

    async def _stop(self, starting: asyncio.Task[None]) -> None:
        await self.stop()
        await asyncio.wait({starting})

    async def _within(self, seconds: float, work: Awaitable[None]) -> None:
        """Do a part of the stop; what takes too long is left, as it waits for a server."""
        try:
            async with asyncio.timeout(seconds):
                await work
        except TimeoutError:
            late = "%s has not stopped within %g s"
            logger.warning(late, self.title, seconds, extra=self.meter.fields)

    def _make_role(self, partition: int, ack: Ack) -> HaltableRole:
        return HaltableRole(self._agent.make_role(partition, ack), partition, self._find_fault)

    def _find_fault(self, partition: int) -> PartitionFault | None:
        if self.fault:
            return PartitionFault(str(self.fault))
        declared = self._agent.partitions
        if declared is None or partition < declared:
            return None
        return PartitionFault(
            f"{self._agent.source} has more partitions than {variable('partitions')} ({declared}), "
            f"by which aggregates are divided: {SECTION} says what to do"
        )

    def _faults(self) -> list[str]:
        if self.fault:
            return [f"{self.title} {STOPPED}: {self.fault}"]
        return [_fault_of(owner) for owner in self.owners if owner.fault]

    def _fail_at(self, partition: int, error: Exception) -> None:
        if isinstance(error, PartitionFault):
            if not self.fault:
                self._log_fault(partition, error)
            return
        self._end(f"{self.title}, partition {partition}", error)

    def _end(self, where: str, error: Exception) -> None:
        if isinstance(error, EventfleetError):
            failure: Exception = RoleFailed(f"{where}: {error}")
            failure.__cause__ = error
        else:
            failure = error
            failure.add_note(where)
        self._failure = self._failure or failure
        self.failed.set()

    def _log_fault(self, partition: int, fault: PartitionFault) -> None:
        logger.error(
            "%s, partition %d %s until it is assigned anew or the process is restarted: %s%s",
            *(self.title, partition, STOPPED, fault, fault.details and f"\n{fault.details}"),
            extra={
                **self.meter.fields,
                "partition": partition,
                **fault.fields,
                "exception": fault.details or None,
            },
        )

    def _create_directories(self) -> None:
        """Make none: nothing is kept on disk."""
