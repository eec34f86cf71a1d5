"""The fleet of a synchronous domain with one rule taken out each."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from eventfleet.deciders.command_attempts import Attempt, Ended
from eventfleet.deciders.commander import Commander, IsLate, PutError, never
from eventfleet.deciders.decider import Answer, Permit
from eventfleet.deciders.manager import Manager
from eventfleet.deciders.outcomes import Accepted, Outcome
from eventfleet.deciders.state_command import NewEvents, StateCommand, decide_events
from eventfleet.roles.append import AppendRole
from eventfleet.roles.command import CommandRole
from eventfleet.roles.role import ChunkReport
from eventfleet.states.latest_states import LatestState, LatestStateQuery, LatestStates
from eventfleet.states.querier import Querier
from eventfleet.stores.errors import Duplicate
from eventfleet.topics.event import EventRecord
from eventfleet.workers.owner import Owner
from eventfleet.workers.transport.chunk import Chunk


class TakesTakenNumbers(Commander):
    """Without: the store's unique index has the last word on a number."""

    async def put(
        self, commands: Sequence[Sequence[EventRecord]], is_late: IsLate = never
    ) -> list[PutError | None]:
        errors = await super().put(commands, is_late)
        return [None if isinstance(error, Duplicate) else error for error in errors]


class PutsOneByOne(Commander):
    """Without: the events of a command are put all together."""

    async def _put_several(
        self, index: int, events: Sequence[EventRecord], is_late: IsLate
    ) -> PutError | None:
        for event in events:
            if error := await super()._put_several(index, [event], is_late):
                return error
        return None


class TrustsItsCache(Querier[Any]):
    """Without: the store is read before a cached state is taken for the latest."""

    def __init__(self, *about: Any, **named: Any) -> None:
        super().__init__(*about, **named)
        self.latest_states.__class__ = TrustedStates


class TrustedStates(LatestStates):
    async def build_all(self, queries: Sequence[LatestStateQuery]) -> Any:
        if all(query.aggregate_id in self._cache for query in queries):
            cached = [self._cache.take(query.aggregate_id) for query in queries]
            return [LatestState(live, None) for live in cached if live]
        return await super().build_all(queries)


class RejectsByItsCache(Manager):
    """Without: only the latest state rejects a command."""

    def _decide_optimistically(self, attempt: Attempt) -> None:
        super()._decide_optimistically(attempt)
        live = self._querier.latest_states.peek_cached(attempt.aggregate_id)
        if not attempt.made and live and attempt.command.expected_version is None:
            made = decide_events(self._domain, attempt.command, live, live.version + 1, {})
            if not isinstance(made, NewEvents):
                attempt.end(made)

    def _divide(self, attempts: Sequence[Attempt]) -> list[Sequence[Attempt]]:
        divided = super()._divide(attempts)
        groups = [[a for a in group if not isinstance(a.progress, Ended)] for group in divided]
        return [group for group in groups if group]


class KeepsWhatIsNotStored(Manager):
    """Without: a state is kept, and saved, only with events that are stored."""

    async def _put(self, attempts: Sequence[Attempt]) -> None:
        await super()._put(attempts)
        for attempt in attempts:
            attempt.live = attempt.made and attempt.made.live


class AnswersBeforeItPuts(Manager):
    """Without: a command is accepted once its events are stored."""

    async def _put(self, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            if attempt.made and not attempt.permit:
                event = attempt.made.events[0]
                place = self._publisher.destination(event).name
                attempt.answer(attempt.index, Accepted(event.id, place, event.version))
        await super()._put(attempts)


class DecidesOnAnyVersion(Manager):
    """Without: a command is decided on the version that it expects, at each attempt."""

    async def decide(
        self, commands: Sequence[StateCommand], deadline: datetime, answer: Answer, *permit: Any
    ) -> None:
        unconditional = [each._replace(expected_version=None) for each in commands]
        await super().decide(unconditional, deadline, answer, *permit)


class ForgetsVersionsWhenBeaten(Manager):
    """Without: a command that was beaten is held to the version that it expects."""

    async def _try_again(self, beaten: Sequence[Attempt], deadline: datetime, tries: int) -> None:
        for attempt in beaten:
            attempt.command = attempt.command._replace(expected_version=None)
        await super()._try_again(beaten, deadline, tries)


class TakesTheUnseenForAnothers(Manager):
    """Without: a version that can't be read yet may be that of the command's own event."""

    def _give_up(self, attempt: Attempt, seen: int) -> Outcome:
        return super()._give_up(attempt, attempt.refused)


class AsksForNoOwner(CommandRole):
    """Without: whoever decides a command is the owner of its partition when it puts its events."""

    async def _check_owner(self) -> None:
        """Whoever it is."""


class AsksBeforeItDecides(Manager):
    """Without: it is asked for between the decision and the put."""

    permit: Permit | None = None

    async def decide(
        self,
        commands: Sequence[StateCommand],
        deadline: datetime,
        answer: Answer,
        permit: Permit | None = None,
    ) -> None:
        self.permit = permit
        await super().decide(commands, deadline, answer)

    async def _attempt(self, attempts: Sequence[Attempt], deadline: datetime) -> None:
        if self.permit:
            await self.permit()
        await super()._attempt(attempts, deadline)


class NeverSweeps(AppendRole):
    """Without: what was put and never produced is produced by the sweep."""

    async def tick(self) -> ChunkReport:
        return ChunkReport()


class TakesAnyChunk(Owner):
    """Without: an owner sees that a chunk was not delivered."""

    async def _process(self, chunk: Chunk) -> None:
        self.session.position = chunk.start
        await super()._process(chunk)
