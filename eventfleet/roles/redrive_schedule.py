"""RedriveSchedule: when an owner looks for redrives, how long they may take, which come unasked."""

from collections.abc import Container, Mapping
from datetime import timedelta
from itertools import islice

from eventfleet.stores.contracts import Clock
from eventfleet.stores.contracts.dead_letters import RedriveRequest
from eventfleet.topics.parked import ParkedAggregate

MAX_REQUESTS = 1_000
COMPARE_INTERVAL = timedelta(seconds=30)
REST_COMPARE_INTERVAL = timedelta(minutes=5)
"""While nothing is parked, after the first comparison of an owner."""
UNASKED_REDRIVE_DELAY = timedelta(seconds=10)
"""Owners come and go while a deployment is rolled out, and operators may ask first."""
REDRIVE_TIME = timedelta(seconds=0.5)
"""The longest time for redrives between two chunks, but for the last aggregate or page."""


class RedriveSchedule:
    """The schedule of one owner.

    `tried`, which the owners in a process share, are the events by aggregate and version that its
    code has raised on. With it, what another process has parked is redriven once, unasked: that
    process may have run other code.
    """

    def __init__(self, clock: Clock, tried: set[tuple[str, int]] | None) -> None:
        self._clock, self._tried = clock, tried
        self._untried: dict[str, None] = {}
        self._try_at = self._until = self._compared_at = clock.steady()
        self._has_compared = False  # since it was opened

    def begin(self, parked: Mapping[str, ParkedAggregate]) -> int:
        """Begin anew, as of an owner that has just opened; return how many will come unasked."""
        self._compared_at, self._has_compared = self._clock.steady(), False
        self._untried.clear()
        self._try_at = self._clock.steady() + UNASKED_REDRIVE_DELAY
        self.find_untried(parked)
        return len(self._untried)

    def find_untried(self, parked: Mapping[str, ParkedAggregate]) -> None:
        """Have those come unasked, too, that this process has not tried."""
        if self._tried is not None:
            untried = (key for key, each in parked.items() if (key, each.first) not in self._tried)
            self._untried |= dict.fromkeys(untried)

    def begin_turn(self) -> None:
        self._until = self._clock.steady() + REDRIVE_TIME

    @property
    def out_of_time(self) -> bool:
        return self._clock.steady() >= self._until

    def compares(self, *, at_rest: bool) -> bool:
        """Return whether a comparison of the list with the memory is due, which is noted."""
        now = self._clock.steady()
        interval = REST_COMPARE_INTERVAL if at_rest and self._has_compared else COMPARE_INTERVAL
        if now - self._compared_at < interval:
            return False
        self._compared_at, self._has_compared = now, True
        return True

    def compare_soon(self) -> None:
        """Have the next turn compare."""
        self._compared_at = self._clock.steady() - REST_COMPARE_INTERVAL

    def unasked(
        self, parked: Mapping[str, ParkedAggregate], asked: Container[str]
    ) -> list[tuple[ParkedAggregate, RedriveRequest]]:
        """Return requests for the next aggregates that this process has not tried yet."""
        if self._clock.steady() < self._try_at:
            return []
        untried = [key for key in islice(self._untried, MAX_REQUESTS) if key not in asked]
        return [
            (each, RedriveRequest(key, each.first)) for key in untried if (each := parked.get(key))
        ]

    def note_tried(self, aggregate_id: str, version: int) -> None:
        """Note that this process' code has raised on an event."""
        if self._tried is not None:
            self._tried.add((aggregate_id, version))

    def note_ended(self, parked: ParkedAggregate) -> None:
        if self._tried is not None:
            self._tried.discard((parked.aggregate_id, parked.first))
        self.end_unasked(parked.aggregate_id)

    def end_unasked(self, aggregate_id: str) -> None:
        self._untried.pop(aggregate_id, None)
