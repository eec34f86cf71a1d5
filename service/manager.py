"""Manager: decides the commands of a synchronous domain, each on the latest state.

Takes requests; reads the state and whether the command is known already, in one query; decides;
puts the events, whose number the store dispenses by its unique index; lets the stream know; saves
the state as a snapshot behind the answer. A number that another has taken means: decide again.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from domains.commands import Rejection
from domains.declaration import Domain
from protocols.intents import event_id
from protocols.live import Live, ReplayFailed
from protocols.outcomes import Accepted, Conflict, IdReused, Outcome, Rejected, Repeated
from protocols.outcomes import Unavailable as NotKnown
from protocols.pending import Answer
from protocols.requests import Request, events_of
from service.bound import Bound
from service.commander import Commander
from service.saving import Saving
from service.states import States
from stores.contracts import NO_HEAD, Clock, Opened
from stores.errors import Duplicate, Unavailable
from topics.errors import EventfleetError
from topics.event import EventRecord

ATTEMPTS = 10
PAUSE = 0.01
AT_ONCE = 64
TOO_LATE = NotKnown("the deadline has passed")


class DecideFailed(EventfleetError):
    """The domain's own code raised, or answered with what is no event of it."""

    def __init__(self, domain: str, request: Request, cause: Exception) -> None:
        command = f"{type(request.payload).__name__} {request.command_id}"
        where = f"{domain} {request.event.aggregate_id!r}, {command}"
        super().__init__(f"{where}: {type(cause).__name__}: {cause}")


@dataclass
class Tally:
    """What a Manager has done so far: conflicts met, and accepted commands whose events the stream
    did not take."""

    conflicts: int = 0
    unpublished: int = 0


class Manager:
    """For any number of commands at once; those of one aggregate go one after the other."""

    def __init__(
        self,
        domain: Domain[Any],
        stores: Opened,
        states: States,
        commander: Commander,
        saving: Saving,
        clock: Clock,
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._domain, self._events = domain, stores.events
        self._states, self._commander, self._saving = states, commander, saving
        self._clock, self._chance = clock, chance
        self._room = asyncio.Semaphore(AT_ONCE)
        self.tally = Tally()

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator["Manager"]:
        """For the length of the block; snapshots are saved beside it."""
        async with self._saving.at_work():
            try:
                yield self
            finally:
                await self._states.close()
                await self._commander.close()

    # What it does to some commands

    async def decide(self, asked: Sequence[Request], deadline: datetime, answer: Answer) -> None:
        """Answer each by its index. DecideFailed, after all others are answered, for the first
        whose decide raised."""
        lines: dict[str, list[tuple[int, Request]]] = {}
        for index, request in enumerate(asked):
            lines.setdefault(request.event.aggregate_id, []).append((index, request))
        ends = await asyncio.gather(
            *(self._in_line(line, deadline, answer) for line in lines.values()),
            return_exceptions=True,
        )
        for error in ends:
            if error:
                raise error

    async def _in_line(
        self, line: Sequence[tuple[int, Request]], deadline: datetime, answer: Answer
    ) -> None:
        for index, request in line:
            async with self._room:
                answer(index, await self._outcome(request, deadline))

    async def _outcome(self, request: Request, deadline: datetime) -> Outcome:
        left = (deadline - self._clock.now()).total_seconds()
        if left <= 0:
            return TOO_LATE
        try:
            with Bound(left):
                stored = await self._stored(request)
        except TimeoutError:
            return TOO_LATE
        except (Unavailable, ReplayFailed) as error:
            return NotKnown(str(error))
        if not isinstance(stored, list):
            return stored
        published = await self._commander.publish(stored[-1], deadline)
        self.tally.unpublished += not published
        place = self._commander.destination(stored[0]).name
        return Accepted(stored[0].id, place, stored[-1].version, published)

    async def _stored(self, request: Request) -> list[EventRecord] | Outcome:
        """The events that the store has taken, or why it has none of them."""
        for attempt in range(ATTEMPTS):
            if attempt:
                self.tally.conflicts += 1
                await self._clock.sleep(PAUSE * attempt * (0.5 + self._chance()))
            try:
                return await self._tried(request)
            except Duplicate:
                continue
        where = f"{self._domain.name} {request.event.aggregate_id!r}"
        return Conflict(f"others changed {where} each of {ATTEMPTS} times that this was decided")

    async def _tried(self, request: Request) -> list[EventRecord] | Outcome:
        aggregate_id, first = request.event.aggregate_id, request.event.id
        if request.payload is None and aggregate_id not in self._states:
            return await self._after_head(request)
        try:
            live, known = await self._states.take(aggregate_id, first)
        except ReplayFailed:
            if request.payload is None:
                return await self._after_head(request)
            raise
        if known:
            self._states.keep(live)
            return await self._repetition(request, known)
        return await self._on(live, request)

    # With a state, and without

    async def _on(self, live: Live, request: Request) -> list[EventRecord] | Outcome:
        try:
            decided = self._decided(live, request)
            if isinstance(decided, Rejection):
                return Rejected(decided.reason)
            events, ahead = decided
            await self._commander.put(events)
            live = ahead
            return events
        finally:
            self._saving.soon(live)
            self._states.keep(live)

    def _decided(self, live: Live, request: Request) -> tuple[list[EventRecord], Live] | Rejection:
        """The events to put, and the state after them."""
        if request.payload is None:
            return [replace(request.event, version=live.version + 1)], live
        try:
            answer = self._domain.decided(live.state, request.payload)
            if isinstance(answer, Rejection):
                return answer
            events = events_of(self._domain, request, answer, live.version)
            ahead = live.copy()
            for event in events:
                ahead.fold(self._domain, event)
        except Exception as error:
            raise DecideFailed(self._domain.name, request, error) from error
        return events, ahead

    async def _after_head(self, request: Request) -> list[EventRecord] | Outcome:
        """A command without a validator needs no state: the next number is all."""
        event = request.event
        found, heads = await asyncio.gather(
            self._events.find([event.id]), self._events.heads([event.aggregate_id])
        )
        if known := found.get(event.id):
            return await self._repetition(request, known)
        head = heads.get(event.aggregate_id, NO_HEAD)
        events = [replace(event, version=head.version + 1)]
        await self._commander.put(events)
        return events

    # A command that was accepted before

    async def _repetition(self, request: Request, known: EventRecord) -> Outcome:
        # Without one the event is of a time when the domain was asynchronous.
        if known.fingerprint not in (None, request.event.fingerprint):
            return IdReused(f"the command's id was used for another, which made {known.type}")
        version = await self._last_of(request, known)
        return Repeated(known.id, self._commander.destination(known).name, version)

    async def _last_of(self, request: Request, first: EventRecord) -> int:
        """The version of the last event that the command made."""
        version, aggregate_id = first.version, first.aggregate_id
        async for event in self._events.read(aggregate_id, version):
            index = event.version - first.version
            if event.id != event_id(self._domain.name, aggregate_id, request.command_id, index):
                break
            version = event.version
        return version
