"""EventService: takes the commands of one domain and answers each with its outcome."""

import asyncio
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from functools import partial
from itertools import chain
from typing import Any, Self, TypedDict, Unpack, overload

from msgspec.structs import replace

from eventfleet.deciders.command_parser import ParsedCommand, parse_decoded_command
from eventfleet.deciders.decider import Decider
from eventfleet.deciders.event_id import event_id
from eventfleet.deciders.fast_command_decoder import FastCommandDecoder
from eventfleet.deciders.outcomes import Outcome, Unavailable
from eventfleet.model.domain import Domain
from eventfleet.service.stage_waiter import CommandFollower, WaitResult
from eventfleet.stores.contracts import Clock, IdGenerator, Stage
from eventfleet.topics.codec import decode, encode
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EventRecord

BATCH = 500
FLIGHTS = 4
WAITING = 10_000
SOONEST, LATEST, SLOW = 0.002, 0.02, 0.5
TIMEOUT = 10.0
CLOSED = Unavailable("the service is closed")
_TOO_LATE = "not decided within {:g} s"


class CommandAttributes(TypedDict, total=False):
    """What a command may say about itself, for its event to carry."""

    correlation_id: str | None
    causation_id: str | None
    actor: str | None
    traceparent: str | None


class SendOptions(CommandAttributes, total=False):
    """And how it is sent: `timeout` in seconds, 10 unless it says another."""

    command_id: str | None
    timeout: float


class CallState(Enum):
    """Where a command is: outside there is no limit, in the line of its aggregate, in a flight
    or past it."""

    OUTSIDE = auto()
    LINE = auto()
    FLIGHT = auto()
    LANDED = auto()


class PendingCall:
    """One command on its way, and where its caller waits."""

    __slots__ = ("aggregate_id", "asked", "deadline", "outcome", "place")

    def __init__(
        self, asked: ParsedCommand, deadline: datetime, outcome: "asyncio.Future[Outcome]"
    ) -> None:
        self.asked, self.deadline, self.outcome = asked, deadline, outcome
        self.aggregate_id = asked.event.aggregate_id
        self.place = CallState.OUTSIDE

    def late(self, seconds: float) -> None:
        self.answer(Unavailable(_TOO_LATE.format(seconds)))

    def answer(self, outcome: Outcome) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def fail(self, error: Exception) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)


@dataclass(eq=False)
class Batch:
    """Commands that are decided together, one of each aggregate."""

    calls: list[PendingCall]
    young: bool = True
    slow: bool = False


class EventService:
    """Used as `async with`, in one event loop; any number of tasks may send at once.

    What is sent while a flight is on its way travels together in the next: few large flights cost
    less than many small ones. Up to BATCH commands a flight, FLIGHTS flights in the air, WAITING
    commands in all. Another flight starts beside one that is on its way for half the time that the
    last one took, between SOONEST and LATEST seconds, or where it would be full. One that takes
    longer than SLOW seconds does not count. An aggregate's commands go one after the other, as they
    were sent.
    """

    def __init__(
        self,
        domain: Domain[Any],
        decider: Decider,
        clock: Clock,
        ids: IdGenerator,
        following: CommandFollower | None = None,
    ) -> None:
        """Without `following` nobody can wait for a stage."""
        self._domain, self._decider, self._clock, self._ids = domain, decider, clock, ids
        self._forms = FastCommandDecoder(domain)
        self._following = following
        self._outside: deque[PendingCall] = deque()  # where there is no room inside
        self._inside = 0
        self._lines: dict[
            str, deque[PendingCall]
        ] = {}  # of an aggregate: what waits, beside what flies
        self._ready: deque[str] = deque()  # aggregates of which something waits and nothing flies
        self._flights: dict[asyncio.Task[None], Batch] = {}
        self._spacing = LATEST
        self._start_is_due = False
        self._open = False

    async def __aenter__(self) -> Self:
        self._open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        """What is not decided yet is answered Unavailable."""
        self._open = False
        for call in chain(self._outside, *self._lines.values()):
            call.answer(CLOSED)
        flights = list(self._flights)
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    @overload
    async def send(
        self,
        aggregate_id: str,
        command: str,
        data: dict[str, Any],
        *,
        wait: None = None,
        patience: float = TIMEOUT,
        **about: Unpack[SendOptions],
    ) -> Outcome: ...

    @overload
    async def send(
        self,
        aggregate_id: str,
        command: str,
        data: dict[str, Any],
        *,
        wait: Stage,
        patience: float = TIMEOUT,
        **about: Unpack[SendOptions],
    ) -> WaitResult: ...

    async def send(
        self,
        aggregate_id: str,
        command: str,
        data: dict[str, Any],
        *,
        wait: Stage | None = None,
        patience: float = TIMEOUT,
        timeout: float = TIMEOUT,
        command_id: str | None = None,
        **about: Unpack[CommandAttributes],
    ) -> Outcome | WaitResult:
        """Decide one command; Unavailable after `timeout` seconds at the latest.

        A command with the same `command_id` is the same command: where it was accepted before, it
        is Repeated. Without one it gets a new one, which spares the look whether it is there.
        InvalidRecord names the field that can't be taken.

        With `wait` the answer is a WaitResult: the outcome, and the stage that was reached within
        `patience` seconds of the call.
        """
        ends = asyncio.get_running_loop().time() + patience
        identity = self._ids.new() if command_id is None else command_id
        now = self._clock.now()
        envelope = EventRecord(
            id=identity,
            type=command,
            domain=self._domain.name,
            aggregate_id=aggregate_id,
            time=now,
            data=data,
            **about,
        )
        asked, first = self._asked(envelope, wait, new=command_id is None)
        # A tenth of the time is left for the answer, which knows why there was no decision.
        deadline = now + timedelta(seconds=timeout * 0.9)
        if wait is None:
            return await self._decided(asked, deadline, timeout)
        decided = partial(self._decided, asked, deadline, timeout)
        return await self._follows.follow(first, wait, ends, decided)

    def _asked(
        self, envelope: EventRecord, wait: Stage | None, new: bool
    ) -> tuple[ParsedCommand, str]:
        """What is asked, for its last event to say who waits; and the id of its first event."""
        first = ""
        if wait is not None:
            first = event_id(self._domain.name, envelope.aggregate_id, envelope.id)
            envelope = replace(envelope, reply_to=self._follows.reply_to(first, wait))
        value = _as_travelled(envelope)
        if read := self._forms.read(value, new):
            return read[1], first
        return parse_decoded_command(self._domain, decode(value), new), first

    @property
    def _follows(self) -> CommandFollower:
        if self._following is None:
            raise TypeError("this EventService was made without notices: it can't wait")
        return self._following

    async def _decided(self, asked: ParsedCommand, deadline: datetime, timeout: float) -> Outcome:
        loop = asyncio.get_running_loop()
        call = PendingCall(asked, deadline, loop.create_future())
        late = loop.call_later(timeout, call.late, timeout)
        try:
            if not self._open:
                return CLOSED
            if self._inside < WAITING:
                self._enter(call)
            else:
                self._outside.append(call)
            return await call.outcome
        finally:
            late.cancel()
            self._leave(call)

    # Waiting

    def _enter(self, call: PendingCall) -> None:
        call.place = CallState.LINE
        self._inside += 1
        line = self._lines.get(call.aggregate_id)
        if line is None:
            self._lines[call.aggregate_id] = deque((call,))
            self._ready.append(call.aggregate_id)
            self._start_soon()
        else:
            line.append(call)

    def _leave(self, call: PendingCall) -> None:
        """Nobody waits for its answer any more; one that flies already flies on."""
        if call.place is CallState.OUTSIDE:
            return
        if call.place is CallState.LINE:
            self._lines[call.aggregate_id].remove(call)
        self._inside -= 1
        while self._outside and self._inside < WAITING:
            another = self._outside.popleft()
            if not another.outcome.done():
                self._enter(another)

    def _start_soon(self) -> None:
        """At the end of this turn of the loop, with all that it has brought."""
        if not self._start_is_due:
            self._start_is_due = True
            asyncio.get_running_loop().call_soon(self._start)

    # Flying

    def _start(self) -> None:
        self._start_is_due = False
        while self._open and self._runway_free() and (calls := self._boarded()):
            flight = Batch(calls)
            task = asyncio.create_task(self._fly(flight))
            self._flights[task] = flight
            task.add_done_callback(self._ended)
            asyncio.get_running_loop().call_later(self._spacing, self._aged, flight)
            asyncio.get_running_loop().call_later(SLOW, self._overdue, flight)

    def _runway_free(self) -> bool:
        flying = [flight for flight in self._flights.values() if not flight.slow]
        full = len(self._ready) >= BATCH
        return len(flying) < FLIGHTS and (full or not any(flight.young for flight in flying))

    def _boarded(self) -> list[PendingCall]:
        """The first command of each aggregate that is ready."""
        boarded: list[PendingCall] = []
        while self._ready and len(boarded) < BATCH:
            aggregate_id = self._ready.popleft()
            if line := self._lines[aggregate_id]:
                call = line.popleft()
                call.place = CallState.FLIGHT
                boarded.append(call)
            else:
                del self._lines[aggregate_id]
        return boarded

    async def _fly(self, flight: Batch) -> None:
        calls = flight.calls

        def answer(index: int, outcome: Outcome) -> None:
            calls[index].answer(outcome)
            self._land(calls[index])

        loop = asyncio.get_running_loop()
        began, deadline = loop.time(), max(call.deadline for call in calls)
        try:
            await self._decider.decide([call.asked for call in calls], deadline, answer)
        except Exception as error:
            for call in calls:
                call.fail(error)
        finally:
            for call in calls:
                call.answer(CLOSED)
                self._land(call)
            self._spacing = min(max((loop.time() - began) / 2, SOONEST), LATEST)

    def _land(self, call: PendingCall) -> None:
        """Once only: the aggregate's next command may fly."""
        if call.place is CallState.FLIGHT:
            call.place = CallState.LANDED
            if self._lines[call.aggregate_id]:
                self._ready.append(call.aggregate_id)
                self._start_soon()
            else:
                del self._lines[call.aggregate_id]

    def _ended(self, task: "asyncio.Task[None]") -> None:
        del self._flights[task]
        self._start_soon()

    def _aged(self, flight: Batch) -> None:
        flight.young = False
        self._start_soon()

    def _overdue(self, flight: Batch) -> None:
        flight.slow = True
        self._start_soon()


def _as_travelled(command: EventRecord) -> bytes:
    """The command as a topic would hand it over."""
    try:
        return encode(command)
    except TypeError as error:
        raise InvalidRecord("data", f"can't be written as JSON: {error}") from None
