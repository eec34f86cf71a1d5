"""NoticeWatch: ends a marker decider's waits for append by its notices."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from eventfleet.roles.notices import reply_to
from eventfleet.service.stage_waiter import SUBSCRIBE_SECONDS, StageWaiters
from eventfleet.stores.contracts import Disposition, Stage


class NoticeWatch:
    """AppendWatch over the notices of this process."""

    def __init__(self, waiters: StageWaiters) -> None:
        self._waiters = waiters
        self._expected: dict[str, ExpectedNotice] = {}
        self._noticed: set[str] = set()
        self._woken = asyncio.Event()

    async def expect(self, event_id: str) -> str | None:
        if self._waiters.full:
            return None
        await self._waiters.subscribe(asyncio.get_running_loop().time() + SUBSCRIBE_SECONDS)
        if event_id not in self._expected:
            self._expected[event_id] = expected = ExpectedNotice(self, event_id)
            self._waiters.add(event_id, expected)
        return reply_to(self._waiters.channel, event_id)

    def has_noticed(self, event_id: str) -> bool:
        return event_id in self._noticed

    def forget(self, event_ids: Iterable[str]) -> None:
        for event_id in event_ids if self._expected else ():
            if expected := self._expected.pop(event_id, None):
                self._waiters.remove(event_id, expected)
                self._noticed.discard(event_id)

    def note(self, event_id: str) -> None:
        """Note that a notice has come."""
        self._noticed.add(event_id)
        self.wake()

    def wake(self) -> None:
        """End the waits."""
        self._woken.set()

    async def wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        self._woken.clear()


class ExpectedNotice(NamedTuple):
    """The receiver of an event's notices."""

    watch: NoticeWatch
    event_id: str

    def notify(self, stage: Stage, disposition: Disposition | None = None) -> None:
        self.watch.note(self.event_id)
