"""Attempt: one command of a call to the Manager, on its way to its outcome."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from eventfleet.deciders.decider import Answer
from eventfleet.deciders.outcomes import Outcome
from eventfleet.deciders.state_command import StateCommand
from eventfleet.states.live_state import LiveState
from eventfleet.topics.event import EventRecord

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

    events: list[EventRecord]


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
TOO_LARGE: Final = TooLarge()
ENDED: Final = Ended()


class Attempt:
    """A command and the progress of its latest attempt.

    `live` is the latest state of its aggregate, taken from the Querier until it is given back; None
    where no state is needed. `seen` has the earlier events that the decision sees, by the ids of
    their commands.
    """

    __slots__ = (
        *("_answer", "_index", "aggregate_id", "command", "event", "live", "progress"),
        "seen",
    )

    def __init__(self, index: int, command: StateCommand, answer: Answer) -> None:
        self.command, self.event = command, command.event
        self.aggregate_id = self.event.aggregate_id
        self._index, self._answer = index, answer
        self.begin()

    def begin(self) -> None:
        """Start over."""
        self.progress: Progress = BEGUN
        self.live: LiveState | None = None
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
