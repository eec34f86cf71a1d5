"""What an audit found."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple


class Violation(NamedTuple):
    """One broken invariant (1 to 4, see docs/architecture.md) of one aggregate."""

    invariant: int
    aggregate_id: str
    fault: str


@dataclass
class AuditReport:
    """Counts and violations of one domain. `oldest`: the first offset read of each partition."""

    domain: str
    stored: int = 0
    aggregates: int = 0
    snapshots: int = 0
    relayed: int = 0
    dead_letters: int = 0
    superseded: int = 0
    violations: list[Violation] = field(default_factory=list)
    oldest: dict[str, dict[int, int]] = field(default_factory=dict)

    def fault(self, invariant: int, aggregate_id: str, fault: str) -> None:
        self.violations.append(Violation(invariant, aggregate_id, fault))

    def faults(self, invariant: int, aggregate_id: str, faults: Iterable[str]) -> None:
        for fault in faults:
            self.fault(invariant, aggregate_id, fault)

    @property
    def clean(self) -> bool:
        return not self.violations
