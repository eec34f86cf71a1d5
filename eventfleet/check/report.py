"""The report of a check: what was read, and a finding for each thing that does not fit."""

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from enum import StrEnum

MAX_LISTED = 1000
"""The most findings that a report lists; all are counted."""


class Kind(StrEnum):
    """The subject of a finding."""

    SERVER = "server"
    TOPIC = "topic"
    PARTITIONS = "partitions"
    STORE = "store"
    GROUP = "group"
    LINE = "line"
    VERSION = "version"
    EVENT = "event"
    EVENT_TYPE = "event-type"
    EVENT_SHAPE = "event-shape"
    SCHEMA_VERSION = "schema-version"
    UPCASTER = "upcaster"
    EVOLVE = "evolve"
    STATE = "state"
    STATE_SHAPE = "state-shape"
    SNAPSHOT = "snapshot"


@dataclass(frozen=True, order=True)
class Finding:
    """Something that does not fit: its kind, where it is, the details, and what to do.

    `count` says in how many `unit` it was found; `aggregate_id` and `version` are those of the
    first event or snapshot, empty and 0 where it is about none.
    """

    kind: Kind
    where: str
    detail: str
    advice: str
    count: int = 1
    unit: str = ""
    aggregate_id: str = ""
    version: int = 0

    def __str__(self) -> str:
        parts = [f"[{self.kind}] {self.where}: {self.detail}", self._occurrences(), self.advice]
        return "; ".join(filter(None, parts))

    def _occurrences(self) -> str:
        if not self.unit:
            return ""
        first = f", the first {self.aggregate_id!r}" if self.aggregate_id else ""
        version = f" version {self.version}" if self.version else ""
        return count_of(self.count, self.unit) + first + version


@dataclass
class CheckReport:
    """Findings and counts of one domain.

    `stored`: how many events there were to read, 0 where it is not known. `aggregates` and `events`
    were folded, `snapshots` compared with the folded states. `notes`: what leaves a check clean, or
    was not checked, and how often.
    """

    domain: str
    stored: int = 0
    aggregates: int = 0
    events: int = 0
    snapshots: int = 0
    counts: Counter[Kind] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    _findings: dict[Hashable, Finding] = field(default_factory=dict)

    @property
    def findings(self) -> list[Finding]:
        """The findings, sorted; up to MAX_LISTED of them."""
        return sorted(self._findings.values())

    @property
    def clean(self) -> bool:
        """True when nothing was found."""
        return not self.counts

    def add(self, finding: Finding, key: Hashable = None) -> None:
        """Add a finding; one of the same kind, place and key (else: detail) only counts again."""
        same = finding.kind, finding.where, finding.detail if key is None else key
        if known := self._findings.get(same):
            self._findings[same] = replace(known, count=known.count + finding.count)
            return
        self.counts[finding.kind] += 1
        if len(self._findings) < MAX_LISTED:
            self._findings[same] = finding

    def note(self, text: str, count: int = 1) -> None:
        """Count what is no finding."""
        if count:
            self.notes[text] += count


ShowProgress = Callable[[CheckReport], None]
"""Called now and then with the report so far."""


def count_of(number: int, unit: str) -> str:
    """Return a number with its unit, which is given in the plural."""
    return f"{number:,} {unit.removesuffix('s') if number == 1 else unit}"
