"""The report of a check: what was read, and a finding for each thing that does not fit."""

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

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
    SNAPSHOT_RULE = "snapshot-rule"
    ROUTE = "route"
    VIEW = "view"
    VIEW_SHAPE = "view-shape"
    VIEW_VERSION = "view-version"
    VIEW_BUILD = "view-build"
    PARKED = "parked"


ROLES_PARK = (
    "the roles that read these events park their aggregates, and commands on them are answered "
    "Failed"
)
CONSEQUENCES = {
    Kind.TOPIC: "roles that need the topic stop",
    Kind.PARTITIONS: "workers and services refuse to start",
    Kind.STORE: "append stops at these partitions",
    Kind.GROUP: "the role stops at these partitions",
    Kind.EVENT: ROLES_PARK,
    Kind.EVENT_TYPE: ROLES_PARK,
    Kind.SCHEMA_VERSION: ROLES_PARK,
    Kind.UPCASTER: ROLES_PARK,
    Kind.EVENT_SHAPE: "workers and services refuse to start",
    Kind.EVOLVE: "snapshot parks these aggregates, and commands on them are answered Failed",
    Kind.STATE: "no snapshot keeps such a state, and states are folded from older ones",
    Kind.STATE_SHAPE: "states are folded from the first event",
    Kind.SNAPSHOT: "states go on from snapshots that the code would not make",
    Kind.SNAPSHOT_RULE: "snapshot parks these aggregates",
    Kind.ROUTE: "relay parks the aggregates of these events",
    Kind.VIEW: (
        "project parks these aggregates in the view's build: their rows are left out, and a build "
        "of a new version does not go live"
    ),
    Kind.VIEW_SHAPE: "project stops at every partition",
    Kind.VIEW_VERSION: "project does not keep the view, and queries of it are answered 503",
    Kind.VIEW_BUILD: "the view keeps rows of both meanings",
    Kind.PARKED: "the aggregate stays parked",
}
"""What the fleet does once the code is deployed, where a kind says so."""


@dataclass(frozen=True, order=True)
class Finding:
    """Something that does not fit: its kind, where it is, the details, and what to do.

    `count` says in how many `unit` it was found; `aggregate_id` and `version` are those of the
    first event or snapshot, empty and 0 where it is about none. `consequence` is what the fleet
    does once this is deployed: by default that of the kind.
    """

    kind: Kind
    where: str
    detail: str
    advice: str
    count: int = 1
    unit: str = ""
    aggregate_id: str = ""
    version: int = 0
    consequence: str = ""

    def __post_init__(self) -> None:
        if not self.consequence:
            object.__setattr__(self, "consequence", CONSEQUENCES.get(self.kind, ""))

    def __str__(self) -> str:
        parts = [f"[{self.kind}] {self.where}: {self.detail}", self._occurrences()]
        return "; ".join(filter(None, [*parts, self.consequence, self.advice]))

    def _occurrences(self) -> str:
        if not self.unit:
            return ""
        first = f", the first {self.aggregate_id!r}" if self.aggregate_id else ""
        version = f" version {self.version}" if self.version else ""
        return count_of(self.count, self.unit) + first + version


class ParkedOutcome(NamedTuple):
    """An aggregate that a role parks from a version on; `fault`: why this code can't handle it.

    Without a fault a redrive of it works.
    """

    role: str
    aggregate_id: str
    version: int
    fault: str


@dataclass
class CheckReport:
    """Findings and counts of one domain.

    `stored`: how many events there were to read, 0 where it is not known. `aggregates` and `events`
    were folded, `snapshots` compared with the folded states, `rows` of views with the folded ones.
    `notes`: what leaves a check clean, or was not checked, and how often. `parked`: the first
    MAX_LISTED aggregates that roles park, of the number `parked_aggregates`.
    """

    domain: str
    stored: int = 0
    aggregates: int = 0
    events: int = 0
    snapshots: int = 0
    rows: int = 0
    parked_aggregates: int = 0
    parked: list[ParkedOutcome] = field(default_factory=list)
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

    def add_parked(self, outcome: ParkedOutcome) -> None:
        """Add what a role parks."""
        self.parked_aggregates += 1
        if len(self.parked) < MAX_LISTED:
            self.parked.append(outcome)

    def note(self, text: str, count: int = 1) -> None:
        """Count what is no finding."""
        if count:
            self.notes[text] += count


ShowProgress = Callable[[CheckReport], None]
"""Called now and then with the report so far."""


def count_of(number: int, unit: str) -> str:
    """Return a number with its unit, which is given in the plural."""
    return f"{number:,} {unit.removesuffix('s') if number == 1 else unit}"
