"""The contracts of event buses. Each implementation passes `tests/contract/test_event_bus.py`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import NamedTuple, Protocol, Self, runtime_checkable

from eventfleet.buses.event import DocumentEvent
from eventfleet.buses.handler import Subscriber


class KeptDelivery(NamedTuple):
    """An event that a subscription could not handle, as it lies with the bus's dead letters.

    `id` names it for `redeliver`; `group` is that of the subscription, `reason` the last error.
    `event` is None where the bus's serializer can't read `value`, the bytes on the server.
    """

    id: str
    group: str
    event: DocumentEvent | None
    reason: str
    time: datetime
    value: bytes = b""


class EventBus(Protocol):
    """Publishes events and delivers each to every group of subscribers, at least once.

    A bus that keeps nothing delivers at most once, and says so.
    """

    async def start(self) -> None:
        """Connect, and begin to deliver. The error of a start that fails says why."""

    async def stop(self) -> None:
        """Let the handlers in progress finish, within bounds, and end. The client stays open."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    async def publish(self, events: Sequence[DocumentEvent]) -> None:
        """Publish in order; returns when the server has acknowledged all.

        ServerUnavailable: some may be published; publishing all again is safe. EventRefused: the
        bus can never take one of them.
        """

    def subscribe(self, pattern: str, subscriber: Subscriber, group: str | None = None) -> None:
        """Deliver the events whose type matches, such as `UserCreated`, `User*` or `*`.

        Subscribers of one group share the events, in several processes too; each group gets them
        all. The default group is made of the subscriber's name and the pattern. DeclarationError:
        another subscriber of this bus has that group, by the same name. A subscription gets one
        event at a time, in the order of the bus; the event is its own. What a subscriber raises is
        retried some times, after growing pauses, and then kept with the dead letters: nothing
        behind it waits for an operator.
        """

    async def dead_letters(self, limit: int = 100) -> list[KeptDelivery]:
        """Return the oldest events that subscribers could not handle."""

    async def redeliver(self, kept: KeptDelivery) -> None:
        """Give an event to its group again, and take it from the dead letters."""

    async def discard(self, kept: KeptDelivery) -> None:
        """Take an event from the dead letters, for ever."""


@runtime_checkable
class ConfirmingBus(Protocol):
    """Tells how far each group has handled the events that a bus's server keeps.

    An incarnation is what the server holds from when it was empty until it loses its data. Offsets
    order the events of one incarnation. Where there was another one before, groups are made anew at
    the beginning of what the server holds.
    """

    async def incarnation(self, known: str) -> str:
        """Return the present incarnation, begun where there is none; `known` is the one that was
        published to before, or empty."""

    async def publish_in(self, incarnation: str, events: Sequence[DocumentEvent]) -> int:
        """Publish as `publish` does, and return the last event's offset.

        BusRestarted: the server holds another incarnation, and nothing is published.
        """

    async def confirmed(self, incarnation: str) -> Mapping[str, int]:
        """Return the offset up to which each group has handled all events. BusRestarted."""
