"""UnansweredPuts: the aggregates whose last put the store did not answer."""

from collections.abc import Iterable, Sequence

from eventfleet.deciders.command_attempts import Attempt

MAX_AGGREGATES = 1_000


class UnansweredPuts:
    """Remembers them until a put of theirs is answered, so that no other aggregate waits with one
    that an open transaction holds; at most MAX_AGGREGATES."""

    def __init__(self) -> None:
        self._aggregate_ids: set[str] = set()

    def add(self, aggregate_id: str) -> None:
        if len(self._aggregate_ids) < MAX_AGGREGATES:
            self._aggregate_ids.add(aggregate_id)

    def discard(self, aggregate_ids: Iterable[str]) -> None:
        self._aggregate_ids.difference_update(aggregate_ids)

    def batches(self, attempts: Sequence[Attempt], size: int) -> list[Sequence[Attempt]]:
        """Divide attempts into batches of up to this size; a remembered aggregate goes alone."""
        together, alone = attempts, list[Sequence[Attempt]]()
        if self._aggregate_ids:
            together = [a for a in attempts if a.aggregate_id not in self._aggregate_ids]
            alone = [[a] for a in attempts if a.aggregate_id in self._aggregate_ids]
        starts = range(0, len(together), size)
        return [*alone, *(together[start : start + size] for start in starts)]
