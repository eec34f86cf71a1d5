"""Channels, in memory."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from time import monotonic

from eventfleet.stores.contracts import Claim, Incarnation
from eventfleet.stores.memory.broadcast import Broadcast
from eventfleet.stores.memory.yield_point import YieldPoint, no_yield


class MemoryChannels:
    """Channels: the server and any number of clients. `now` is its clock, in seconds.

    A server that was stopped and started begins another incarnation, without a claim.
    """

    def __init__(
        self, now: Callable[[], float] = monotonic, yield_point: YieldPoint = no_yield
    ) -> None:
        self._broadcast: Broadcast[bytes] = Broadcast()
        self._now, self._yield_point = now, yield_point
        self._run, self._began = 1, now()
        self._claims: dict[str, float] = {}
        self.publish, self.close = self._broadcast.publish, self._broadcast.close
        self.stop = self._broadcast.stop

    def start(self) -> None:
        self._run, self._began = self._run + 1, self._now()
        self._claims.clear()
        self._broadcast.start()

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[AsyncIterator[Sequence[bytes]]]:
        async with self._broadcast.subscribe(channel) as messages:
            yield ([message] async for message in messages)

    async def incarnation(self) -> Incarnation:
        await self._yield_point()
        await self.publish({})
        return Incarnation(str(self._run), self._began, self._now())

    async def claim(self, claims: Sequence[Claim]) -> list[float]:
        await self._yield_point()
        await self.publish({})
        left = [self._claim(claim) for claim in claims]
        await self._yield_point()
        return left

    def _claim(self, claim: Claim) -> float:
        left = claim.deadline - self._now()
        if left <= 0 or claim.incarnation != str(self._run) or claim.name in self._claims:
            return 0.0
        self._claims = {n: end for n, end in self._claims.items() if end > self._now()}
        self._claims[claim.name] = claim.deadline
        return left
