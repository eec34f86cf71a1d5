"""Snapshot rules: what has happened since the last snapshot decides whether a new one is due."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True)
class SinceSnapshot:
    """What happened to one aggregate since its last snapshot (or since its beginning).

    `time` is when that snapshot was taken; without one, when the oldest event came in (or, if that
    is not known any more, when it happened). `types` and `size` are of the events since: their
    types, and their payloads' bytes.
    """

    version: int
    snapshot_version: int
    time: datetime
    now: datetime
    types: frozenset[str]
    size: int


class Rule:
    """A condition on `SinceSnapshot`; combine with `|`, `&` and `~`.

    No snapshot is due without a new event.
    """

    #: Whether the mere passing of time can make it due.
    needs_clock = False
    #: Whether it looks at `size`, which costs something for each event.
    needs_size = True
    #: Whether it looks at `types`, likewise.
    needs_types = True
    #: The event types that it names.
    types: frozenset[str] = frozenset()
    #: The fewest events since the last snapshot with which it can be due: with less, nobody asks.
    min_events = 1

    def due(self, since: SinceSnapshot) -> bool:
        return since.version > since.snapshot_version and self.holds(since)

    def holds(self, since: SinceSnapshot) -> bool:
        raise NotImplementedError

    def __or__(self, other: "Rule") -> "Rule":
        return Either(self, other) if isinstance(other, Rule) else NotImplemented

    def __and__(self, other: "Rule") -> "Rule":
        return Both(self, other) if isinstance(other, Rule) else NotImplemented

    def __invert__(self) -> "Rule":
        return Not(self)


@dataclass(frozen=True)
class every(Rule):
    """Due after `events` further events."""

    events: int

    needs_size = False
    needs_types = False

    def __post_init__(self) -> None:
        if self.events < 1:
            raise ValueError(f"every: {self.events} events, at least 1 is needed")

    @property
    def min_events(self) -> int:  # type: ignore[override]
        return self.events

    def holds(self, since: SinceSnapshot) -> bool:
        return since.version - since.snapshot_version >= self.events


@dataclass(frozen=True)
class on(Rule):
    """Due after an event of one of these types (names or payload classes)."""

    types: frozenset[str]

    needs_size = False

    def __init__(self, *types: str | type) -> None:
        names = frozenset(t if isinstance(t, str) else t.__name__ for t in types)
        if not names:
            raise ValueError("on: at least one event type is needed")
        object.__setattr__(self, "types", names)

    def holds(self, since: SinceSnapshot) -> bool:
        return not self.types.isdisjoint(since.types)


@dataclass(frozen=True)
class size(Rule):
    """Due once the payloads since the last snapshot have this many bytes."""

    bytes: int

    needs_types = False

    def __post_init__(self) -> None:
        if self.bytes < 1:
            raise ValueError(f"size: {self.bytes} bytes, at least 1 is needed")

    def holds(self, since: SinceSnapshot) -> bool:
        return since.size >= self.bytes


@dataclass(frozen=True)
class After(Rule):
    """Due once the last snapshot, or the oldest event without one, is this old."""

    age: timedelta

    needs_clock = True
    needs_size = False
    needs_types = False

    def holds(self, since: SinceSnapshot) -> bool:
        return since.now - since.time >= self.age


def after(*, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> Rule:
    """Due once the last snapshot, or the oldest event without one, is this old."""
    age = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if age <= timedelta():
        raise ValueError(f"after: {age} is not a time to wait")
    return After(age)


@dataclass(frozen=True)
class Pair(Rule):
    """Two rules, combined."""

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
    @property
    def min_events(self) -> int:  # type: ignore[override]
        return min(self.left.min_events, self.right.min_events)

    def holds(self, since: SinceSnapshot) -> bool:
        return self.left.holds(since) or self.right.holds(since)


@dataclass(frozen=True)
class Both(Pair):
    @property
    def min_events(self) -> int:  # type: ignore[override]
        return max(self.left.min_events, self.right.min_events)

    def holds(self, since: SinceSnapshot) -> bool:
        return self.left.holds(since) and self.right.holds(since)


@dataclass(frozen=True)
class Not(Rule):
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
