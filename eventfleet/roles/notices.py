"""Who waits for an event, and how each role lets them know."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from eventfleet.stores.contracts import Notice, Stage

PREFIX = "notices:"
"""Begins the `reply_to` of an event that somebody waits for; others are none of ours."""


class AwaitedEvent(Protocol):
    """An event, or what is needed of one."""

    @property
    def reply_to(self) -> str | None: ...


class StageNotifier(Protocol):
    """Where roles tell, after their commit, how far awaited events have come."""

    def notify(self, stage: Stage, events: Sequence[AwaitedEvent]) -> None:
        """Let those who wait for these events know. Neither waits nor raises."""


class NullNotifier:
    """Tells nobody."""

    def notify(self, stage: Stage, events: Sequence[AwaitedEvent]) -> None:
        pass


NULL_NOTIFIER = NullNotifier()


def reply_to(channel: str, event_id: str) -> str:
    """What an event carries of whose command somebody waits on a channel.

    `event_id` is that of the command's first event, known before it is decided; of its events only
    the last one carries it.
    """
    return f"{channel}/{event_id}"


def notices_of(stage: Stage, events: Iterable[AwaitedEvent]) -> dict[str, list[Notice]]:
    """By channel. An event that nobody waits for gives none."""
    told: dict[str, list[Notice]] = {}
    for event in events:
        channel, _, event_id = (event.reply_to or "").rpartition("/")
        if channel.startswith(PREFIX):
            told.setdefault(channel, []).append(Notice(event_id, stage))
    return told
