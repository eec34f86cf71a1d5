"""What a team imports to declare its domain."""

from domains.declaration import Domain, Event, Recorded, Route, State
from snapshot_rules import Rule, after, every, on, size
from topics.event import EventRecord

__all__ = [
    "Domain",
    "Event",
    "EventRecord",
    "Recorded",
    "Route",
    "Rule",
    "State",
    "after",
    "every",
    "on",
    "size",
]
