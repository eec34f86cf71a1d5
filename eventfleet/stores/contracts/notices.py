"""Contract of the notices to those who wait for events."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import NamedTuple, Protocol


class Stage(StrEnum):
    """A stage that an accepted event reaches; of the last three, none comes before another.

    Appended: readable from the store. Snapshotted: folded by the snapshot role, whether or not a
    snapshot was due. Relayed: relay's commit is past it, whether or not a route matched. Projected:
    the domain's views, as queries read them, have it.
    """

    ACCEPTED = "accepted"
    APPENDED = "appended"
    SNAPSHOTTED = "snapshotted"
    RELAYED = "relayed"
    PROJECTED = "projected"


class DispositionKind(StrEnum):
    """Why an event does not reach a stage by itself.

    Parked: it waits for a redrive. Discarded: an operator has decided that the role passes over it.
    Superseded: another event was stored in its place. Unreadable: append can't read its record,
    which is a dead letter.
    """

    PARKED = "parked"
    DISCARDED = "discarded"
    SUPERSEDED = "superseded"
    UNREADABLE = "unreadable"


class Disposition(NamedTuple):
    """The outcome of an event that a role does not bring to its stage, and why, if known."""

    kind: DispositionKind
    role: str
    reason: str = ""


class Notice(NamedTuple):
    """A notice that an event has reached a stage; with a `disposition`, that it does not."""

    event_id: str
    stage: Stage
    disposition: Disposition | None = None


class Notices(Protocol):
    """Publishes notices to those who wait for events, by channel.

    Nothing is kept: a subscriber that is away, or too slow, misses notices.
    """

    async def publish(self, notices: Mapping[str, Sequence[Notice]]) -> None:
        """Publish each channel's notices in order; in all, few enough for memory.

        After ServerUnavailable some of them may have been published.
        """

    def subscribe(self, channel: str) -> AbstractAsyncContextManager[AsyncIterator[Notice]]:
        """Stream what is published on the channel from the block's beginning on.

        The stream ends with ServerUnavailable when it may have missed a notice, also where the
        server merely fell silent; subscribe again then.
        """

    async def close(self) -> None:
        """Release the publishing connections. Never raises."""
