"""ServerTime: moments of this process in the time of the channels' server."""

import asyncio
from typing import NamedTuple

from eventfleet.stores.contracts import Channels, Incarnation

LOOK_SECONDS = 1.0
"""How long a look at the server's clock counts."""


class ServerMoment(NamedTuple):
    """A time of the server's clock in one of its incarnations (its id), in seconds."""

    incarnation: str
    time: float


class ClockReading(NamedTuple):
    """An incarnation and its time, and when the answer was here, by the event loop's clock."""

    incarnation: Incarnation
    answered_at: float


class ServerTime:
    """Converts moments to the server's time, by a look at its clock now and then."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._look: ClockReading | None = None
        self._looking = asyncio.Lock()

    def forget(self) -> None:
        """Look anew: the server may be another one by now."""
        self._look = None

    async def at(self, moment: float) -> ServerMoment:
        """The server's time at a moment of the event loop's clock, or a little before it.

        ServerUnavailable.
        """
        async with self._looking:
            look, loop = self._look, asyncio.get_running_loop()
            if look is None or loop.time() - look.answered_at > LOOK_SECONDS:
                incarnation = await self._channels.incarnation()
                look = self._look = ClockReading(incarnation, loop.time())
        passed = moment - look.answered_at
        return ServerMoment(look.incarnation.id, look.incarnation.now + passed)
