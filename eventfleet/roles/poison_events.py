"""PoisonEvents: the events of a chunk that code of the domain raises on."""

from typing import NamedTuple

from eventfleet.model.views import ProjectedEvent


class RaisedOn(NamedTuple):
    """An event, and the error that was raised on it."""

    event: ProjectedEvent
    error: Exception


class PoisonEvents(dict[str, RaisedOn]):
    """The first poison event of each aggregate that has one."""

    def add(self, event: ProjectedEvent, error: Exception) -> None:
        """Add an event, unless an earlier one of its aggregate is there."""
        known = self.get(event.aggregate_id)
        if known is None or event.version < known.event.version:
            self[event.aggregate_id] = RaisedOn(event, error)

    def covers(self, event: ProjectedEvent) -> bool:
        """Return whether an event is one of these, or follows one in its aggregate."""
        known = self.get(event.aggregate_id)
        return known is not None and event.version >= known.event.version
