"""Snapshot rules and replay. Pure: state, evolve and events are arguments."""

from eventfleet.snapshot_rules.replay import replay
from eventfleet.snapshot_rules.rules import Rule, SinceSnapshot, after, every, on, size

__all__ = ["Rule", "SinceSnapshot", "after", "every", "on", "replay", "size"]
