"""The commands of one call to a Manager, each on its way to its outcome."""

from collections.abc import Sequence

from eventfleet.deciders.decider import Answer
from eventfleet.deciders.outcomes import Outcome
from eventfleet.deciders.state_command import StateCommand
from eventfleet.states.live_state import LiveState
from eventfleet.topics.errors import EventfleetError
from eventfleet.topics.event import EventRecord


class DecideFailed(EventfleetError):
    """The domain's own code raised, or answered with what is no event of it."""

    def __init__(self, domain: str, request: StateCommand, cause: Exception) -> None:
        command = f"{type(request.payload).__name__} {request.command_id}"
        where = f"{domain} {request.event.aggregate_id!r}, {command}"
        super().__init__(f"{where}: {type(cause).__name__}: {cause}")
        self.__cause__ = cause


class Attempt:
    """One command, and what its latest try has found and done.

    `found`: the `version` of its aggregate, the state as of it (`live`) where one is needed, and
    the command's first event if that is there already (`known`); `large`: there is too much to be
    read with others. `events`: what it makes, and the state after them (`ahead`); `stored`, or
    `beaten` by another who took their numbers.
    """

    __slots__ = (
        *("request", "event", "aggregate_id", "ended", "failure", "_index", "_answer"),
        *("found", "large", "version", "live", "known"),
        *("events", "ahead", "stored", "beaten"),
    )

    def __init__(self, index: int, request: StateCommand, answer: Answer) -> None:
        self.request, self.event = request, request.event
        self.aggregate_id = self.event.aggregate_id
        self._index, self._answer = index, answer
        self.ended = False
        self.failure: DecideFailed | None = None
        self.begin()

    def begin(self) -> None:
        """Another try."""
        self.found = self.large = self.stored = self.beaten = False
        self.version = 0
        self.live: LiveState | None = None
        self.ahead: LiveState | None = None
        self.known: EventRecord | None = None
        self.events: list[EventRecord] = []

    def end(self, outcome: Outcome) -> None:
        """Once only."""
        if not self.ended:
            self.ended = True
            self._answer(self._index, outcome)

    def fail(self, failure: DecideFailed) -> None:
        self.ended, self.failure = True, failure


def rounds(asked: Sequence[StateCommand], answer: Answer) -> list[list[Attempt]]:
    """The first commands of all aggregates, then the second ones, and so on."""
    found: list[list[Attempt]] = []
    before: dict[str, int] = {}
    for index, request in enumerate(asked):
        turn = Attempt(index, request, answer)
        depth = before.get(turn.aggregate_id, 0)
        before[turn.aggregate_id] = depth + 1
        if depth == len(found):
            found.append([])
        found[depth].append(turn)
    return found
