"""Attempts of a Manager: commands of a call on their way to their outcomes, and their order."""

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from eventfleet.deciders.decider import Answer
from eventfleet.deciders.outcomes import Outcome
from eventfleet.deciders.state_command import NewEvents, StateCommand
from eventfleet.states.live_state import LiveState
from eventfleet.topics.event import EventRecord

MAX_UNANSWERED_AGGREGATES = 1_000

# How far an attempt is. Structs: a frozen dataclass takes several times as long to make.


class Begun(Struct, frozen=True):
    """Nothing is known yet."""


class Found(Struct, frozen=True):
    """The store was read: the command's first event if it is stored, otherwise None, and the number
    that the next event of the aggregate is to have."""

    event: EventRecord | None
    next_version: int


class Putting(Struct, frozen=True):
    """The events are on their way to the store, which has not answered."""


class Stored(Struct, frozen=True):
    """The events are put, and not yet published."""


class Beaten(Struct, frozen=True):
    """The store refused the events: `key`, `version` or `event id`, is taken. Where they were
    decided on a cached state, it may not have been the latest, or the command is a repeat."""

    key: str


class TooLarge(Struct, frozen=True):
    """The aggregate has too many events to be read with those of others."""


class Ended(Struct, frozen=True):
    """The command has its outcome."""


Progress = Begun | Found | Putting | Stored | Beaten | TooLarge | Ended

BEGUN: Final = Begun()
PUTTING: Final = Putting()
STORED: Final = Stored()
TOO_LARGE: Final = TooLarge()
ENDED: Final = Ended()


class Attempt:
    """A command and the progress of its latest attempt.

    `sees` has the ids of the commands that the decision sees, by the ids of their first events,
    `seen` those events by the ids of their commands. `live` is the latest state of its aggregate,
    taken from the Querier until it is given back; None where no state is needed. `made` are its
    events, once it is decided.
    """

    __slots__ = (
        *("_answer", "_index", "aggregate_id", "command", "event", "live", "made", "needs_state"),
        *("progress", "seen", "sees"),
    )

    def __init__(self, index: int, command: StateCommand, answer: Answer) -> None:
        self.command, self.event = command, command.event
        self.aggregate_id = self.event.aggregate_id
        self.needs_state = command.payload is not None
        self.sees: dict[str, str] = {}
        self._index, self._answer = index, answer
        self.begin()

    def begin(self) -> None:
        """Start over."""
        self.progress: Progress = BEGUN
        self.live: LiveState | None = None
        self.made: NewEvents | None = None
        self.seen: dict[str, EventRecord] = {}

    def end(self, outcome: Outcome) -> None:
        """Answer the command, unless it has its end already."""
        if not isinstance(self.progress, Ended):
            self.progress = ENDED
            self._answer(self._index, outcome)


def build_rounds(commands: Sequence[StateCommand], answer: Answer) -> list[list[Attempt]]:
    """The first commands of all aggregates, then the second ones, and so on."""
    rounds: list[list[Attempt]] = []
    counts: dict[str, int] = {}
    for index, command in enumerate(commands):
        attempt = Attempt(index, command, answer)
        count = counts.get(attempt.aggregate_id, 0)
        counts[attempt.aggregate_id] = count + 1
        if count == len(rounds):
            rounds.append([])
        rounds[count].append(attempt)
    return rounds


def end_all(attempts: Sequence[Attempt], outcome: Outcome) -> None:
    for attempt in attempts:
        attempt.end(outcome)


class UnansweredPuts:
    """Remembers the aggregates whose last put the store did not answer, until a put is answered.

    So no other aggregate waits with one that an open transaction holds.
    """

    def __init__(self) -> None:
        self._aggregate_ids: set[str] = set()

    def add(self, aggregate_id: str) -> None:
        if len(self._aggregate_ids) < MAX_UNANSWERED_AGGREGATES:
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
