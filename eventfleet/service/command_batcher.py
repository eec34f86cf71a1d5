"""CommandBatcher: gathers the commands of many callers into batches for one decider."""

import asyncio
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from itertools import chain
from typing import Self

from eventfleet.deciders.command_parser import ParsedCommand
from eventfleet.deciders.decider import Decider
from eventfleet.deciders.outcomes import Outcome, Unavailable
from eventfleet.topics.record import make_tuple

MAX_BATCH_COMMANDS = 500
MAX_BATCHES = 4
MAX_WAITING_COMMANDS = 10_000
MIN_SPACING_SECONDS, MAX_SPACING_SECONDS = 0.002, 0.02
SLOW_BATCH_SECONDS = 0.5
CLOSED = Unavailable("the service is closed")
_LATE = "not decided within {:g} s"


class CallState(Enum):
    """The place of a call: beyond MAX_WAITING_COMMANDS, in its aggregate's queue, in a batch, or
    decided."""

    OVERFLOWING = auto()
    QUEUED = auto()
    BATCHED = auto()
    RELEASED = auto()


class PendingCall:
    """A command, and the future of its outcome."""

    __slots__ = ("aggregate_id", "command", "deadline", "outcome", "state")

    def __init__(
        self, command: ParsedCommand, deadline: datetime, outcome: "asyncio.Future[Outcome]"
    ) -> None:
        self.command, self.deadline, self.outcome = command, deadline, outcome
        self.aggregate_id = command.event.aggregate_id
        self.state = CallState.OVERFLOWING

    def time_out(self, seconds: float) -> None:
        self.answer(Unavailable(_LATE.format(seconds)))

    def answer(self, outcome: Outcome) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def fail(self, error: Exception) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)


@dataclass(eq=False)
class Batch:
    """Commands that are decided together, at most one of each aggregate.

    While it is `recent`, no other batch starts beside it unless that would be full. Once it is
    `slow`, it does not count among the MAX_BATCHES.
    """

    calls: list[PendingCall]
    recent: bool = True
    slow: bool = False


class CommandBatcher:
    """Used as `async with`, in one event loop; any number of tasks may call `decide` at once.

    Commands that arrive while a batch is being decided go together into the next: few large
    batches cost less than many small ones. A batch has up to MAX_BATCH_COMMANDS commands,
    MAX_BATCHES are decided at once, MAX_WAITING_COMMANDS commands wait in all. Another batch starts
    beside one that has run for half the time that the last one took, between MIN_SPACING_SECONDS
    and MAX_SPACING_SECONDS, or when it would be full. A batch that takes longer than
    SLOW_BATCH_SECONDS does not count. An aggregate's commands go one after the other, as they were
    sent.
    """

    def __init__(self, decider: Decider) -> None:
        self._decider = decider
        self._overflow: deque[PendingCall] = deque()
        self._admitted = 0
        # By aggregate, what waits; the key stays while a command of the aggregate is in a batch.
        self._queues: dict[str, deque[PendingCall]] = {}
        # Aggregates of which a command waits and none is in a batch.
        self._ready: deque[str] = deque()
        self._batches: dict[asyncio.Task[None], Batch] = {}
        self._spacing = MAX_SPACING_SECONDS
        self._start_is_due = False
        self._open = False

    async def __aenter__(self) -> Self:
        self._open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        """Answer Unavailable to every command that is not decided yet."""
        self._open = False
        for call in chain(self._overflow, *self._queues.values()):
            call.answer(CLOSED)
        tasks = list(self._batches)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def decide(self, command: ParsedCommand, deadline: datetime, timeout: float) -> Outcome:
        """Decide one command; Unavailable after `timeout` seconds at the latest.

        The decider gets the `deadline`, by its own clock: the command's own, since others of its
        batch may have a later one.
        """
        loop = asyncio.get_running_loop()
        command = make_tuple(type(command), (*command[:-1], deadline))
        call = PendingCall(command, deadline, loop.create_future())
        timer = loop.call_later(timeout, call.time_out, timeout)
        try:
            if not self._open:
                return CLOSED
            if self._admitted < MAX_WAITING_COMMANDS:
                self._admit(call)
            else:
                self._overflow.append(call)
            return await call.outcome
        finally:
            timer.cancel()
            self._leave(call)

    # Waiting

    def _admit(self, call: PendingCall) -> None:
        call.state = CallState.QUEUED
        self._admitted += 1
        queue = self._queues.get(call.aggregate_id)
        if queue is None:
            self._queues[call.aggregate_id] = deque((call,))
            self._ready.append(call.aggregate_id)
            self._start_soon()
        else:
            queue.append(call)

    def _leave(self, call: PendingCall) -> None:
        """Its caller is gone; a command in a batch is decided all the same."""
        if call.state is CallState.OVERFLOWING:
            return
        if call.state is CallState.QUEUED:
            self._queues[call.aggregate_id].remove(call)
        self._admitted -= 1
        while self._overflow and self._admitted < MAX_WAITING_COMMANDS:
            another = self._overflow.popleft()
            if not another.outcome.done():
                self._admit(another)

    def _start_soon(self) -> None:
        """Start at the end of this turn of the event loop, with every command that it brings."""
        if not self._start_is_due:
            self._start_is_due = True
            asyncio.get_running_loop().call_soon(self._start)

    # Deciding

    def _start(self) -> None:
        self._start_is_due = False
        while self._open and self._may_start() and (calls := self._next_batch()):
            batch = Batch(calls)
            task = asyncio.create_task(self._decide(batch))
            self._batches[task] = batch
            task.add_done_callback(self._end)
            asyncio.get_running_loop().call_later(self._spacing, self._end_recent, batch)
            asyncio.get_running_loop().call_later(SLOW_BATCH_SECONDS, self._set_slow, batch)

    def _may_start(self) -> bool:
        running = [batch for batch in self._batches.values() if not batch.slow]
        full = len(self._ready) >= MAX_BATCH_COMMANDS
        return len(running) < MAX_BATCHES and (full or not any(batch.recent for batch in running))

    def _next_batch(self) -> list[PendingCall]:
        """The first command of each aggregate that is ready."""
        calls: list[PendingCall] = []
        while self._ready and len(calls) < MAX_BATCH_COMMANDS:
            aggregate_id = self._ready.popleft()
            if queue := self._queues[aggregate_id]:
                call = queue.popleft()
                call.state = CallState.BATCHED
                calls.append(call)
            else:
                del self._queues[aggregate_id]
        return calls

    async def _decide(self, batch: Batch) -> None:
        calls = batch.calls

        def answer(index: int, outcome: Outcome) -> None:
            calls[index].answer(outcome)
            self._release(calls[index])

        loop = asyncio.get_running_loop()
        began, deadline = loop.time(), max(call.deadline for call in calls)
        try:
            await self._decider.decide([call.command for call in calls], deadline, answer)
        except Exception as error:
            for call in calls:
                call.fail(error)
        finally:
            for call in calls:
                call.answer(CLOSED)
                self._release(call)
            spacing = (loop.time() - began) / 2
            self._spacing = min(max(spacing, MIN_SPACING_SECONDS), MAX_SPACING_SECONDS)

    def _release(self, call: PendingCall) -> None:
        """Let the aggregate's next command go, once only."""
        if call.state is CallState.BATCHED:
            call.state = CallState.RELEASED
            if self._queues[call.aggregate_id]:
                self._ready.append(call.aggregate_id)
                self._start_soon()
            else:
                del self._queues[call.aggregate_id]

    def _end(self, task: "asyncio.Task[None]") -> None:
        del self._batches[task]
        self._start_soon()

    def _end_recent(self, batch: Batch) -> None:
        batch.recent = False
        self._start_soon()

    def _set_slow(self, batch: Batch) -> None:
        batch.slow = True
        self._start_soon()
