"""Contract of the snapshot store."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from eventfleet.model.shapes import StateShape


@dataclass(frozen=True)
class Snapshot:
    """The state of an aggregate at a version. `taken_at` is when it was saved.

    `state_version` and `fingerprint` are the shape of the state. The fingerprint "", which no
    domain has, stands for a snapshot that was written without one.
    """

    aggregate_id: str
    version: int
    state: dict[str, Any]
    state_version: int
    taken_at: datetime
    fingerprint: str = ""

    @property
    def shape(self) -> StateShape:
        """The shape of the state."""
        return StateShape(self.state_version, self.fingerprint)


class ShapeCount(NamedTuple):
    """How many snapshots of a shape are stored; `aggregate_id` is that of one of them."""

    shape: StateShape
    snapshots: int
    aggregate_id: str


class SnapshotStore(Protocol):
    """The last snapshots of each aggregate of one domain, by the shape of their states.

    A snapshot of another shape is no snapshot. K of each shape are kept, of two shapes of an
    aggregate: the one saved last, and the other one with the highest version. So old code finds its
    own snapshots when it is restored, and those of shapes before that go.
    """

    async def prepare(self) -> None:
        """Create and verify the indexes. Misconfigured names one that is missing or too weak."""

    async def clear(self) -> None:
        """Remove all snapshots of the domain."""

    async def save(self, snapshots: Sequence[Snapshot]) -> None:
        """Save all in one bulk, and keep the last K snapshots of each aggregate and shape.

        A snapshot that exists already (same aggregate, version and shape) stays as it is. A
        snapshot older than those kept of its shape does not change what `latest` returns.
        """

    async def latest(
        self, aggregate_ids: Collection[str], shape: StateShape
    ) -> dict[str, Snapshot]:
        """Return the newest snapshot of this shape of each aggregate that has one.

        One query for all.
        """

    async def at(self, aggregate_id: str, version: int, shape: StateShape) -> Snapshot | None:
        """Return the newest snapshot of this shape at or below a version."""

    async def count(self) -> int:
        """Count the aggregates that have a snapshot."""

    async def shapes(self) -> list[ShapeCount]:
        """Count the stored snapshots by their shape, in the order of the shapes."""
