"""Waiting until an accepted command's event has come to a stage: told by notices, never asked.

    waited = await service.send("order-1", "Pay", {"amount": 1999}, wait=Stage.APPENDED, patience=5)
    waited.outcome, waited.stage  # Accepted(...), Stage.APPENDED: a query sees the event

To wait for `snapshotted` or `relayed` means just that one: they come in no order.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from uuid import uuid4

from eventfleet.deciders.outcomes import Accepted, Outcome, Repeated, Unavailable
from eventfleet.roles.notices import PREFIX, reply_to
from eventfleet.stores import errors
from eventfleet.stores.contracts import EventStore, Notice, Notices, Stage

AT_ONCE = 10_000
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 5.0
TO_SUBSCRIBE = 1.0
TO_LOOK = 1.0
LEAVE_SECONDS = 1.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WaitResult:
    """A command's own outcome, and the last stage that its event is known to have reached.

    Of the stages only those count that lead to the one waited for: accepted, appended, and itself.
    None where the command was not accepted.
    """

    outcome: Outcome
    stage: Stage | None


class StageWaiter:
    """One caller that waits for one event."""

    def __init__(self, wanted: Stage) -> None:
        self._wanted = wanted
        self.stage = Stage.ACCEPTED
        self._there = asyncio.Event()

    def told(self, stage: Stage) -> None:
        """What is snapshotted or relayed is appended too."""
        if stage is self._wanted or self._wanted is Stage.APPENDED:
            self.stage = self._wanted
            self._there.set()
        elif self.stage is Stage.ACCEPTED:
            self.stage = Stage.APPENDED

    async def until(self, deadline: float) -> None:
        """Until it is there, or the event loop's clock says so."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._there.wait()


class StageWaiters:
    """All that wait in one process, for events of any domain; at most AT_ONCE.

    Listens on a channel of its own from the first wait on; connects again, with growing pauses,
    for as long as the block of `at_work` lasts.
    """

    def __init__(self, notices: Notices) -> None:
        self._notices = notices
        self.channel = f"{PREFIX}{uuid4().hex}"
        self._waits: dict[str, list[StageWaiter]] = {}
        self._count = 0
        self._listening = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator["StageWaiters"]:
        try:
            yield self
        finally:
            if self._task:
                self._task.cancel()
                await asyncio.wait({self._task}, timeout=LEAVE_SECONDS)
            await self._notices.close()

    @property
    def full(self) -> bool:
        return self._count >= AT_ONCE

    async def listening(self, deadline: float) -> None:
        """Until nothing is missed any more; within the deadline and TO_SUBSCRIBE seconds."""
        if self._task is None:
            self._task = asyncio.create_task(self._listen(), name="notices")
        if not self._listening.is_set():
            soon = asyncio.get_running_loop().time() + TO_SUBSCRIBE
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(deadline, soon)):
                    await self._listening.wait()

    @contextmanager
    def expect(self, event_id: str, wanted: Stage) -> Iterator[StageWaiter]:
        """What is told of an event during the block."""
        wait = StageWaiter(wanted)
        self._waits.setdefault(event_id, []).append(wait)
        self._count += 1
        try:
            yield wait
        finally:
            self._count -= 1
            self._waits[event_id].remove(wait)
            if not self._waits[event_id]:
                del self._waits[event_id]

    async def _listen(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                async with self._notices.subscribe(self.channel) as stream:
                    self._listening.set()
                    pause = FIRST_PAUSE
                    async for notice in stream:
                        self._told(notice)
            except errors.StoreError as error:
                logger.warning("notices are missed for a while: %s", error)
            finally:
                self._listening.clear()
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, LONGEST_PAUSE)

    def _told(self, notice: Notice) -> None:
        for wait in self._waits.get(notice.event_id, ()):
            wait.told(notice.stage)


class CommandFollower:
    """Follows the commands of one domain to their stages."""

    def __init__(self, synchronous: bool, store: EventStore, waiting: StageWaiters) -> None:
        self._synchronous, self._store, self._waiting = synchronous, store, waiting

    def reply_to(self, event_id: str, wanted: Stage | None) -> str | None:
        """What the events of a command carry; nothing where no notice is needed."""
        if not self._by_notice(wanted):
            return None
        return reply_to(self._waiting.channel, event_id)

    async def follow(
        self,
        event_id: str,
        wanted: Stage,
        deadline: float,
        decided: Callable[[], Awaitable[Outcome]],
    ) -> WaitResult:
        """Decide, and wait for the stage until the deadline of the event loop's clock.

        `event_id` is that of the command's first event. In the end, and for a repeat at once, the
        store has a word too.
        """
        if not self._by_notice(wanted):
            outcome = await decided()
            return WaitResult(outcome, wanted if _stands(outcome) else None)
        if self._waiting.full:
            return WaitResult(Unavailable(f"{AT_ONCE} callers wait for notices already"), None)
        await self._waiting.listening(deadline)
        with self._waiting.expect(event_id, wanted) as wait:
            outcome = await decided()
            if not _stands(outcome):
                return WaitResult(outcome, None)
            if self._synchronous or (
                isinstance(outcome, Repeated) and await self._stored(event_id)
            ):
                wait.told(Stage.APPENDED)
            await wait.until(deadline)
            if wait.stage is Stage.ACCEPTED and await self._stored(event_id):
                wait.told(Stage.APPENDED)
            return WaitResult(outcome, wait.stage)

    def _by_notice(self, wanted: Stage | None) -> bool:
        """What a synchronous domain accepts is readable at once."""
        at_once = {None, Stage.ACCEPTED} | ({Stage.APPENDED} if self._synchronous else set())
        return wanted not in at_once

    async def _stored(self, event_id: str) -> bool:
        try:
            async with asyncio.timeout(TO_LOOK):
                return event_id in await self._store.find([event_id])
        except (errors.ServerUnavailable, TimeoutError):
            return False


def _stands(outcome: Outcome) -> bool:
    return isinstance(outcome, Accepted | Repeated)
