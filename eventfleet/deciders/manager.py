"""Manager: decides the commands of a synchronous domain, each on the latest state.

The Querier reads the latest states, and whether the commands are known already, in one query. The
Manager validates: the domain decides on the state. The Commander dispenses the event numbers, puts
the events, and saves the states as snapshots behind the answers. The Manager produces the events to
the message stream, behind the answer as long as the stream keeps up: a command is accepted once its
events are stored. A command whose number another writer has taken is decided again, unless it
names the version that it was decided on: then it is a conflict with the one found.

A command is first decided optimistically, on the cached state as it is. Only events may come of
that: the store's unique index refuses them unless the state was the latest and the command is new.
Then, and where no event comes of it, the store is read and the command decided as above.
"""

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any

from eventfleet.deciders.command_attempts import (
    PUTTING,
    STORED,
    Attempt,
    Beaten,
    Found,
    Putting,
    Stored,
    TooLarge,
    build_rounds,
    end_all,
)
from eventfleet.deciders.command_lookup import CommandLookup
from eventfleet.deciders.commander import Commander, TooLate
from eventfleet.deciders.concurrency import Part, run_all
from eventfleet.deciders.decider import Answer, Permit
from eventfleet.deciders.event_publisher import EventPublisher
from eventfleet.deciders.outcomes import DEADLINE_PASSED, Accepted, Conflict, Outcome, Unavailable
from eventfleet.deciders.state_command import (
    NewEvents,
    StateCommand,
    decide_events,
    seen_event_ids,
    undecidable,
)
from eventfleet.model.domain import Domain
from eventfleet.states.querier import Querier
from eventfleet.stores.contracts import Clock
from eventfleet.stores.errors import Duplicate, ServerUnavailable
from eventfleet.stores.retry import CONFLICT
from eventfleet.stores.timeout import Timeout
from eventfleet.topics.event import EventRecord

MAX_BATCH_COMMANDS = 100
MAX_UNANSWERED_AGGREGATES = 1_000
PUT_UNANSWERED = Unavailable(
    "the store did not answer the put by the deadline: it is slow, or an open transaction of "
    "another writer holds the aggregate"
)

Announce = Callable[[Sequence[EventRecord]], None]
"""Told of events once they are stored, before they are produced. Returns at once, never raises."""


@dataclass
class ManagerStatistics:
    """Counts of a Manager: concurrent-write conflicts, and accepted commands whose events the
    stream did not take in time."""

    conflicts: int = 0
    unpublished: int = 0


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
        domain.prepare()
        self._domain, self._clock, self._jitter = domain, clock, jitter
        self._announce = announce
        self._querier, self._commander, self._publisher = querier, commander, publisher
        self._lookup = CommandLookup(domain.name, querier, commander)
        # Aggregates whose last put the store did not answer: an open transaction may hold them.
        self._unanswered: set[str] = set()
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
        self,
        commands: Sequence[StateCommand],
        deadline: datetime,
        answer: Answer,
        permit: Permit | None = None,
    ) -> None:
        """Answer each by its index; Failed where the domain's own code raised."""
        for round in build_rounds(commands, answer, permit):
            attempts = self._with_seen(round) if self._domain.sees else round
            parts = [self._decide_together(each, deadline) for each in self._divide(attempts)]
            await (parts[0] if len(parts) == 1 else run_all(parts))

    def _with_seen(self, attempts: Sequence[Attempt]) -> list[Attempt]:
        """Note what the decisions see, and end those on which the domain's `sees` raises."""
        known = []
        for attempt in attempts:
            try:
                attempt.sees = seen_event_ids(self._domain, attempt.command)
                known.append(attempt)
            except Exception as error:
                attempt.end(undecidable(self._domain, attempt.command, error))
        return known

    def _divide(self, attempts: Sequence[Attempt]) -> list[Sequence[Attempt]]:
        """Part those whose cached state suffices from the others: none waits, once it is stored,
        for a read of the others before it is published. With an aggregate whose last put the store
        did not answer, none waits either."""
        alone: list[Sequence[Attempt]] = []
        on_cached: list[Attempt] = []
        others: list[Attempt] = []
        for attempt in attempts:
            if attempt.command.payload is not None and not attempt.sees:
                self._decide_optimistically(attempt)
            if attempt.aggregate_id in self._unanswered:
                alone.append([attempt])
            else:
                (on_cached if attempt.made else others).append(attempt)
        together = [
            group[start : start + MAX_BATCH_COMMANDS]
            for group in (on_cached, others)
            for start in range(0, len(group), MAX_BATCH_COMMANDS)
        ]
        return [*alone, *together]

    def _decide_optimistically(self, attempt: Attempt) -> None:
        """Decide a command on the cached state, if there is one and events come of it: only the
        latest state can tell another outcome."""
        if live := self._querier.latest_states.peek_cached(attempt.aggregate_id):
            number = self._commander.dispense(live)
            made = decide_events(self._domain, attempt.command, live, number, {})
            if isinstance(made, NewEvents):
                attempt.made = made
                attempt.live = self._querier.latest_states.take_cached(attempt.aggregate_id)

    async def _decide_together(
        self, attempts: Sequence[Attempt], deadline: datetime, tries: int | None = None
    ) -> None:
        """Decide commands of different aggregates, and again those that another writer has beaten.

        The stored ones are published meanwhile, and each that is too large is decided alone.
        """
        if tries is None:
            tries = 0 if attempts[0].made else 1
        await self._attempt(attempts, deadline)
        parts: list[Part] = []
        if stored := [each for each in attempts if isinstance(each.progress, Stored)]:
            parts.append(self._publish(stored, deadline))
        if beaten := [each for each in attempts if isinstance(each.progress, Beaten)]:
            parts.append(self._try_again(beaten, deadline, tries))
        for each in [each for each in attempts if isinstance(each.progress, TooLarge)]:
            each.begin()
            parts.append(self._decide_together([each], deadline))
        await (parts[0] if len(parts) == 1 else run_all(parts))

    async def _try_again(self, beaten: Sequence[Attempt], deadline: datetime, tries: int) -> None:
        """Start over: at once where the cached state was not the latest, or these are repeats.
        After the last try the store is only read."""
        keys = [each.progress.key for each in beaten if isinstance(each.progress, Beaten)]
        self.statistics.conflicts += len(keys) if tries else keys.count("version")
        if tries:
            await self._clock.sleep(CONFLICT.pause(tries, self._jitter))
        for attempt in beaten:
            if tries == CONFLICT.attempts and attempt.made:
                attempt.refused = attempt.made.events[0].version
            attempt.begin()
        await self._decide_together(beaten, deadline, tries + 1)

    async def _attempt(self, attempts: Sequence[Attempt], deadline: datetime) -> None:
        """After it each is stored, beaten or too large, or has its end. The states are given
        back, whatever became of the commands."""
        left = (deadline - self._clock.steady()).total_seconds()
        try:
            if left <= 0:
                raise TimeoutError
            with Timeout(left):
                await (self._put if attempts[0].made else self._find_and_put)(attempts)
        except TimeoutError:
            for attempt in attempts:
                if isinstance(attempt.progress, Putting):
                    self._end_unanswered(attempt, PUT_UNANSWERED)
                elif not isinstance(attempt.progress, Stored):
                    attempt.end(DEADLINE_PASSED)
        finally:
            states = [attempt.live for attempt in attempts if attempt.live]
            self._commander.update_states(states)
            self._querier.latest_states.keep(states)

    def _end_unanswered(self, attempt: Attempt, outcome: Unavailable) -> None:
        if len(self._unanswered) < MAX_UNANSWERED_AGGREGATES:
            self._unanswered.add(attempt.aggregate_id)
        attempt.end(outcome)

    async def _find_and_put(self, attempts: Sequence[Attempt]) -> None:
        """Find the latest states, validate, and put the events."""
        await self._lookup.find(attempts)
        decided: list[Attempt] = []
        repeats: list[Part] = []
        for attempt in attempts:
            match attempt.progress:
                case Found(event=None, next_version=version) if attempt.refused:
                    attempt.end(self._give_up(attempt, version - 1))
                case Found(event=None, next_version=version):
                    about = attempt.command, attempt.live, version, attempt.seen
                    made = decide_events(self._domain, *about)
                    if isinstance(made, NewEvents):
                        attempt.made = made
                        decided.append(attempt)
                    else:
                        attempt.end(made)
                case Found(event=EventRecord() as first):
                    repeats.append(self._repeat(attempt, first))
        if not repeats and decided:
            await self._put(decided)
        elif repeats:
            await run_all([self._put(decided), *repeats] if decided else repeats)

    def _give_up(self, attempt: Attempt, seen: int) -> Outcome:
        """A conflict, unless the version that it was refused can't be read yet: it may be that of
        its own event, put by a call that had no answer."""
        where = f"{self._domain.name} {attempt.aggregate_id!r}"
        if seen < attempt.refused:
            return Unavailable(f"{where}: version {attempt.refused} can't be read yet")
        return Conflict(f"{where}: gave up after {CONFLICT.attempts} concurrent-write conflicts")

    async def _put(self, attempts: Sequence[Attempt]) -> None:
        if permit := attempts[0].permit:
            try:
                await permit()
            except ServerUnavailable as unavailable:
                end_all(attempts, Unavailable(str(unavailable)))
                return
        for attempt in attempts:
            attempt.progress = PUTTING
        steady = self._clock.steady
        errors = await self._commander.put(
            [each.made.events for each in attempts if each.made],
            lambda index: attempts[index].command.is_late(steady()),
        )
        self._unanswered.difference_update(attempt.aggregate_id for attempt in attempts)
        for attempt, error in zip(attempts, errors, strict=True):
            match error:
                case None:
                    assert attempt.made
                    attempt.progress, attempt.live = STORED, attempt.made.live
                case Duplicate(key=key):
                    attempt.progress = Beaten(key)
                case TooLate():
                    attempt.end(DEADLINE_PASSED)
                case ServerUnavailable():
                    self._end_unanswered(attempt, Unavailable(str(error)))

    async def _publish(self, stored: Sequence[Attempt], deadline: datetime) -> None:
        events = [each.made.events for each in stored if each.made]
        if self._announce:
            self._announce([*chain(*events)])
        latest, published = [each[-1] for each in events], True
        # The reply to a role's command is a record of the stream itself.
        if stored[0].permit or not self._publisher.keeps_up:
            published = await self._publisher.publish(latest, deadline)
            if not published:
                self._count_unpublished(len(stored))
        else:
            fail = partial(self._count_unpublished, len(stored))
            self._publisher.publish_later(latest, fail)
        for attempt, own in zip(stored, events, strict=True):
            place = self._publisher.destination(own[0]).name
            attempt.end(Accepted(own[0].id, place, own[-1].version, published))

    def _count_unpublished(self, commands: int) -> None:
        self.statistics.unpublished += commands

    async def _repeat(self, attempt: Attempt, first: EventRecord) -> None:
        place = self._publisher.destination(first).name
        attempt.end(await self._lookup.repeat_answer(attempt.command, first, place))
