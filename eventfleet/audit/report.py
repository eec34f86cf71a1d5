"""The report of an audit: what was counted, found, explained and not judged."""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from eventfleet.audit.repairs import describe_repair
from eventfleet.stores.contracts import Repair

MAX_LISTED = 1000
"""The most findings of each class that a report lists; all are counted."""


class Violation(NamedTuple):
    """An invariant (1 to 5, see docs/architecture.md) that an aggregate violates, and how."""

    invariant: int
    aggregate_id: str
    fault: str


class Observation(NamedTuple):
    """A finding that violates no invariant: its kind, the topic or aggregate, and the details."""

    kind: str
    subject: str
    detail: str


@dataclass
class AuditReport:
    """Counts and findings of one domain.

    `violations`: broken invariants. `problems`: what stops or endangers a role, or was refused:
    events that the present code can't read, missing topics, unreadable dead letters. `explained`:
    what would be a violation, but for an operator's repair of the store. `information`: needs no
    one to act. `unjudged`: how many events or records were not judged, by reason. `counts`: all
    findings by class, of which the lists have up to MAX_LISTED each. `oldest`: each partition's
    oldest offset, by topic. `rows`: the rows of views and totals that were compared.
    """

    domain: str
    stored: int = 0
    aggregates: int = 0
    snapshots: int = 0
    relayed: int = 0
    dead_letters: int = 0
    superseded: int = 0
    rows: int = 0
    violations: list[Violation] = field(default_factory=list)
    problems: list[Observation] = field(default_factory=list)
    explained: list[Observation] = field(default_factory=list)
    information: list[Observation] = field(default_factory=list)
    unjudged: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    oldest: dict[str, dict[int, int]] = field(default_factory=dict)

    def violate(self, invariant: int, aggregate_id: str, fault: str) -> None:
        """Add a violation."""
        self.counts["violations"] += 1
        if len(self.violations) < MAX_LISTED:
            self.violations.append(Violation(invariant, aggregate_id, fault))

    def violate_unless(
        self, repair: Repair | None, invariant: int, aggregate_id: str, fault: str
    ) -> None:
        """Add a violation, or an explained finding where a repair of the store explains it."""
        if repair is None:
            self.violate(invariant, aggregate_id, fault)
        else:
            self.explain(repair, aggregate_id, fault)

    def explain(self, repair: Repair, aggregate_id: str, fault: str) -> None:
        """Add what a repair of the store explains."""
        self._add(
            "explained",
            repair.kind,
            aggregate_id,
            f"{fault}: explained by {describe_repair(repair)}",
        )

    def add_problem(self, kind: str, subject: str, detail: str) -> None:
        """Add a problem."""
        self._add("problems", kind, subject, detail)

    def inform(self, kind: str, subject: str, detail: str) -> None:
        """Add information."""
        self._add("information", kind, subject, detail)

    def count_unjudged(self, reason: str, count: int = 1) -> None:
        """Count what is not judged, by reason."""
        if count:
            self.unjudged[reason] += count

    def sort(self) -> None:
        """Sort the lists."""
        self.violations.sort()
        for findings in (self.problems, self.explained, self.information):
            findings.sort()

    @property
    def clean(self) -> bool:
        """True when there is neither a violation nor a problem."""
        return not (self.violations or self.problems)

    def _add(self, finding_class: str, kind: str, subject: str, detail: str) -> None:
        self.counts[finding_class] += 1
        findings: list[Observation] = getattr(self, finding_class)
        if len(findings) < MAX_LISTED:
            findings.append(Observation(kind, subject, detail))
