"""The owners of the assigned partitions: each runs a role over its chunks, on its own."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from eventfleet.roles.role import ChunkReport, Role
from eventfleet.stores.errors import Fenced, ServerUnavailable
from eventfleet.workers.metrics import Meter
from eventfleet.workers.transport.chunk import UNDER_WAY, Chunk

logger = logging.getLogger(__name__)
_sessions = count(1)

Ack = Callable[[int], Awaitable[None]]
RoleFactory = Callable[[int, Ack], Role]
"""Makes the role of a partition. The ack is for roles whose offsets Faust commits: it takes the
`next_offset` of the chunk in hand; roles that commit by themselves never call it."""

Fail = Callable[[int, Exception], None]


@dataclass(frozen=True)
class OwnerTimeouts:
    """Times in seconds: for what is unavailable, for a chunk in hand, between ticks, and after a
    fence until the partition, if it is still assigned, is taken over afresh."""

    unavailable: float = 60.0
    in_hand: float = 10.0
    tick: float = 1.0
    fenced: float = 10.0
    longest_pause: float = 5.0


class ChunkSource(Protocol):
    """Where chunks come from, one session of a partition after another."""

    async def start_at(self, partition: int, offset: int, session: int) -> bool:
        """Begin a session of the partition here; False: the partition is not ours any more."""

    def leave(self, partition: int) -> None:
        """End the session."""

    def finished(self, partition: int, next_offset: int) -> None:
        """The chunk that ends here is done with."""

    async def acked(self, partition: int, next_offset: int) -> None:
        """Commit the chunk in hand; before a session, this offset as it is."""

    def lag(self, partition: int) -> int:
        """How many offsets wait."""


class Owner:
    """Runs one partition's role: opens it, gives it chunks and ticks, closes it."""

    def __init__(
        self,
        partition: int,
        make: RoleFactory,
        feed: ChunkSource,
        meter: Meter,
        patience: OwnerTimeouts,
    ) -> None:
        self.partition = partition
        self.fenced = False
        self.opened = False
        self.progress = time.monotonic()
        self._feed = feed
        self._meter = meter
        self._patience = patience
        self._make = make
        self._role = make(partition, self._ack)
        self._queue: asyncio.Queue[Chunk] = asyncio.Queue(UNDER_WAY)
        self._session: int | None = None
        self._position = 0
        self._opening = False
        self._owing = False
        self._busy = False
        self._closing = False
        self._ticked = time.monotonic()
        self._task: asyncio.Task[None] | None = None

    def start(self, fail: Fail) -> None:
        self._meter.watch(self.partition, self._lag, self.age)
        self._task = asyncio.create_task(self._run(fail), name=f"owner of {self.partition}")

    def take(self, chunk: Chunk) -> None:
        """Put a chunk in the queue, unless its session is over."""
        if chunk.session == self._session:
            self._queue.put_nowait(chunk)

    async def close(self) -> None:
        """Let the chunk in hand be finished, within bounds, and close the role."""
        self._closing = True
        if self._task is None:
            return
        if self._busy:
            await asyncio.wait({self._task}, timeout=self._patience.in_hand)
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=self._patience.in_hand)
        self._meter.forget(self.partition)

    def stalled(self, bound: float) -> bool:
        """Whether records wait and no chunk was finished for longer than `bound` seconds."""
        return self.age() > bound and self._lag() > 0

    def _lag(self) -> int:
        return self._feed.lag(self.partition)

    def age(self) -> float:
        """Seconds since a chunk was finished or none waited."""
        return time.monotonic() - self.progress

    async def _run(self, fail: Fail) -> None:
        try:
            while not self._closing:
                try:
                    await self._turns()
                except Fenced as error:
                    await self._give_up(error)
                    await self._wait_for_another()
        except Exception as error:
            fail(self.partition, error)
        finally:
            self._leave()
            await self._guarded(self._role.close())

    async def _give_up(self, error: Fenced) -> None:
        self.fenced = True
        self._meter.fenced()
        logger.warning("partition %s is given up: %s", self.partition, error)
        self._leave()
        await self._guarded(self._role.close())

    async def _wait_for_another(self) -> None:
        """Being closed ends the wait: the partition has a new owner. Else a new role takes it over.

        An old owner that had not heard of its end may have fenced its successor. It hears of it
        within a session; the jitter keeps two from fencing each other by turns.
        """
        await asyncio.sleep(self._patience.fenced * random.uniform(1, 2))
        logger.warning("partition %s is still ours: it will be taken over", self.partition)
        self._role = self._make(self.partition, self._ack)
        self._owing = False
        self.fenced = False

    async def _turns(self) -> None:
        """Turn after turn; one that fails is tried again, with growing pauses."""
        try:
            while not self._closing:
                await self._turn()
        except ServerUnavailable as error:
            await self._retrying()(self._turn_after, [error])

    async def _turn_after(self, failures: list[ServerUnavailable]) -> None:
        """A turn; the first try is the one that has failed already."""
        if failures:
            raise failures.pop()
        await self._turn()

    def _retrying(self) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception_type(ServerUnavailable),
            wait=wait_random_exponential(multiplier=0.1, max=self._patience.longest_pause),
            stop=stop_after_delay(self._patience.unavailable),
            before_sleep=self._before_retry,
            reraise=True,
        )

    def _before_retry(self, state: RetryCallState) -> None:
        self._leave()
        self._meter.retried()
        if state.attempt_number == 1:
            reason = state.outcome.exception() if state.outcome else None
            logger.warning("partition %s will be opened again: %s", self.partition, reason)

    async def _turn(self) -> None:
        """One chunk or one tick; where a chunk failed before, no end without a chunk."""
        if not self.opened:
            await self._guarded(self._open())
        while not self._closing:
            chunk = await self._next()
            if chunk:
                await self._guarded(self._chunk(chunk))
                return
            await self._guarded(self._tick())
            if not self._owing:
                return

    async def _guarded(self, work: Awaitable[None]) -> None:
        """Work that a closing waits for."""
        self._busy = True
        try:
            await work
        finally:
            self._busy = False

    async def _open(self) -> None:
        self._opening = True
        try:
            self._position = await self._role.open()
        finally:
            self._opening = False
        self._session = next(_sessions)
        self._queue = asyncio.Queue(UNDER_WAY)
        self.opened = await self._feed.start_at(self.partition, self._position, self._session)
        self._closing = self._closing or not self.opened

    def _leave(self) -> None:
        self.opened = False
        self._session = None
        self._feed.leave(self.partition)

    async def _next(self) -> Chunk | None:
        """The next chunk; None when a tick is due first."""
        left = self._ticked + self._patience.tick - time.monotonic()
        if left <= 0:
            return None
        try:
            async with asyncio.timeout(left):
                return await self._queue.get()
        except TimeoutError:
            return None

    async def _chunk(self, chunk: Chunk) -> None:
        self._owing = True
        if chunk.start != self._position:
            raise ServerUnavailable(
                f"records {self._position} to {chunk.start} were lost on the way"
            )
        records = chunk.records
        if records[0].offset < self._position:
            records = [record for record in records if record.offset >= self._position]
        began = time.monotonic()
        report = await self._role.chunk(records, chunk.next_offset) if records else ChunkReport()
        self._position = chunk.next_offset
        self._owing = False
        self.progress = time.monotonic()
        self._feed.finished(self.partition, chunk.next_offset)
        self._meter.chunk(self.progress - began, report)

    async def _tick(self) -> None:
        self._ticked = time.monotonic()
        self._meter.add(await self._role.tick())
        if self._lag() == 0:
            self.progress = time.monotonic()

    async def _ack(self, next_offset: int) -> None:
        if self.opened or self._opening:
            await self._feed.acked(self.partition, next_offset)


class Owners:
    """The owners of one app, by partition."""

    def __init__(
        self, make: RoleFactory, meter: Meter, patience: OwnerTimeouts, fail: Fail
    ) -> None:
        self._make = make
        self._meter = meter
        self._patience = patience
        self._fail = fail
        self._owners: dict[int, Owner] = {}

    def __iter__(self) -> Iterator[Owner]:
        return iter(list(self._owners.values()))

    def assign(self, feed: ChunkSource, partitions: Iterable[int]) -> None:
        """Give each partition an owner, where it has none yet."""
        for partition in sorted(set(partitions) - set(self._owners)):
            owner = Owner(partition, self._make, feed, self._meter, self._patience)
            self._owners[partition] = owner
            owner.start(self._fail)

    def all_open(self, partitions: Iterable[int]) -> bool:
        """Whether each of these has an owner that has opened it."""
        owners = [self._owners.get(partition) for partition in partitions]
        return all(owner is not None and owner.opened for owner in owners)

    def take(self, chunk: Chunk) -> None:
        """Pass a chunk to the owner of its partition."""
        if owner := self._owners.get(chunk.partition):
            owner.take(chunk)

    async def release(self) -> None:
        """Close all, each with the chunk in hand finished."""
        owners = list(self._owners.values())
        await asyncio.gather(*(owner.close() for owner in owners))
        self._owners.clear()
