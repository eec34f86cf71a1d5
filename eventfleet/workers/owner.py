"""The owner of one assigned partition: runs a role over the partition's chunks."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from enum import Enum

from eventfleet.roles.role import NOTHING, ChunkReport, PartitionFault, Role
from eventfleet.stores.errors import DoubtfulOffset, Fenced, ServerUnavailable, TopicRefused
from eventfleet.stores.retry import OUTAGE
from eventfleet.workers.chunk_source import ChunkSource
from eventfleet.workers.metrics import Meter
from eventfleet.workers.owned_session import OwnedSession
from eventfleet.workers.owner_outage import OwnerOutage, OwnerTimeouts
from eventfleet.workers.owner_progress import OwnerProgress
from eventfleet.workers.transport.chunk import Chunk

logger = logging.getLogger(__name__)

RETRIED_ERRORS = (ServerUnavailable, TopicRefused, DoubtfulOffset)

Ack = Callable[[int], Awaitable[None]]
RoleFactory = Callable[[int, Ack], Role]
"""Makes the role of a partition. The ack is for roles whose offsets Faust commits: it takes the
`next_offset` of the chunk in hand; roles that commit by themselves never call it."""

Fail = Callable[[int, Exception], None]
"""Reports the error that ended the owner of a partition, or the fault that stopped its role."""


class OwnerState(Enum):
    """The state of a partition's role. Chunks and ticks are for an OPEN role only.

    STOPPED: by a PartitionFault, until the owner is closed.
    """

    CLOSED = "closed"
    OPENING = "opening"
    OPEN = "open"
    FENCED = "fenced"
    STOPPED = "stopped"


def _without_frames(error: PartitionFault | TopicRefused) -> PartitionFault:
    """The fault without its traceback, whose frames would keep the chunk in memory."""
    fault = error if isinstance(error, PartitionFault) else PartitionFault(str(error))
    fault.__cause__ = fault.__context__ = None
    return fault.with_traceback(None)


class Owner:
    """Runs one partition's role: opens it, gives it chunks and ticks, closes it.

    `stopped_at` is when a `fault` stopped it, on the steady clock.
    """

    def __init__(
        self,
        partition: int,
        make_role: RoleFactory,
        source: ChunkSource,
        meter: Meter,
        timeouts: OwnerTimeouts,
        stopped_at: float | None = None,
    ) -> None:
        """`stopped_at`: when a fault stopped the owner before this one."""
        self.partition, self.state = partition, OwnerState.CLOSED
        self.fault: PartitionFault | None = None
        self.stopped_at = 0.0
        self._source, self._meter, self._timeouts = source, meter, timeouts
        self.session = OwnedSession(partition, source, timeouts.tick)
        self.progress = OwnerProgress(partition, source)
        fields = {**meter.fields, "partition": partition}
        self.outage = OwnerOutage(logger, str(self), fields, timeouts, stopped_at)
        self._make_role = make_role
        self._role = make_role(partition, self._ack)
        self._busy = False
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def __str__(self) -> str:
        return f"{self._meter.title}, partition {self.partition}"

    # For Owners and the app

    def start(self, fail: Fail) -> None:
        progress = self.progress
        self._meter.watch(self.partition, progress.lag, progress.lag_seconds, progress.age)
        self._task = asyncio.create_task(self._run(fail), name=f"owner of {self.partition}")

    async def close(self) -> None:
        """Let the chunk in hand be finished, within bounds, and close the role.

        A chunk that waits for a server is not finished: whoever owns the partition next does it.
        """
        self._closing = True
        if self._task is None:
            return
        if self._busy and not self.waits_for:
            await asyncio.wait({self._task}, timeout=self._timeouts.in_hand)
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=self._timeouts.in_hand)
        self._meter.forget(self.partition)

    @property
    def waits_for(self) -> str:
        """Why the last turn failed, while it is tried again: a server is away."""
        return self.outage.waits_for

    def is_stalled(self, bound: float) -> bool:
        """Check whether records wait and no chunk was finished for longer than `bound` seconds.

        A partition that a fault has stopped is not stalled, nor one that waits for a server and has
        called it within `bound`: a restart alone would not help.
        """
        if self.fault or self.outage.called_within(bound):
            return False
        return self.progress.age() > bound and self.progress.lag() > 0

    # The task: turns, until the owner is closed, is fenced or fails

    async def _run(self, fail: Fail) -> None:
        try:
            while not self._closing:
                try:
                    await self._run_turns()
                except Fenced as error:
                    await self._wait_until_reassigned(error)
                except (PartitionFault, TopicRefused) as error:
                    self.fault = _without_frames(error)
                if self.fault:
                    await self._stand_still(self.fault, fail)
        except Exception as error:
            fail(self.partition, error)
        finally:
            self._end_session(OwnerState.CLOSED)
            await self._uninterrupted(self._role.close())

    async def _run_turns(self) -> None:
        """Run turn after turn; one that a server or a topic refuses is tried again."""
        try:
            while not self._closing:
                await self._turn()
        except RETRIED_ERRORS as error:
            self.outage.begin(error)
            self._prepare_retry()
            policy = replace(OUTAGE, longest_seconds=self._timeouts.longest_pause)
            await asyncio.sleep(policy.pause(1))
            await policy.retry(self._turn_until_the_chunk_is_finished, self._is_tried_again)
            self.outage.end()
            if not self._closing:
                self.outage.log_end()

    async def _turn(self) -> None:
        """Open the role if need be; then process one chunk or do one tick."""
        if self.state is not OwnerState.OPEN:
            await self._uninterrupted(self._open())
        if self._closing:
            return
        if chunk := await self.session.next_chunk():
            await self._uninterrupted(self._process(chunk))
        else:
            await self._uninterrupted(self._tick())

    async def _turn_until_the_chunk_is_finished(self) -> None:
        """Run turns until the chunk that failed is through: a tick alone proves nothing."""
        await self._turn()
        while self.progress.has_unfinished and not self._closing:
            await self._turn()

    async def _uninterrupted(self, work: Awaitable[None]) -> None:
        """Do work that a close waits for."""
        self._busy = True
        try:
            await work
        finally:
            self._busy = False

    # One turn

    async def _open(self) -> None:
        self.state = OwnerState.OPENING
        if await self.session.start(await self._role.open()):
            self.state = OwnerState.OPEN
            self.outage.note_open()
        else:
            self._closing = True

    async def _process(self, chunk: Chunk) -> None:
        began = self.progress.begin(chunk)
        self.session.tick_pause = self._timeouts.tick
        records = self.session.unread(chunk)
        report = await self._role.process(records, chunk.next_offset) if records else ChunkReport()
        self.session.finish(chunk.next_offset)
        self.progress.finish()
        self._meter.add_chunk(self.progress.made_at - began, report, records)

    async def _tick(self) -> None:
        try:
            report = await self._role.tick()
            at_rest = report == NOTHING and self._role.at_rest
            self.session.tick_pause = self._timeouts.rest_tick if at_rest else self._timeouts.tick
            self._meter.add(report)
        finally:
            self.session.note_tick()
        self.progress.note_tick()

    async def _ack(self, next_offset: int) -> None:
        if self.state in (OwnerState.OPENING, OwnerState.OPEN):
            await self._source.ack(self.partition, next_offset)

    # When a turn fails

    def _is_tried_again(self, error: Exception) -> bool:
        if not isinstance(error, RETRIED_ERRORS) or self.outage.is_given_up(error):
            return False
        self.outage.note(error)
        self._prepare_retry()
        return True

    def _prepare_retry(self) -> None:
        self._end_session(OwnerState.CLOSED)
        self._meter.retried()

    def _end_session(self, state: OwnerState) -> None:
        self.state = state
        self.session.end()

    async def _stand_still(self, fault: PartitionFault, fail: Fail) -> None:
        """Give the partition up because of a fault, and wait until the owner is closed."""
        self.outage.end()
        self.stopped_at = time.monotonic()
        self.progress.stopped_position = self.session.position
        self._meter.stopped(self.partition)
        self._end_session(OwnerState.STOPPED)
        await self._uninterrupted(self._role.close())
        fail(self.partition, fault)
        await asyncio.get_running_loop().create_future()

    async def _wait_until_reassigned(self, error: Fenced) -> None:
        """Give the partition up; unless the owner is closed soon, a new role takes it over.

        A close means that the partition has a new owner. An old owner that had not heard of its
        end may have fenced its successor. It hears of it within a session; the jitter keeps two
        owners from fencing each other by turns.
        """
        self._meter.fenced()
        self.outage.give_up(error)
        self._end_session(OwnerState.FENCED)
        await self._uninterrupted(self._role.close())
        await asyncio.sleep(self._timeouts.fenced * random.uniform(1, 2))
        self.outage.warn("is still assigned: it is taken over again")
        self._role = self._make_role(self.partition, self._ack)
        self.progress.has_unfinished = False
        self.state = OwnerState.CLOSED
