"""Contract of what ends a marker decider's waits for append."""

from collections.abc import Iterable
from typing import Protocol

from eventfleet.stores.contracts import Clock


class AppendWatch(Protocol):
    """Watches for append's notices of events. A notice may be missed: the waits end without too."""

    async def expect(self, event_id: str) -> str | None:
        """Return the address to which append sends the notice of an event, its `reply_to`; None
        where nothing would receive it."""

    def has_noticed(self, event_id: str) -> bool:
        """Return whether the notice of an expected event has come."""

    def forget(self, event_ids: Iterable[str]) -> None:
        """Expect these no longer."""

    async def wait(self, seconds: float) -> None:
        """Wait so long, or until a notice comes or the lag guard has looked."""


class NoWatch:
    """An AppendWatch without notices: it waits by a clock."""

    def __init__(self, clock: Clock) -> None:
        self.wait = clock.sleep

    async def expect(self, event_id: str) -> str | None:
        return None

    def has_noticed(self, event_id: str) -> bool:
        return False

    def forget(self, event_ids: Iterable[str]) -> None:
        pass
