"""The owner of one assigned partition: runs a role over the partition's chunks."""

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import Enum
from itertools import count
from typing import Any

from eventfleet.roles.role import NOTHING, ChunkReport, PartitionFault, Role
from eventfleet.stores.errors import DoubtfulOffset, Fenced, ServerUnavailable, TopicRefused
from eventfleet.stores.retry import OUTAGE
from eventfleet.workers.chunk_source import ChunkSource
from eventfleet.workers.metrics import Meter
from eventfleet.workers.transport.chunk import MAX_CHUNKS_IN_FLIGHT, Chunk

logger = logging.getLogger(__name__)
_session_numbers = count(1)

RETRIED_ERRORS = (ServerUnavailable, TopicRefused, DoubtfulOffset)

Ack = Callable[[int], Awaitable[None]]
RoleFactory = Callable[[int, Ack], Role]
"""Makes the role of a partition. The ack is for roles whose offsets Faust commits: it takes the
`next_offset` of the chunk in hand; roles that commit by themselves never call it."""

Fail = Callable[[int, Exception], None]
"""Reports the error that ended the owner of a partition, or the fault that stopped its role."""


@dataclass(frozen=True)
class OwnerTimeouts:
    """The bounds of an owner's waits, in seconds; a server that is away is waited for without end.

    `refused`: how long a topic may be refused before the partition stands still; a broker that has
    just started does not know its topics for a moment. `doubted`: how long an offset that looks
    lost or wrong is asked for again, before that counts. `in_hand`: what a close allows the chunk
    in hand. `tick`: between two ticks, `rest_tick` at rest. `fenced`: from a fence until the
    partition, if it is still assigned, is taken over again. `longest_pause`: between two retries.
    """

    refused: float = 10.0
    doubted: float = 0.0
    in_hand: float = 10.0
    tick: float = 1.0
    rest_tick: float = 10.0
    fenced: float = 10.0
    longest_pause: float = OUTAGE.longest_seconds

    def patience(self, error: Exception) -> float | None:
        """The seconds for which an error may last; None for ever."""
        if isinstance(error, TopicRefused):
            return self.refused
        return self.doubted if isinstance(error, DoubtfulOffset) else None


class OwnerState(Enum):
    """The state of a partition's role. Chunks and ticks are for an OPEN role only.

    STOPPED: by a PartitionFault, until the owner is closed.
    """

    CLOSED = "closed"
    OPENING = "opening"
    OPEN = "open"
    FENCED = "fenced"
    STOPPED = "stopped"


def _make_queue() -> "asyncio.Queue[Chunk | ServerUnavailable]":
    """Make the queue of a session: its chunks, and the interruption that ends it."""
    return asyncio.Queue(MAX_CHUNKS_IN_FLIGHT + 1)


def _without_frames(error: PartitionFault | TopicRefused) -> PartitionFault:
    """The fault without its traceback, whose frames would keep the chunk in memory."""
    fault = error if isinstance(error, PartitionFault) else PartitionFault(str(error))
    fault.__cause__ = fault.__context__ = None
    return fault.with_traceback(None)


def _reason(error: Exception) -> str:
    """Say what is waited for; advice is for a lost offset, not for a doubtful one."""
    if isinstance(error, DoubtfulOffset):
        return f"{error.finding}; it is asked for again before that counts"
    return str(error)


class Owner:
    """Runs one partition's role: opens it, gives it chunks and ticks, closes it.

    `waits_for` is why the last turn failed, while it is tried again: a server is away.
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
        """`stopped_at`: when a fault stopped the owner before this one, on the steady clock."""
        self.partition = partition
        self.state = OwnerState.CLOSED
        self.fault: PartitionFault | None = None
        self.stopped_at = 0.0
        self.waits_for = ""
        self.progress = time.monotonic()
        self._source, self._meter, self._timeouts = source, meter, timeouts
        self._make_role = make_role
        self._role = make_role(partition, self._ack)
        self._queue = _make_queue()
        self._session: int | None = None
        self._position = 0
        self._tick_pause = timeouts.tick
        self._last_tick = self.failing_since = self._failed_at = time.monotonic()
        self._refused_since: float | None = None
        self._given_up_at = stopped_at
        self._trouble_level = logging.WARNING if stopped_at is None else logging.ERROR
        self._chunk_unfinished = False  # a chunk was begun and has failed, or is in hand
        self._unfinished_since = 0  # the timestamp of its first record, in milliseconds
        self._busy = False
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def __str__(self) -> str:
        return f"{self._meter.title}, partition {self.partition}"

    @property
    def _fields(self) -> dict[str, Any]:
        return {**self._meter.fields, "partition": self.partition}

    def _log_recovery(self, what: str, seconds: float) -> None:
        """Log it at the level of the trouble, so that a log has both or neither."""
        text, level = "%s %s after %.1f s", self._trouble_level
        logger.log(level, text, self, what, seconds, extra=self._fields)

    # For Owners and the app

    def start(self, fail: Fail) -> None:
        self._meter.watch(self.partition, self._lag, self.lag_seconds, self.age)
        self._task = asyncio.create_task(self._run(fail), name=f"owner of {self.partition}")

    def enqueue(self, chunk: Chunk) -> None:
        """Put a chunk in the queue, unless its session is over."""
        if chunk.session == self._session:
            self._queue.put_nowait(chunk)

    def interrupt(self, session: int, reason: str) -> None:
        """Open the role again after the chunks in the queue, unless the session is over."""
        if session == self._session:
            self._queue.put_nowait(ServerUnavailable(reason))

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

    def is_stalled(self, bound: float) -> bool:
        """Check whether records wait and no chunk was finished for longer than `bound` seconds.

        A partition that a fault has stopped is not stalled, nor one that waits for a server and has
        called it within `bound`: a restart alone would not help.
        """
        if self.fault or (self.waits_for and time.monotonic() - self._failed_at <= bound):
            return False
        return self.age() > bound and self._lag() > 0

    def age(self) -> float:
        """Seconds since a chunk was finished or none waited."""
        return time.monotonic() - self.progress

    def lag_seconds(self) -> float:
        """The age of the oldest record that is known to wait; 0 when none waits.

        Of records that wait in the log alone, the time since anything was done stands for it.
        """
        oldest = self._oldest_timestamp()
        if not oldest:
            return self.age() if self._lag() else 0.0
        return max(0.0, time.time() - oldest / 1000)

    def _oldest_timestamp(self) -> int | None:
        if self._chunk_unfinished:
            return self._unfinished_since
        return self._source.oldest_timestamp(self.partition)

    def _lag(self) -> int:
        return self._source.lag(self.partition, self._position if self.fault else None)

    # The task: turns, until the owner is closed, is fenced or fails

    async def _run(self, fail: Fail) -> None:
        try:
            while not self._closing:
                try:
                    await self._run_turns()
                except Fenced as error:
                    await self._give_up(error)
                    await self._wait_until_reassigned()
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
            self._refused_since = None
            self._prepare_retry(error)
            self.failing_since = self._failed_at
            logger.warning("%s will be opened again: %s", self, self.waits_for, extra=self._fields)
            policy = replace(OUTAGE, longest_seconds=self._timeouts.longest_pause)
            await asyncio.sleep(policy.pause(1))
            await policy.retry(self._turn_until_the_chunk_is_finished, self._is_tried_again)
            self.waits_for = ""
            if not self._closing:
                seconds = time.monotonic() - self.failing_since
                self._log_recovery("is well again", seconds)

    async def _turn(self) -> None:
        """Open the role if need be; then process one chunk or do one tick."""
        if self.state is not OwnerState.OPEN:
            await self._uninterrupted(self._open())
        if self._closing:
            return
        if chunk := await self._next_chunk():
            await self._uninterrupted(self._process(chunk))
        else:
            await self._uninterrupted(self._tick())

    async def _turn_until_the_chunk_is_finished(self) -> None:
        """Run turns until the chunk that failed is through: a tick alone proves nothing."""
        await self._turn()
        while self._chunk_unfinished and not self._closing:
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
        self._position = await self._role.open()
        self._session = next(_session_numbers)
        self._queue = _make_queue()
        if await self._source.start_session(self.partition, self._position, self._session):
            self.state = OwnerState.OPEN
            # A tick comes first: a discard may be what lets the first chunk through.
            self._last_tick = -math.inf
            if self._given_up_at is not None:
                self._log_recovery("is open again", time.monotonic() - self._given_up_at)
                self._given_up_at, self._trouble_level = None, logging.WARNING
        else:
            self._closing = True

    def _end_session(self, state: OwnerState) -> None:
        self.state = state
        self._session = None
        self._source.end_session(self.partition)

    async def _next_chunk(self) -> Chunk | None:
        """The next chunk; None when a tick is due first. ServerUnavailable: an interruption."""
        left = self._last_tick + self._tick_pause - time.monotonic()
        if left <= 0:
            return None
        try:
            async with asyncio.timeout(left):
                item = await self._queue.get()
        except TimeoutError:
            return None
        if isinstance(item, ServerUnavailable):
            raise item
        return item

    async def _process(self, chunk: Chunk) -> None:
        self._chunk_unfinished = True
        self._tick_pause = self._timeouts.tick
        self._unfinished_since = chunk.records[0].timestamp
        if chunk.start != self._position:
            raise ServerUnavailable(
                f"the records from offset {self._position} to {chunk.start} were not delivered"
            )
        records = chunk.records
        if records[0].offset < self._position:
            records = [record for record in records if record.offset >= self._position]
        began = time.monotonic()
        report = await self._role.process(records, chunk.next_offset) if records else ChunkReport()
        self._position = chunk.next_offset
        self._chunk_unfinished = False
        self.progress = time.monotonic()
        self._source.finish(self.partition, chunk.next_offset)
        self._meter.add_chunk(self.progress - began, report, records)

    async def _tick(self) -> None:
        try:
            report = await self._role.tick()
            at_rest = report == NOTHING and self._role.at_rest
            self._tick_pause = self._timeouts.rest_tick if at_rest else self._timeouts.tick
            self._meter.add(report)
        finally:  # so that a chunk comes after each tick, however long it took
            self._last_tick = time.monotonic()
        if self._lag() == 0:
            self.progress = time.monotonic()

    async def _ack(self, next_offset: int) -> None:
        if self.state in (OwnerState.OPENING, OwnerState.OPEN):
            await self._source.ack(self.partition, next_offset)

    # When a turn fails

    def _is_tried_again(self, error: Exception) -> bool:
        if not isinstance(error, RETRIED_ERRORS) or self._is_given_up(error):
            return False
        self._prepare_retry(error)
        return True

    def _is_given_up(self, error: Exception) -> bool:
        """Check that a topic was refused, or an offset doubtful, for too long in one go.

        A server is never given up.
        """
        patience = self._timeouts.patience(error)
        if patience is None:
            self._refused_since = None
            return False
        self._refused_since = self._refused_since or time.monotonic()
        return time.monotonic() - self._refused_since >= patience

    def _prepare_retry(self, error: Exception) -> None:
        self.waits_for = _reason(error)
        self._failed_at = time.monotonic()
        self._end_session(OwnerState.CLOSED)
        self._meter.retried()

    async def _give_up(self, error: Fenced) -> None:
        self.waits_for = ""
        self._meter.fenced()
        self._given_up_at = time.monotonic()
        logger.warning("%s is given up: %s", self, error, extra=self._fields)
        self._end_session(OwnerState.FENCED)
        await self._uninterrupted(self._role.close())

    async def _stand_still(self, fault: PartitionFault, fail: Fail) -> None:
        """Give the partition up because of a fault, and wait until the owner is closed."""
        self.waits_for = ""
        self.stopped_at = time.monotonic()
        self._meter.stopped(self.partition)
        self._end_session(OwnerState.STOPPED)
        await self._uninterrupted(self._role.close())
        fail(self.partition, fault)
        await asyncio.get_running_loop().create_future()

    async def _wait_until_reassigned(self) -> None:
        """Wait; unless the owner is closed meanwhile, a new role takes the partition over.

        A close means that the partition has a new owner. An old owner that had not heard of its
        end may have fenced its successor. It hears of it within a session; the jitter keeps two
        owners from fencing each other by turns.
        """
        await asyncio.sleep(self._timeouts.fenced * random.uniform(1, 2))
        logger.warning("%s is still assigned: it is taken over again", self, extra=self._fields)
        self._role = self._make_role(self.partition, self._ack)
        self._chunk_unfinished = False
        self.state = OwnerState.CLOSED
