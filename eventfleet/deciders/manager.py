"""Manager: decides the commands of a synchronous domain, each on the latest state.

The Querier reads the latest states, and whether the commands are known already, in one query. The
Manager validates: the domain decides on the state. The Commander dispenses the event numbers, puts
the events, and saves the states as snapshots behind the answers. The Manager produces the events to
the message stream. A command whose number another writer has taken is decided again, unless it
names the version that it was decided on: then it is a conflict with the one found.

A command is first decided optimistically, on the cached state as it is. Only events may come of
that: the store's unique index refuses them unless the state was the latest and the command is new.
Then, and where no event comes of it, the store is read and the command decided as above.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from eventfleet.deciders.command_attempts import (
    PUTTING,
    TOO_LARGE,
    Attempt,
    Beaten,
    Ended,
    Found,
    Putting,
    Stored,
    TooLarge,
    build_rounds,
)
from eventfleet.deciders.commander import Commander, TooLate
from eventfleet.deciders.decider import Answer
from eventfleet.deciders.event_publisher import EventPublisher
from eventfleet.deciders.expected_version import is_expected, version_conflict
from eventfleet.deciders.failures import decide_failed, replay_failed
from eventfleet.deciders.outcomes import (
    DEADLINE_PASSED,
    Accepted,
    Conflict,
    Outcome,
    Rejected,
    Unavailable,
)
from eventfleet.deciders.repeated_commands import repeat_answer
from eventfleet.deciders.state_command import (
    StateCommand,
    make_context,
    make_events,
    seen_event_ids,
)
from eventfleet.deciders.timeout import Timeout
from eventfleet.deciders.unanswered_puts import UnansweredPuts
from eventfleet.model.command_rules import CommandContext, Rejection
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Command, Event
from eventfleet.model.value_copy import copy_value
from eventfleet.states.latest_states import LatestState, LatestStateQuery
from eventfleet.states.live_state import LiveState, ReplayFailed
from eventfleet.states.querier import Querier
from eventfleet.stores.contracts import Clock
from eventfleet.stores.errors import Duplicate, ServerUnavailable
from eventfleet.stores.retry import CONFLICT
from eventfleet.topics.event import EventKey, EventRecord

MAX_BATCH_COMMANDS = 100
PUT_UNANSWERED = Unavailable(
    "the store did not answer the put by the deadline: it is slow, or an open transaction of "
    "another writer holds the aggregate"
)

Part = Coroutine[Any, Any, None]
Announce = Callable[[Sequence[EventRecord]], None]
"""Told of events once they are stored, before they are produced. Returns at once, never raises."""


@dataclass
class ManagerStatistics:
    """Counts of a Manager: concurrent-write conflicts, and accepted commands whose events the
    stream did not take in time."""

    conflicts: int = 0
    unpublished: int = 0


class NewEvents(Struct):
    """The events that a command makes, and the state after them where a state was needed."""

    events: list[EventRecord]
    live: LiveState | None


class Manager:
    """Decides any number of commands at once; those of one aggregate one after the other."""

    def __init__(
        self,
        domain: Domain[Any],
        querier: Querier[Any],
        commander: Commander,
        publisher: EventPublisher,
        clock: Clock,
        *,
        jitter: Callable[[], float] = random.random,
        announce: Announce | None = None,
    ) -> None:
        self._domain, self._clock, self._jitter = domain, clock, jitter
        self._announce = announce
        self._querier, self._commander, self._publisher = querier, commander, publisher
        self._unanswered = UnansweredPuts()
        self.statistics = ManagerStatistics()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Manager"]:
        """The Manager decides for the length of the block."""
        async with self._commander.running():
            try:
                yield self
            finally:
                await self._publisher.close()

    # A call: many commands, each attempted until it ends

    async def decide(
        self, commands: Sequence[StateCommand], deadline: datetime, answer: Answer
    ) -> None:
        """Answer each by its index; Failed where the domain's own code raised."""
        for attempts in build_rounds(commands, answer):
            batches = self._unanswered.batches(attempts, MAX_BATCH_COMMANDS)
            await _run_all([self._decide_batch(batch, deadline) for batch in batches])

    async def _decide_batch(self, attempts: Sequence[Attempt], deadline: datetime) -> None:
        """Decide those whose cached state suffices apart from the others: none waits, once it is
        stored, for a read of the others before it is published."""
        on_cached: list[tuple[Attempt, NewEvents]] = []
        others: list[Attempt] = []
        for attempt in attempts:
            if made := self._decide_optimistically(attempt):
                on_cached.append((attempt, made))
            else:
                others.append(attempt)
        parts: list[Part] = [self._put_optimistically(on_cached, deadline)] if on_cached else []
        await _run_all([*parts, self._decide(others, deadline)] if others else parts)

    async def _put_optimistically(
        self, decided: Sequence[tuple[Attempt, NewEvents]], deadline: datetime
    ) -> None:
        attempts = [attempt for attempt, _ in decided]
        await self._attempt(attempts, deadline, partial(self._put, decided))
        await self._continue(attempts, deadline, self._decide_stale)

    async def _decide(
        self, attempts: Sequence[Attempt], deadline: datetime, number: int = 1
    ) -> None:
        """Decide all together, each on the latest state."""
        for attempt in attempts:
            attempt.begin()
        await self._attempt(attempts, deadline, partial(self._find_and_put, attempts))
        await self._continue(attempts, deadline, partial(self._decide_again, number=number))

    async def _continue(
        self,
        attempts: Sequence[Attempt],
        deadline: datetime,
        decide_again: Callable[[Sequence[Attempt], datetime], Part],
    ) -> None:
        """Publish the stored ones, while those that were beaten are decided again, and each that is
        too large is decided alone."""
        stored: list[tuple[Attempt, list[EventRecord]]] = []
        beaten: list[Attempt] = []
        parts: list[Part] = []
        for attempt in attempts:
            match attempt.progress:
                case Stored(events=events):
                    stored.append((attempt, events))
                case Beaten():
                    beaten.append(attempt)
                case TooLarge():
                    parts.append(self._decide([attempt], deadline))
        if stored:
            parts.append(self._publish(stored, deadline))
        if beaten:
            parts.append(decide_again(beaten, deadline))
        await _run_all(parts)

    async def _decide_stale(self, attempts: Sequence[Attempt], deadline: datetime) -> None:
        """Decide on the latest state, at once: the cached one was not, or these are repeats."""
        self.statistics.conflicts += sum(
            isinstance(each.progress, Beaten) and each.progress.key == "version"
            for each in attempts
        )
        await self._decide(attempts, deadline)

    async def _decide_again(
        self, attempts: Sequence[Attempt], deadline: datetime, number: int
    ) -> None:
        if number == CONFLICT.attempts:
            for attempt in attempts:
                where = f"{self._domain.name} {attempt.aggregate_id!r}"
                gave_up = f"gave up after {number} concurrent-write conflicts"
                attempt.end(Conflict(f"{where}: {gave_up}"))
            return
        self.statistics.conflicts += len(attempts)
        await self._clock.sleep(CONFLICT.pause(number, self._jitter))
        await self._decide(attempts, deadline, number + 1)

    async def _attempt(
        self,
        attempts: Sequence[Attempt],
        deadline: datetime,
        run: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        """After it each is stored, beaten or too large, or has its end. The states are given
        back, whatever became of the commands."""
        left = (deadline - self._clock.steady()).total_seconds()
        try:
            if left <= 0:
                raise TimeoutError
            with Timeout(left):
                await run()
        except TimeoutError:
            for attempt in attempts:
                if isinstance(attempt.progress, Putting):
                    self._end_unanswered(attempt, PUT_UNANSWERED)
                elif not isinstance(attempt.progress, Stored):
                    attempt.end(DEADLINE_PASSED)
        finally:
            states = [attempt.live for attempt in attempts if attempt.live]
            self._commander.update_states(states)
            self._querier.keep(states)

    def _end_unanswered(self, attempt: Attempt, outcome: Unavailable) -> None:
        self._unanswered.add(attempt.aggregate_id)
        attempt.end(outcome)

    async def _find_and_put(self, attempts: Sequence[Attempt]) -> None:
        await self._find(attempts)
        made, repeated = [], []
        for attempt in attempts:
            match attempt.progress:
                case Found(event=None, next_version=version):
                    if events := self._decide_events(attempt, version):
                        made.append((attempt, events))
                case Found(event=EventRecord() as first):
                    repeated.append((attempt, first))
        parts = [self._repeat(attempt, first) for attempt, first in repeated]
        await _run_all([self._put(made), *parts] if made else parts)

    # Decide on the cached state

    def _decide_optimistically(self, attempt: Attempt) -> NewEvents | None:
        """The events of a command on the cached state; None where there is no such state, or where
        the outcome is another, which only the latest state can tell."""
        live = self._querier.peek_cached(attempt.aggregate_id) if _has_validator(attempt) else None
        if live:
            with suppress(Exception):  # raised again on the latest state
                if made := self._events_on_cached(attempt.command, live):
                    attempt.live = self._querier.take_cached(attempt.aggregate_id)
                    return made
        return None

    def _events_on_cached(self, command: StateCommand, live: LiveState) -> NewEvents | None:
        assert command.payload is not None
        if seen_event_ids(self._domain, command) or not is_expected(
            live.version, command.expected_version
        ):
            return None
        context = make_context(self._domain, command, {})
        answer = self._decide_events_on(live, command.payload, context)
        if isinstance(answer, Rejection):
            return None
        return self._make_events(command, live, answer)

    # Get the validator, and the latest state for it

    async def _find(self, attempts: Sequence[Attempt]) -> None:
        """A command without a validator needs no state, only the next event number. For a cached
        state the Querier answers both in one query."""
        on_state: list[Attempt] = []
        on_number: list[Attempt] = []
        for attempt in attempts:
            with_state = _has_validator(attempt) or self._querier.is_cached(attempt.aggregate_id)
            (on_state if with_state else on_number).append(attempt)
        parts = [self._find_states(on_state)] if on_state else []
        await _run_all([*parts, self._find_numbers(on_number)] if on_number else parts)

    async def _find_states(self, attempts: Sequence[Attempt]) -> None:
        seen = {attempt: self._seen_event_ids(attempt) for attempt in attempts}
        attempts = [attempt for attempt in attempts if not isinstance(attempt.progress, Ended)]
        if not attempts:
            return
        queries = [
            LatestStateQuery(each.aggregate_id, each.event.id, (*seen[each],)) for each in attempts
        ]
        try:
            results = await self._querier.latest_states(queries)
        except ServerUnavailable as error:
            _end_all(attempts, Unavailable(str(error)))
            return
        unfoldable: list[tuple[Attempt, ReplayFailed]] = []
        for attempt, result in zip(attempts, results, strict=True):
            match result:
                case LatestState(live, event, found):
                    attempt.live = live
                    attempt.seen = {
                        seen[attempt][each.id]: each for each in found if not each.discarded
                    }
                    attempt.progress = Found(event, self._commander.dispense(live))
                case None:
                    attempt.progress = TOO_LARGE
                case ReplayFailed():
                    unfoldable.append((attempt, result))
                case ServerUnavailable():
                    attempt.end(Unavailable(str(result)))
        if unfoldable:
            await self._find_unfoldable(unfoldable)

    def _seen_event_ids(self, attempt: Attempt) -> dict[str, str]:
        """None, and the end of the attempt, where the domain's `sees` raises."""
        try:
            return seen_event_ids(self._domain, attempt.command)
        except Exception as error:
            self._end_failed(attempt, error)
            return {}

    async def _find_unfoldable(self, unfoldable: Sequence[tuple[Attempt, ReplayFailed]]) -> None:
        """Without its state a command may still be a repeat, or need no state; others fail."""
        await self._find_numbers([attempt for attempt, _ in unfoldable])
        for attempt, error in unfoldable:
            if _has_validator(attempt) and _is_new(attempt):
                attempt.end(replay_failed(self._domain.name, error))

    async def _find_numbers(self, attempts: Sequence[Attempt]) -> None:
        try:
            stored, versions = await asyncio.gather(
                self._querier.find_stored([attempt.event.key for attempt in attempts]),
                self._commander.dispense_all([attempt.aggregate_id for attempt in attempts]),
            )
            if late := await self._find_late(attempts, versions):
                stored = {**stored, **late}
        except ServerUnavailable as error:
            _end_all(attempts, Unavailable(str(error)))
            return
        for attempt, version in zip(attempts, versions, strict=True):
            attempt.progress = Found(stored.get(attempt.event.key), version)

    async def _find_late(
        self, attempts: Sequence[Attempt], versions: Sequence[int]
    ) -> Mapping[EventKey, EventRecord]:
        """Look again for commands that meet another version than they expect: it may be their own,
        put by another call between the two reads."""
        keys = [
            attempt.event.key
            for attempt, version in zip(attempts, versions, strict=True)
            if not is_expected(version - 1, attempt.command.expected_version)
        ]
        return await self._querier.find_stored(keys) if keys else {}

    # Validate, make events, put and produce them

    def _decide_events(self, attempt: Attempt, version: int) -> NewEvents | None:
        """The events from `version` on of a command that passes; None ends the attempt."""
        expected = attempt.command.expected_version
        if expected is not None and not is_expected(version - 1, expected):
            attempt.end(
                version_conflict(self._domain.name, attempt.aggregate_id, expected, version - 1)
            )
            return None
        if not _has_validator(attempt):
            return NewEvents([replace(attempt.event, version=version)], attempt.live)
        assert attempt.live
        try:
            payloads = self._validate(attempt)
            return self._make_events(attempt.command, attempt.live, payloads) if payloads else None
        except Exception as error:
            self._end_failed(attempt, error)
            return None

    def _end_failed(self, attempt: Attempt, error: Exception) -> None:
        name = f"{type(attempt.command.payload).__name__} {attempt.command.command_id}"
        attempt.end(decide_failed(name, self._domain.name, attempt.aggregate_id, error))

    def _validate(self, attempt: Attempt) -> list[Event] | None:
        payload = attempt.command.payload
        assert attempt.live
        assert payload is not None
        context = make_context(self._domain, attempt.command, attempt.seen)
        answer = self._decide_events_on(attempt.live, payload, context)
        if isinstance(answer, Rejection):
            attempt.end(Rejected(answer.reason))
            return None
        return answer

    def _decide_events_on(
        self, live: LiveState, payload: Command, context: CommandContext | None
    ) -> list[Event] | Rejection:
        """Run `decide` on a state and a payload of its own: it may be run again on the same."""
        return self._domain.decide_events(live.copy_state(), copy_value(payload), context)

    def _make_events(
        self, command: StateCommand, live: LiveState, payloads: list[Event]
    ) -> NewEvents:
        after = live.copy()
        events = make_events(self._domain, command, payloads, self._commander.dispense(live) - 1)
        for event in events:
            after.fold(self._domain, event)
        return NewEvents(events, after)

    async def _put(self, attempts: Sequence[tuple[Attempt, NewEvents]]) -> None:
        for attempt, _ in attempts:
            attempt.progress = PUTTING

        def is_late(index: int) -> bool:
            return attempts[index][0].command.is_late(self._clock.steady())

        errors = await self._commander.put([made.events for _, made in attempts], is_late)
        self._unanswered.discard(attempt.aggregate_id for attempt, _ in attempts)
        for (attempt, made), error in zip(attempts, errors, strict=True):
            match error:
                case None:
                    attempt.progress, attempt.live = Stored(made.events), made.live
                case Duplicate(key=key):
                    attempt.progress = Beaten(key)
                case TooLate():
                    attempt.end(DEADLINE_PASSED)
                case ServerUnavailable():
                    self._end_unanswered(attempt, Unavailable(str(error)))

    async def _publish(
        self, stored: Sequence[tuple[Attempt, list[EventRecord]]], deadline: datetime
    ) -> None:
        if self._announce:
            self._announce([event for _, events in stored for event in events])
        last_events = [events[-1] for _, events in stored]
        published = await self._publisher.publish(last_events, deadline)
        if not published:
            self.statistics.unpublished += len(stored)
        for attempt, events in stored:
            place = self._publisher.destination(events[0]).name
            attempt.end(Accepted(events[0].id, place, events[-1].version, published))

    async def _repeat(self, attempt: Attempt, first: EventRecord) -> None:
        place = self._publisher.destination(first).name
        attempt.end(await repeat_answer(self._querier, attempt.command, first, place))


def _has_validator(attempt: Attempt) -> bool:
    return attempt.command.payload is not None


def _is_new(attempt: Attempt) -> bool:
    """True once the store was read and has no event of the command."""
    return isinstance(attempt.progress, Found) and attempt.progress.event is None


def _end_all(attempts: Sequence[Attempt], outcome: Outcome) -> None:
    for attempt in attempts:
        attempt.end(outcome)


async def _run_all(parts: Sequence[Part]) -> None:
    """Run all to their ends, a single one without a task; then raise the first error."""
    if len(parts) == 1:
        await parts[0]
        return
    for result in await asyncio.gather(*parts, return_exceptions=True):
        if result:
            raise result
