"""Manager: decides the commands of a synchronous domain, each on the latest state.

Takes requests; reads their states and whether the commands are known already, in one query;
decides; puts the events, whose numbers the store dispenses by its unique index; lets the stream
know; saves the states as snapshots behind the answers. A number that another has taken means:
decide again.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from eventfleet.deciders.command_attempts import Attempt, DecideFailed, rounds
from eventfleet.deciders.commander import Commander
from eventfleet.deciders.decider import Answer
from eventfleet.deciders.event_id import event_id
from eventfleet.deciders.outcomes import Accepted, Conflict, IdReused, Outcome, Rejected, Repeated
from eventfleet.deciders.outcomes import Unavailable as NotKnown
from eventfleet.deciders.state_command import StateCommand, make_events
from eventfleet.deciders.timeout import Timeout
from eventfleet.model.command_rules import Rejection
from eventfleet.model.domain import Domain
from eventfleet.states.live_state import ReplayFailed
from eventfleet.states.snapshot_saver import SnapshotSaver
from eventfleet.states.state_cache import Latest, States, Wanted
from eventfleet.stores.contracts import NO_HEAD, Clock, DomainStores
from eventfleet.stores.errors import Duplicate, ServerUnavailable
from eventfleet.topics.event import EventRecord

ATTEMPTS = 10
PAUSE = 0.01
AT_ONCE = 100
TOO_LATE = NotKnown("the deadline has passed")

Part = Coroutine[Any, Any, None]
Way = Callable[[Sequence[Attempt]], Part]


@dataclass
class ManagerStatistics:
    """What a Manager has done so far: conflicts met, and accepted commands whose events the stream
    did not take."""

    conflicts: int = 0
    unpublished: int = 0


class Manager:
    """For any number of commands at once; those of one aggregate go one after the other."""

    def __init__(
        self,
        domain: Domain[Any],
        stores: DomainStores,
        states: States,
        commander: Commander,
        saving: SnapshotSaver,
        clock: Clock,
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._domain, self._events = domain, stores.events
        self._states, self._commander, self._saving = states, commander, saving
        self._clock, self._chance = clock, chance
        self.tally = ManagerStatistics()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Manager"]:
        """For the length of the block; snapshots are saved beside it."""
        async with self._saving.running():
            try:
                yield self
            finally:
                await self._commander.close()

    # What it does to some commands

    async def decide(
        self, asked: Sequence[StateCommand], deadline: datetime, answer: Answer
    ) -> None:
        """Answer each by its index. DecideFailed, after all others are answered, for the first
        whose decide raised; nothing of its aggregate is decided after it."""
        failed: dict[str, DecideFailed] = {}
        for turns in rounds(asked, answer):
            going = [turn for turn in turns if turn.aggregate_id not in failed]
            groups = [going[at : at + AT_ONCE] for at in range(0, len(going), AT_ONCE)]
            await _side_by_side([self._decide(group, deadline) for group in groups])
            failed |= {turn.aggregate_id: turn.failure for turn in going if turn.failure}
        for failure in failed.values():
            raise failure

    async def _decide(self, turns: Sequence[Attempt], deadline: datetime, attempt: int = 1) -> None:
        """All together; then those that are stored are published, while those that were beaten
        are decided again, and alone each that is too large."""
        await self._try(turns, deadline)
        going = [turn for turn in turns if not turn.ended]
        parts = [self._decide([turn], deadline) for turn in going if turn.large]
        if stored := [turn for turn in going if turn.stored]:
            parts.append(self._publish(stored, deadline))
        if beaten := [turn for turn in going if turn.beaten]:
            parts.append(self._decide_again(beaten, deadline, attempt))
        await _side_by_side(parts)

    async def _decide_again(self, turns: list[Attempt], deadline: datetime, attempt: int) -> None:
        if attempt == ATTEMPTS:
            for turn in turns:
                turn.end(Conflict(self._lost(turn)))
            return
        self.tally.conflicts += len(turns)
        await self._clock.sleep(PAUSE * attempt * (0.5 + self._chance()))
        await self._decide(turns, deadline, attempt + 1)

    def _lost(self, turn: Attempt) -> str:
        where = f"{self._domain.name} {turn.aggregate_id!r}"
        return f"others changed {where} each of {ATTEMPTS} times that this was decided"

    async def _try(self, turns: Sequence[Attempt], deadline: datetime) -> None:
        """After it each is stored, beaten or too large, or has its end."""
        for turn in turns:
            turn.begin()
        left = (deadline - self._clock.now()).total_seconds()
        try:
            if left <= 0:
                raise TimeoutError
            with Timeout(left):
                await self._store(turns)
        except TimeoutError:
            _end([turn for turn in turns if not turn.stored], TOO_LATE)

    async def _store(self, turns: Sequence[Attempt]) -> None:
        await self._look(turns)
        found = [turn for turn in turns if turn.found]
        try:
            made = [turn for turn in found if not turn.known and self._decided(turn)]
            repeated = [turn for turn in found if turn.known]
            await _side_by_side([self._put(made), *map(self._repeat, repeated)])
        finally:
            latest = [turn.ahead if turn.stored else turn.live for turn in found]
            lives = [live for live in latest if live]
            self._saving.soon(lives)
            self._states.keep(lives)

    async def _publish(self, turns: Sequence[Attempt], deadline: datetime) -> None:
        published = await self._commander.publish([turn.events[-1] for turn in turns], deadline)
        if not published:
            self.tally.unpublished += len(turns)
        for turn in turns:
            first, last = turn.events[0], turn.events[-1]
            place = self._commander.destination(first).name
            turn.end(Accepted(first.id, place, last.version, published))

    # Look, decide, put

    async def _look(self, turns: Sequence[Attempt]) -> None:
        """A command without a validator needs no state: the next number is all."""
        ways: defaultdict[Way, list[Attempt]] = defaultdict(list)
        for turn in turns:
            needed = turn.request.payload is not None or turn.aggregate_id in self._states
            ways[self._take if needed else self._read_heads].append(turn)
        await _side_by_side([way(some) for way, some in ways.items()])

    async def _take(self, turns: Sequence[Attempt]) -> None:
        try:
            wanted = [Wanted(turn.aggregate_id, turn.event.id) for turn in turns]
            taken = await self._states.take(wanted)
        except ServerUnavailable as error:
            _end(turns, NotKnown(str(error)))
            return
        unfolded = []
        for turn, latest in zip(turns, taken, strict=True):
            if isinstance(latest, Latest):
                turn.found, turn.version = True, latest.live.version
                turn.live, turn.known = latest
            elif latest is None:
                turn.large = True
            elif isinstance(latest, ReplayFailed) and turn.request.payload is None:
                unfolded.append(turn)
            else:
                turn.end(NotKnown(str(latest)))
        if unfolded:
            await self._read_heads(unfolded)

    async def _read_heads(self, turns: Sequence[Attempt]) -> None:
        try:
            found, heads = await asyncio.gather(
                self._events.find([turn.event.id for turn in turns]),
                self._events.heads([turn.aggregate_id for turn in turns]),
            )
        except ServerUnavailable as error:
            _end(turns, NotKnown(str(error)))
            return
        for turn in turns:
            turn.found, turn.version = True, heads.get(turn.aggregate_id, NO_HEAD).version
            turn.known = found.get(turn.event.id)

    def _decided(self, turn: Attempt) -> bool:
        """Whether there are events to put."""
        request, live, version = turn.request, turn.live, turn.version
        if request.payload is None:
            turn.events, turn.ahead = [replace(turn.event, version=version + 1)], live
            return True
        assert live
        try:
            answer = self._domain.decide_events(live.state, request.payload)
            if isinstance(answer, Rejection):
                turn.end(Rejected(answer.reason))
                return False
            events, ahead = make_events(self._domain, request, answer, version), live.copy()
            for event in events:
                ahead.fold(self._domain, event)
        except Exception as error:
            turn.fail(DecideFailed(self._domain.name, request, error))
            return False
        turn.events, turn.ahead = events, ahead
        return True

    async def _put(self, turns: Sequence[Attempt]) -> None:
        refusals = await self._commander.put([turn.events for turn in turns])
        for turn, refusal in zip(turns, refusals, strict=True):
            turn.stored, turn.beaten = refusal is None, isinstance(refusal, Duplicate)
            if isinstance(refusal, ServerUnavailable):
                turn.end(NotKnown(str(refusal)))

    # Commands that were accepted before

    async def _repeat(self, turn: Attempt) -> None:
        first = turn.known
        assert first
        # Without one the event is of a time when the domain was asynchronous.
        if first.fingerprint not in (None, turn.event.fingerprint):
            turn.end(IdReused(f"the command's id was used for another, which made {first.type}"))
            return
        try:
            version = await self._last_of(turn.request, first)
        except ServerUnavailable as error:
            turn.end(NotKnown(str(error)))
            return
        turn.end(Repeated(first.id, self._commander.destination(first).name, version))

    async def _last_of(self, request: StateCommand, first: EventRecord) -> int:
        """The version of the last event that the command made."""
        version, aggregate_id = first.version, first.aggregate_id
        async for event in self._events.read(aggregate_id, version):
            index = event.version - first.version
            if event.id != event_id(self._domain.name, aggregate_id, request.command_id, index):
                break
            version = event.version
        return version


def _end(turns: Sequence[Attempt], outcome: Outcome) -> None:
    for turn in turns:
        turn.end(outcome)


async def _side_by_side(parts: Sequence[Part]) -> None:
    """All of them to their ends, a single one without a task; then the first error."""
    if len(parts) == 1:
        await parts[0]
        return
    for end in await asyncio.gather(*parts, return_exceptions=True):
        if end:
            raise end
