"""Stage notices: how roles inform those who wait for an event of its progress."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from eventfleet.stores.contracts import Disposition, DispositionKind, Notice, Stage

PREFIX = "notices:"
"""The prefix of channels, with which the `reply_to` of every awaited event begins."""


class AwaitedEvent(Protocol):
    """The part of an event that a notice needs."""

    @property
    def reply_to(self) -> str | None: ...


class StageNotifier(Protocol):
    """Receives, after a role's commit, the awaited events that have passed the role's stage."""

    def notify(
        self,
        stage: Stage,
        events: Sequence[AwaitedEvent],
        disposition: Disposition | None = None,
    ) -> None:
        """Notify those who wait for these events; with a `disposition`, that they wait in vain.

        Neither waits nor raises.
        """


class NullNotifier:
    """Notifies nobody."""

    def notify(
        self,
        stage: Stage,
        events: Sequence[AwaitedEvent],
        disposition: Disposition | None = None,
    ) -> None:
        pass


NULL_NOTIFIER = NullNotifier()


def notify_parked(
    notifier: StageNotifier,
    stage: Stage,
    role: str,
    parked: Iterable[tuple[AwaitedEvent, str]],
) -> None:
    """Notify those who wait for events that a role parks, each with the reason."""
    for event, reason in parked:
        if event.reply_to is not None:
            notifier.notify(stage, [event], Disposition(DispositionKind.PARKED, role, reason))


def reply_to(channel: str, event_id: str) -> str:
    """The `reply_to` of an event whose sender waits on a channel.

    `event_id` is the id of the command's first event, which is known before the command is
    decided; of the command's events only the last one carries it.
    """
    return f"{channel}/{event_id}"


def notices_of(
    stage: Stage, events: Iterable[AwaitedEvent], disposition: Disposition | None = None
) -> dict[str, list[Notice]]:
    """The notices of these events by channel; none for an event that nobody waits for."""
    notices: dict[str, list[Notice]] = {}
    for event in events:
        channel, _, event_id = (event.reply_to or "").rpartition("/")
        if channel.startswith(PREFIX):
            notices.setdefault(channel, []).append(Notice(event_id, stage, disposition))
    return notices
