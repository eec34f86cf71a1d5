"""The Faust app of one role of one domain."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

import faust
from faust.app.base import BootStrategy
from faust.tables import TableManager

from eventfleet.topics.errors import EventfleetError
from eventfleet.workers.metrics import Meter
from eventfleet.workers.owners import Owners, OwnerTimeouts, RoleFactory
from eventfleet.workers.transport import ChunkSchema, ConsumerConfig

logger = logging.getLogger(__name__)

STOP_SECONDS = 20.0
COMMIT_INTERVAL = 0.2


class RoleFailed(EventfleetError):
    """What stopped a role, and where."""


@dataclass(frozen=True)
class RoleSpec:
    """One role of one domain, and how to make it for each partition of its topic."""

    domain: str
    role: str
    make: RoleFactory

    def __str__(self) -> str:
        return f"{self.role} of {self.domain}"


class PromptTables(TableManager):  # type: ignore[misc]
    """There are no tables, so no second is spent waiting for their declaration."""

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class ConsumerOnly(BootStrategy):  # type: ignore[misc]
    """What is produced is produced by the roles; Faust has no web, sensors or producer here."""

    enable_kafka_producer = False
    enable_web = False
    enable_sensors = False


class RoleApp(faust.App):  # type: ignore[misc]
    """Passes the chunks of one topic to the owners of its partitions."""

    BootStrategy = ConsumerOnly

    def __init__(
        self, duty: RoleSpec, source: ConsumerConfig, meter: Meter, patience: OwnerTimeouts
    ) -> None:
        super().__init__(
            source.group,
            broker="eventfleet://",
            broker_session_timeout=source.session_timeout,
            broker_request_timeout=source.request_timeout,
            broker_commit_interval=COMMIT_INTERVAL,
            TableManager=PromptTables,
            stream_recovery_delay=0.0,
            stream_wait_empty=False,
            table_standby_replicas=0,
            topic_disable_leader=True,
            topic_allow_declare=False,
            web_enabled=False,
        )
        self.duty = duty
        self.source = source
        self.meter = meter
        self.owners = Owners(duty.make, meter, patience, self._fail)
        self._failure: Exception | None = None
        self.failed = asyncio.Event()
        topic = self.topic(source.topic, schema=ChunkSchema())
        self.agent(topic, name=source.group)(self._pass_on)

    async def work(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set; RoleFailed, or whatever else ends it, is raised."""
        starting = asyncio.create_task(self.start())
        waits = [self.failed.wait(), self.wait_until_stopped(), stop.wait()]
        ends = {asyncio.create_task(wait) for wait in waits}
        await asyncio.wait({starting, *ends}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done() or starting.exception() is None:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        ended = not stop.is_set()
        await self._leave(starting)
        for task in ends:
            task.cancel()
        at_start = starting.exception() if starting.done() else None
        if self._failure:
            raise self._failure
        if ended:
            raise at_start or self.crash_reason or RoleFailed(f"{self.duty} ended by itself")

    @property
    def ready(self) -> bool:
        """Whether it is a member of its group and has opened each of its partitions."""
        joined = self._consumer is not None and self._consumer.joined
        return joined and self.owners.all_open(self._consumer.partitions())

    def troubles(self, bound: float) -> list[str]:
        """Why it should be started anew: partitions without progress for `bound` seconds."""
        found = [
            f"{self.duty}, partition {owner.partition}: no progress for {bound:g} s"
            for owner in self.owners
            if owner.stalled(bound)
        ]
        if self.started and self._consumer is not None and not self._consumer.alive:
            found.append(f"{self.duty}: its consumer has ended")
        return found

    async def _leave(self, starting: asyncio.Task[None]) -> None:
        """Finish the chunks in hand, commit, leave the group."""
        try:
            async with asyncio.timeout(STOP_SECONDS):
                if self._consumer is not None:
                    await self._consumer.retire()
                await self.stop()
                await asyncio.wait({starting})
        except TimeoutError:
            logger.warning("%s has not stopped within %g s", self.duty, STOP_SECONDS)

    async def _pass_on(self, stream: Any) -> None:
        async for event in stream.noack().events():
            self.owners.take(event.value)

    def _fail(self, partition: int, error: Exception) -> None:
        where = f"{self.duty}, partition {partition}"
        if isinstance(error, EventfleetError):
            failure: Exception = RoleFailed(f"{where}: {error}")
            failure.__cause__ = error
        else:
            failure = error
            failure.add_note(where)
        self._failure = self._failure or failure
        self.failed.set()

    def _create_directories(self) -> None:
        """Nothing is kept on disk."""
