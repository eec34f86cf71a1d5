"""Operators' acts that explain what would otherwise be violations."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from eventfleet.topics.event import Position


@dataclass(frozen=True)
class OperatorAct:
    """An operator's act on one partition of `<domain>.events`: a rewind or a restore.

    `epoch` is the one that the act began; what earlier epochs placed at the offsets from `start` up
    to `end` (excluded) may have been placed in a store that is not this one.
    """

    kind: str
    partition: int
    epoch: int
    start: int
    end: int
    at: datetime
    reason: str = ""

    def __str__(self) -> str:
        reason = f" ({self.reason})" if self.reason else ""
        offsets = f"offsets {self.start} to {self.end}"
        return f"the {self.kind} of partition {self.partition}, {offsets}, at {self.at}{reason}"

    def covers(self, position: Position) -> bool:
        """Return whether an earlier epoch placed something here that the act took back."""
        return position.epoch < self.epoch and self.covers_offset(
            position.partition, position.offset
        )

    def covers_offset(self, partition: int, offset: int) -> bool:
        """Return whether the offset lies in the range of the act."""
        return partition == self.partition and self.start <= offset < self.end


class OperatorActs:
    """The acts on one domain."""

    def __init__(self, acts: Sequence[OperatorAct]) -> None:
        self._acts = sorted(acts, key=lambda act: (act.epoch, act.partition, act.start))

    def __bool__(self) -> bool:
        return bool(self._acts)

    def explaining(self, position: Position) -> OperatorAct | None:
        """Return the act that explains a record with this position, or None."""
        return next((act for act in self._acts if act.covers(position)), None)

    def explaining_offset(self, partition: int, offset: int) -> OperatorAct | None:
        """Return the act that explains the fate of a record of the log, or None."""
        return next((act for act in self._acts if act.covers_offset(partition, offset)), None)

    def first_epoch(self, epoch: int) -> int:
        """Return the first epoch of the log that the given epoch uses: acts keep the log."""
        begun = {act.epoch for act in self._acts}
        while epoch in begun:
            epoch -= 1
        return epoch
