"""CommandLookup: reads what commands are decided on, and whether they are known already."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from eventfleet.deciders.command_attempts import TOO_LARGE, Attempt, Found, end_all
from eventfleet.deciders.commander import Commander
from eventfleet.deciders.concurrency import run_all
from eventfleet.deciders.expected_version import is_expected
from eventfleet.deciders.failures import replay_failed
from eventfleet.deciders.outcomes import IdReused, Outcome, Repeated, Unavailable
from eventfleet.deciders.state_command import StateCommand
from eventfleet.states.latest_states import LatestState, LatestStateQuery
from eventfleet.states.live_state import ReplayFailed
from eventfleet.states.querier import Querier
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.topics.event import EventKey, EventRecord, event_id


class CommandLookup:
    """Has the Querier find latest states, and the Commander dispense event numbers."""

    def __init__(self, domain: str, querier: Querier[Any], commander: Commander) -> None:
        self._domain, self._querier, self._commander = domain, querier, commander

    async def find(self, attempts: Sequence[Attempt]) -> None:
        """After it each is Found or too large, or has its end.

        A command without a payload needs no state, only the next event number. For a cached state
        the Querier answers both in one query.
        """
        states = self._querier.latest_states
        on_state: list[Attempt] = []
        on_number: list[Attempt] = []
        for attempt in attempts:
            needs_state = attempt.command.payload is not None
            with_state = needs_state or states.is_cached(attempt.aggregate_id)
            (on_state if with_state else on_number).append(attempt)
        if not on_number:
            await self._find_states(on_state)
        elif not on_state:
            await self._find_numbers(on_number)
        else:
            await run_all([self._find_states(on_state), self._find_numbers(on_number)])

    async def _find_states(self, attempts: Sequence[Attempt]) -> None:
        queries = [
            LatestStateQuery(each.aggregate_id, each.command.event.id, (*each.sees,))
            for each in attempts
        ]
        try:
            results = await self._querier.latest_states.build_all(queries)
        except ServerUnavailable as error:
            end_all(attempts, Unavailable(str(error)))
            return
        unfoldable: list[tuple[Attempt, ReplayFailed]] = []
        for attempt, result in zip(attempts, results, strict=True):
            match result:
                case LatestState(live, event, found):
                    attempt.live = live
                    seen = [each for each in found if not each.discarded]
                    attempt.seen = {attempt.sees[each.id]: each for each in seen}
                    attempt.progress = Found(event, self._commander.dispense(live))
                case None:
                    attempt.progress = TOO_LARGE
                case ReplayFailed():
                    unfoldable.append((attempt, result))
                case ServerUnavailable():
                    attempt.end(Unavailable(str(result)))
        if unfoldable:
            await self._find_unfoldable(unfoldable)

    async def _find_unfoldable(self, unfoldable: Sequence[tuple[Attempt, ReplayFailed]]) -> None:
        """Without its state a command may still be a repeat, or need no state; others fail."""
        await self._find_numbers([attempt for attempt, _ in unfoldable])
        for attempt, error in unfoldable:
            known = isinstance(attempt.progress, Found) and attempt.progress.event
            if attempt.command.payload is not None and not known:
                attempt.end(replay_failed(self._domain, error))

    async def _find_numbers(self, attempts: Sequence[Attempt]) -> None:
        try:
            stored, versions = await asyncio.gather(
                self._querier.find_stored([attempt.command.event.key for attempt in attempts]),
                self._commander.dispense_all([attempt.aggregate_id for attempt in attempts]),
            )
            if late := await self._find_late(attempts, versions):
                stored = {**stored, **late}
        except ServerUnavailable as error:
            end_all(attempts, Unavailable(str(error)))
            return
        for attempt, version in zip(attempts, versions, strict=True):
            attempt.progress = Found(stored.get(attempt.command.event.key), version)

    async def _find_late(
        self, attempts: Sequence[Attempt], versions: Sequence[int]
    ) -> Mapping[EventKey, EventRecord]:
        """Look again for commands that meet another version than they expect: it may be their own,
        put by another call between the two reads."""
        keys = [
            attempt.command.event.key
            for attempt, version in zip(attempts, versions, strict=True)
            if not is_expected(version - 1, attempt.command.expected_version)
        ]
        return await self._querier.find_stored(keys) if keys else {}

    async def repeat_answer(self, command: StateCommand, first: EventRecord, place: str) -> Outcome:
        """The first answer to a command whose first event is stored; IdReused to another command.

        An event without a fingerprint was stored when the domain was asynchronous.
        """
        if first.fingerprint not in (None, command.event.fingerprint):
            return IdReused(f"the command's id was used for another, which made {first.type}")
        try:
            return Repeated(first.id, place, await self._last_version(command.command_id, first))
        except ServerUnavailable as error:
            return Unavailable(str(error))

    async def _last_version(self, command_id: str, first: EventRecord) -> int:
        """The version of the last event that the command made."""
        version = first.version
        async for event in self._querier.read_stored(first.aggregate_id, version):
            index = event.version - first.version
            if event.id != event_id(first.domain, first.aggregate_id, command_id, index):
                break
            version = event.version
        return version
