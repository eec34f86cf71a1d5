"""The repairs of a store that explain what would otherwise be violations."""

from collections.abc import Sequence

from eventfleet.stores.contracts import Repair, RepairKind
from eventfleet.topics.event import Position


class Repairs:
    """All repairs of one domain's store."""

    def __init__(self, repairs: Sequence[Repair]) -> None:
        self._rewinds = [each for each in repairs if each.kind is RepairKind.REWIND]

    def __bool__(self) -> bool:
        """Return whether there is one that may explain something."""
        return bool(self._rewinds)

    def explaining(self, position: Position) -> Repair | None:
        """Return the repair that voids a record with this position, or None."""
        return next((each for each in self._rewinds if each.voids(position)), None)

    def explaining_offset(self, partition: int, offset: int) -> Repair | None:
        """Return the repair after which append took this record of the log again, or None."""
        for repair in self._rewinds:
            taken = repair.offsets
            if partition == taken.partition and taken.first <= offset < taken.end:
                return repair
        return None

    def explaining_snapshot(self, partition: int, taken_at: float) -> Repair | None:
        """Return the repair that removed the snapshots taken at a time, or None."""
        for repair in self._rewinds:
            if partition == repair.offsets.partition and taken_at <= repair.time.timestamp():
                return repair
        return None

    def first_epoch(self, epoch: int) -> int:
        """Return the first epoch of the log that the given epoch uses: a rewind keeps the log."""
        begun = {repair.epoch for repair in self._rewinds}
        while epoch in begun:
            epoch -= 1
        return epoch


def describe_repair(repair: Repair) -> str:
    """Name a repair in findings."""
    partition, first, end = repair.offsets
    where = f"partition {partition}, offsets {first} to {end}"
    return f"the {repair.kind} of {where}, at {repair.time:%Y-%m-%d %H:%M:%S} UTC"
