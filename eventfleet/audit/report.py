"""The report of an audit."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple


class Violation(NamedTuple):
    """An invariant (1 to 4, see docs/architecture.md) that an aggregate violates, and how."""

    invariant: int
    aggregate_id: str
    fault: str


@dataclass
class AuditReport:
    """Counts and violations of one domain. `oldest`: each partition's oldest offset, by topic."""

    domain: str
    stored: int = 0
    aggregates: int = 0
    snapshots: int = 0
    relayed: int = 0
    dead_letters: int = 0
    superseded: int = 0
    violations: list[Violation] = field(default_factory=list)
    oldest: dict[str, dict[int, int]] = field(default_factory=dict)

    def add(self, invariant: int, aggregate_id: str, fault: str) -> None:
        """Add a violation."""
        self.violations.append(Violation(invariant, aggregate_id, fault))

    def add_all(self, invariant: int, aggregate_id: str, faults: Iterable[str]) -> None:
        """Add a violation for each fault."""
        for fault in faults:
            self.add(invariant, aggregate_id, fault)

    @property
    def clean(self) -> bool:
        """True when there is no violation."""
        return not self.violations
