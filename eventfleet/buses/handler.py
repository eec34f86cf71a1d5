"""Subscribers of a bus: functions, and objects with `handle_event`."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from eventfleet.buses.event import DocumentEvent

EventFunction = Callable[[DocumentEvent], Awaitable[None] | None]


class EventHandler(Protocol):
    """An object that handles events."""

    def handle_event(self, event: DocumentEvent) -> Awaitable[None] | None:
        """Handle an event. What it raises is retried, and kept with the dead letters in the end."""


Subscriber = EventFunction | EventHandler
