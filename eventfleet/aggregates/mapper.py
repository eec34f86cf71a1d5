"""AggregateEventMapper: makes the published events of aggregates' stored ones."""

from eventfleet.buses.derived_event import DerivedEvent, to_published
from eventfleet.buses.event import DocumentEvent
from eventfleet.topics.event import EventRecord


class AggregateEventMapper:
    """Maps each stored event of an aggregate to one, with its type and its data as they are stored.

    A subclass overrides `map_to_events` to keep events private, to rename them or to derive others.
    """

    def map_to_events(self, aggregate_type: str, event: EventRecord) -> list[DerivedEvent]:
        """Return what subscribers get of a stored event, in order; nothing is allowed too."""
        return [self.default_event(aggregate_type, event)]

    def default_event(self, aggregate_type: str, event: EventRecord) -> DerivedEvent:
        """Return the default event: that of the stored one's own type."""
        return DerivedEvent(event.type, aggregate_type, event.data)


def published_aggregate_events(
    mapper: AggregateEventMapper, aggregate_type: str, event: EventRecord
) -> list[DocumentEvent]:
    """Return what is published of a stored event of an aggregate."""
    return to_published(
        mapper.map_to_events(aggregate_type, event),
        event.type,
        stored_id=event.id,
        aggregate_id=event.aggregate_id,
        version=event.version,
        timestamp=event.time,
    )
