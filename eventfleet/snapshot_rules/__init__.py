"""When to snapshot, and how to replay. Pure: takes state, evolve and events as arguments."""

from eventfleet.snapshot_rules.replay import replay
from eventfleet.snapshot_rules.rules import Rule, Since, after, every, on, size

__all__ = ["Rule", "Since", "after", "every", "on", "replay", "size"]
