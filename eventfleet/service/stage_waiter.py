"""StageWaiter: waits until an accepted command's event has come to a stage, by notices alone.

    waited = await service.send("order-1", Pay(amount=1999), wait=Stage.APPENDED, patience=5)
    waited.outcome, waited.stage  # Accepted(...), Stage.APPENDED: a query sees the event

`snapshotted`, `relayed` and `projected` come in no order: each is waited for by itself.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol
from uuid import uuid4

from eventfleet.deciders.outcomes import Accepted, Outcome, Repeated, Unavailable
from eventfleet.roles.notices import PREFIX, reply_to
from eventfleet.service.dispositions import Dispositions
from eventfleet.stores import errors
from eventfleet.stores.background_task import BackgroundTask
from eventfleet.stores.contracts import (
    Disposition,
    DispositionKind,
    EventStore,
    Notices,
    Stage,
)
from eventfleet.topics.event import EventKey

MAX_WAITERS = 10_000
SUBSCRIBE_SECONDS = 1.0
LOOKUP_SECONDS = 1.0
APPEND = "append"
REPEAT_SECONDS = 1.0
"""The longest wait for a repeat's later stages: their notices may have come long ago."""


@dataclass(frozen=True)
class WaitResult:
    """A command's outcome, and the last stage that its event is known to have reached.

    Only the stages that lead to the wanted one count: accepted, appended, and itself. None where
    the command was not accepted. With a `disposition` the event does not reach the wanted stage by
    itself: it is parked, discarded, superseded or unreadable.
    """

    outcome: Outcome
    stage: Stage | None
    disposition: Disposition | None = None


class StageWaiter:
    """A caller that waits for one event."""

    def __init__(self, wanted: Stage) -> None:
        self._wanted = wanted
        self.stage = Stage.ACCEPTED
        self.disposition: Disposition | None = None
        self._reached = asyncio.Event()

    def notify(self, stage: Stage, disposition: Disposition | None = None) -> None:
        """Take note of a stage; an event that is past another role is appended too.

        Take note of a disposition instead, where the stage leads to the wanted one.
        """
        if disposition:
            if stage in (Stage.APPENDED, self._wanted) and not self.has_reached:
                self.disposition = disposition
                self._reached.set()
            if disposition.role != APPEND:
                self._pass_append()
        elif stage is self._wanted or self._wanted is Stage.APPENDED:
            self.stage, self.disposition = self._wanted, None
            self._reached.set()
        else:
            self._pass_append()

    def _pass_append(self) -> None:
        if self.stage is Stage.ACCEPTED and self._wanted is not Stage.APPENDED:
            self.stage = Stage.APPENDED

    @property
    def has_reached(self) -> bool:
        return self.stage is self._wanted

    def doubt(self) -> None:
        """Forget the disposition, and wait on."""
        self.disposition = None
        if not self.has_reached:
            self._reached.clear()

    async def wait(self, deadline: float) -> None:
        """Wait for the wanted stage, until the deadline of the event loop's clock."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._reached.wait()


class NoticeReceiver(Protocol):
    """Takes note of an event's notices."""

    def notify(self, stage: Stage, disposition: Disposition | None = None) -> None: ...


class StageWaiters:
    """The StageWaiters of one process, for events of any domain; at most MAX_WAITERS.

    Subscribes to a channel of its own at the first wait; subscribes again, with growing pauses,
    for as long as the block of `running` lasts.
    """

    def __init__(self, notices: Notices) -> None:
        self._notices = notices
        self.channel = f"{PREFIX}{uuid4().hex}"
        self._waiters: dict[str, list[NoticeReceiver]] = {}
        self._count = 0
        self._subscribed = asyncio.Event()
        self._listener = BackgroundTask("the listener for notices", self._receive)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["StageWaiters"]:
        try:
            yield self
        finally:
            await self._listener.end()
            await self._notices.close()

    @property
    def full(self) -> bool:
        return self._count >= MAX_WAITERS

    async def subscribe(self, deadline: float) -> None:
        """Wait until notices are received, for SUBSCRIBE_SECONDS at most and not past the
        deadline."""
        self._listener.start()
        if not self._subscribed.is_set():
            soon = asyncio.get_running_loop().time() + SUBSCRIBE_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(deadline, soon)):
                    await self._subscribed.wait()

    @contextmanager
    def waiter(self, event_id: str, wanted: Stage) -> Iterator[StageWaiter]:
        """A waiter that gets the notices of an event during the block."""
        waiter = StageWaiter(wanted)
        self.add(event_id, waiter)
        try:
            yield waiter
        finally:
            self.remove(event_id, waiter)

    def add(self, event_id: str, receiver: NoticeReceiver) -> None:
        """Pass the notices of an event on to a receiver, until it is removed."""
        self._waiters.setdefault(event_id, []).append(receiver)
        self._count += 1

    def remove(self, event_id: str, receiver: NoticeReceiver) -> None:
        self._count -= 1
        self._waiters[event_id].remove(receiver)
        if not self._waiters[event_id]:
            del self._waiters[event_id]

    async def _receive(self) -> None:
        """Pass notices on until the subscription ends, which is a failure: some may be missed."""
        try:
            async with self._notices.subscribe(self.channel) as stream:
                self._subscribed.set()
                self._listener.report_well()
                async for notice in stream:
                    for waiter in self._waiters.get(notice.event_id, ()):
                        waiter.notify(notice.stage, notice.disposition)
        finally:
            self._subscribed.clear()
        raise errors.ServerUnavailable("the subscription has ended")


class CommandFollower:
    """Follows the commands of one domain to their stages."""

    def __init__(
        self,
        synchronous: bool,
        store: EventStore,
        waiters: StageWaiters,
        dispositions: Dispositions | None = None,
    ) -> None:
        self._synchronous, self._waiters = synchronous, waiters
        self._dispositions = dispositions or Dispositions(store)

    def reply_to(self, event_id: str, wanted: Stage) -> str | None:
        """The address for notices, which the command's events carry; None where none is needed."""
        if not self._needs_notice(wanted):
            return None
        return reply_to(self._waiters.channel, event_id)

    async def follow(
        self,
        key: EventKey,
        wanted: Stage,
        deadline: float,
        decide: Callable[[], Awaitable[Outcome]],
    ) -> WaitResult:
        """Decide, and wait for the stage until the deadline of the event loop's clock.

        `key` is that of the command's first event. The stores are looked up for it at the deadline,
        and for a repeat at once. The wait ends early where the event is parked or the like.
        """
        if not self._needs_notice(wanted):
            return await self._decide_only(key, wanted, decide)
        if self._waiters.full:
            reason = f"{MAX_WAITERS} callers already wait for notices"
            return WaitResult(Unavailable(reason), None)
        await self._waiters.subscribe(deadline)
        with self._waiters.waiter(key.event_id, wanted) as waiter:
            outcome = await decide()
            if not _is_accepted(outcome):
                return WaitResult(outcome, None)
            if self._synchronous:
                waiter.notify(Stage.APPENDED)
            if isinstance(outcome, Repeated):
                await self._look_up(key, wanted, waiter, outcome)
                if waiter.stage is Stage.APPENDED:
                    deadline = min(deadline, _in(REPEAT_SECONDS))
            await waiter.wait(deadline)
            if waiter.disposition and waiter.disposition.kind is DispositionKind.SUPERSEDED:
                await self._make_sure(key, wanted, waiter, outcome)
            elif not waiter.disposition and not waiter.has_reached:
                await self._look_up(key, wanted, waiter, outcome)
            return WaitResult(outcome, waiter.stage, waiter.disposition)

    async def _decide_only(
        self, key: EventKey, wanted: Stage, decide: Callable[[], Awaitable[Outcome]]
    ) -> WaitResult:
        """Decide where the answer says that the stage is reached, but of repeats."""
        outcome = await decide()
        if not _is_accepted(outcome):
            return WaitResult(outcome, None)
        if wanted is Stage.ACCEPTED or not isinstance(outcome, Repeated):
            return WaitResult(outcome, wanted)
        waiter = StageWaiter(wanted)
        await self._look_up(key, wanted, waiter, outcome)
        if waiter.disposition:
            return WaitResult(outcome, Stage.ACCEPTED, waiter.disposition)
        return WaitResult(outcome, wanted)

    async def _make_sure(
        self, key: EventKey, wanted: Stage, waiter: StageWaiter, outcome: Outcome
    ) -> None:
        """Wait on for a moment: the event may have been written once more, and that be placed."""
        superseded = waiter.disposition
        waiter.doubt()
        await waiter.wait(_in(REPEAT_SECONDS))
        if not waiter.has_reached:
            await self._look_up(key, wanted, waiter, outcome)
        if waiter.stage is Stage.ACCEPTED and not waiter.disposition:
            waiter.disposition = superseded

    def _needs_notice(self, wanted: Stage) -> bool:
        """Events that a synchronous domain accepts are stored, so readable at once."""
        at_once = (Stage.ACCEPTED, Stage.APPENDED) if self._synchronous else (Stage.ACCEPTED,)
        return wanted not in at_once

    async def _look_up(
        self, key: EventKey, wanted: Stage, waiter: StageWaiter, outcome: Outcome
    ) -> None:
        """Notify a waiter of what the stores have of its event."""
        version = outcome.version if isinstance(outcome, Accepted | Repeated) else 0
        with suppress(errors.ServerUnavailable, TimeoutError):
            async with asyncio.timeout(LOOKUP_SECONDS):
                stage, disposition = await self._dispositions.find(key, wanted, version)
                if stage is Stage.APPENDED:
                    waiter.notify(stage)
                if disposition:
                    waiter.notify(wanted, disposition)


def _in(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


def _is_accepted(outcome: Outcome) -> bool:
    return isinstance(outcome, Accepted | Repeated)
