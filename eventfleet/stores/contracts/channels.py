"""Contract of the channels that processes talk to each other over."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from eventfleet.stores.contracts.markers import Incarnation


class Claim(NamedTuple):
    """A claim of work by its name, until `deadline`, in seconds of the clock of one incarnation of
    the server (its id)."""

    name: str
    incarnation: str
    deadline: float


class Channels(Protocol):
    """Publishes messages to whoever is subscribed, by channel.

    Nothing is kept: a subscriber that is away, or too slow, misses messages.
    """

    async def publish(self, messages: Mapping[str, Sequence[bytes]]) -> None:
        """Publish each channel's messages in order; in all, few enough for memory.

        After ServerUnavailable some of them may have been published.
        """

    def subscribe(
        self, channel: str
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[bytes]]]:
        """Stream what is published on the channel from the block's beginning on, as it comes.

        The stream ends with ServerUnavailable when it may have missed a message, also where the
        server merely fell silent; subscribe again then.
        """

    async def incarnation(self) -> Incarnation:
        """Return the present incarnation of the server, and the time by its clock."""

    async def claim(self, claims: Sequence[Claim]) -> list[float]:
        """Claim each name, and return the seconds that are left until its deadline.

        0 for a name that is claimed already, and where the deadline has passed or is one of another
        incarnation: of each name one claim succeeds at most, however late others come.
        """

    async def close(self) -> None:
        """Release the connections, but for those of subscribers. Never raises."""
