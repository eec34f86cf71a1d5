"""Attempts of a Manager: commands of a call on their way to their outcomes, and their order."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from eventfleet.deciders.decider import Answer, Permit
from eventfleet.deciders.outcomes import Outcome
from eventfleet.deciders.state_command import NewEvents, StateCommand
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


class Attempt(Struct, eq=False):
    """A command and the progress of its latest attempt.

    `index` is its own in the call that it answers. `sees` has the ids of the commands that the
    decision sees, by the ids of their first events, `seen` those events by the ids of their
    commands. `permit`, which a role's command has, is awaited before each put. `live` is the latest
    state of its aggregate, taken from the Querier until it is given back; None where no state is
    needed. `made` are its events, once it is decided. `refused` is the version at which it was
    beaten for the last time, once it gives up.
    """

    index: int
    command: StateCommand
    aggregate_id: str
    answer: Answer
    permit: Permit | None = None
    progress: Progress = BEGUN
    live: LiveState | None = None
    made: NewEvents | None = None
    refused: int = 0
    sees: dict[str, str] = {}
    seen: dict[str, EventRecord] = {}

    def begin(self) -> None:
        """Start over."""
        self.progress, self.live, self.made, self.seen = BEGUN, None, None, {}

    def end(self, outcome: Outcome) -> None:
        """Answer the command, unless it has its end already."""
        if not isinstance(self.progress, Ended):
            self.progress = ENDED
            self.answer(self.index, outcome)


def build_rounds(
    commands: Sequence[StateCommand], answer: Answer, permit: Permit | None = None
) -> list[list[Attempt]]:
    """The first commands of all aggregates, then the second ones, and so on."""
    rounds: list[list[Attempt]] = []
    counts: dict[str, int] = {}
    for index, command in enumerate(commands):
        aggregate_id = command.event.aggregate_id
        count = counts.get(aggregate_id, 0)
        counts[aggregate_id] = count + 1
        if count == len(rounds):
            rounds.append([])
        rounds[count].append(Attempt(index, command, aggregate_id, answer, permit))
    return rounds


def end_all(attempts: Sequence[Attempt], outcome: Outcome) -> None:
    for attempt in attempts:
        attempt.end(outcome)
