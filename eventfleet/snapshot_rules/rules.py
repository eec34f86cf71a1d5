"""Snapshot rules: they decide from what happened since the last snapshot if a new one is due.

snapshot = every(100) | after(minutes=10) | on(Closed)
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from eventfleet.topics.names import wire_name


@dataclass(frozen=True)
class SinceSnapshot:
    """The history of one aggregate since its last snapshot (or since its beginning).

    `time` is when that snapshot was taken; without a snapshot, when the oldest event came in (or,
    if that is no longer known, when it happened). `types` are the types of the events since, `size`
    is the bytes of their payloads.
    """

    version: int
    snapshot_version: int
    time: datetime
    now: datetime
    types: frozenset[str]
    size: int


class Rule:
    """A condition for a snapshot; rules combine with `|`, `&` and `~`.

    A rule of your own derives from this class and overrides `holds`. No snapshot is due without a
    new event.
    """

    #: Whether a snapshot can become due by the mere passing of time.
    needs_clock = False
    #: Whether `holds` uses `size`, which costs something for each event.
    needs_size = True
    #: Whether `holds` uses `types`, likewise.
    needs_types = True
    #: The event types that the rule names; they must be events of the domain.
    types: frozenset[str] = frozenset()
    #: The fewest events since the last snapshot that can satisfy it; fewer are not checked.
    min_events = 1

    def due(self, since: SinceSnapshot) -> bool:
        """Return whether a snapshot is due."""
        return since.version > since.snapshot_version and self.holds(since)

    def holds(self, since: SinceSnapshot) -> bool:
        """Return whether the condition holds."""
        raise NotImplementedError

    def __or__(self, other: "Rule") -> "Rule":
        return Either(self, other) if isinstance(other, Rule) else NotImplemented

    def __and__(self, other: "Rule") -> "Rule":
        return Both(self, other) if isinstance(other, Rule) else NotImplemented

    def __invert__(self) -> "Rule":
        return Not(self)


@dataclass(frozen=True)
class every(Rule):
    """`every(100)`: due once there are 100 events since the last snapshot."""

    events: int

    needs_size = False
    needs_types = False

    def __post_init__(self) -> None:
        if self.events < 1:
            raise ValueError(f"every({self.events}): the number of events must be at least 1")

    @property
    def min_events(self) -> int:  # type: ignore[override]
        return self.events

    def holds(self, since: SinceSnapshot) -> bool:
        return since.version - since.snapshot_version >= self.events


@dataclass(frozen=True)
class on(Rule):
    """`on(Closed, "Reopened")`: due after an event of one of these types (classes or names)."""

    types: frozenset[str]

    needs_size = False

    def __init__(self, *types: str | type) -> None:
        names = frozenset(map(wire_name, types))
        if not names:
            raise ValueError("on(): name at least one event type")
        object.__setattr__(self, "types", names)

    def holds(self, since: SinceSnapshot) -> bool:
        return not self.types.isdisjoint(since.types)


@dataclass(frozen=True)
class size(Rule):
    """`size(100_000)`: due once the payloads since the last snapshot have 100,000 bytes in all."""

    bytes: int

    needs_types = False

    def __post_init__(self) -> None:
        if self.bytes < 1:
            raise ValueError(f"size({self.bytes}): the number of bytes must be at least 1")

    def holds(self, since: SinceSnapshot) -> bool:
        return since.size >= self.bytes


@dataclass(frozen=True)
class Age(Rule):
    """Due once the last snapshot is this old; without a snapshot, the oldest event."""

    age: timedelta

    needs_clock = True
    needs_size = False
    needs_types = False

    def holds(self, since: SinceSnapshot) -> bool:
        return since.now - since.time >= self.age


def after(*, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> Rule:
    """`after(minutes=10)`: due once the last snapshot is ten minutes old.

    Without a snapshot, once the oldest event is.
    """
    age = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if age <= timedelta():
        raise ValueError(f"after: the age must be above zero and is {age}")
    return Age(age)


@dataclass(frozen=True)
class Pair(Rule):
    """Base of two rules combined."""

    left: Rule
    right: Rule

    @property
    def needs_clock(self) -> bool:  # type: ignore[override]
        return self.left.needs_clock or self.right.needs_clock

    @property
    def needs_size(self) -> bool:  # type: ignore[override]
        return self.left.needs_size or self.right.needs_size

    @property
    def needs_types(self) -> bool:  # type: ignore[override]
        return self.left.needs_types or self.right.needs_types

    @property
    def types(self) -> frozenset[str]:  # type: ignore[override]
        return self.left.types | self.right.types


@dataclass(frozen=True)
class Either(Pair):
    """`a | b`: due when one of two rules holds."""

    @property
    def min_events(self) -> int:  # type: ignore[override]
        return min(self.left.min_events, self.right.min_events)

    def holds(self, since: SinceSnapshot) -> bool:
        return self.left.holds(since) or self.right.holds(since)


@dataclass(frozen=True)
class Both(Pair):
    """`a & b`: due when both rules hold."""

    @property
    def min_events(self) -> int:  # type: ignore[override]
        return max(self.left.min_events, self.right.min_events)

    def holds(self, since: SinceSnapshot) -> bool:
        return self.left.holds(since) and self.right.holds(since)


@dataclass(frozen=True)
class Not(Rule):
    """`~a`: due, given a new event, while a rule does not hold."""

    rule: Rule

    @property
    def needs_clock(self) -> bool:  # type: ignore[override]
        return self.rule.needs_clock

    @property
    def needs_size(self) -> bool:  # type: ignore[override]
        return self.rule.needs_size

    @property
    def needs_types(self) -> bool:  # type: ignore[override]
        return self.rule.needs_types

    @property
    def types(self) -> frozenset[str]:  # type: ignore[override]
        return self.rule.types

    def holds(self, since: SinceSnapshot) -> bool:
        return not self.rule.holds(since)
