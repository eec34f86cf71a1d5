"""CommandBatcher: gathers the commands of many callers into batches for one decider."""

import asyncio
from collections import Counter, deque
from datetime import datetime
from itertools import chain
from typing import Self

from msgspec import Struct

from eventfleet.deciders.command_parser import ParsedCommand
from eventfleet.deciders.decider import Decider
from eventfleet.deciders.outcomes import OUTCOME_NAMES, Outcome, Unavailable
from eventfleet.stores.timeout import Timeout
from eventfleet.topics.record import make_tuple

MAX_BATCH_COMMANDS = 500
MAX_BATCHES = 4
MAX_WAITING_COMMANDS = 10_000
MIN_SPACING_SECONDS, MAX_SPACING_SECONDS = 0.002, 0.02
SLOW_BATCH_SECONDS = 0.5
CLOSED = Unavailable("the service is closed")
_LATE = "not decided within {:g} s"


class PendingCall(Struct, eq=False):
    """A command, and the future of its outcome."""

    command: ParsedCommand
    deadline: datetime
    outcome: asyncio.Future[Outcome]
    is_queued: bool = True

    def answer(self, outcome: Outcome) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def fail(self, error: Exception) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)


class Batch(Struct, eq=False):
    """Commands that are decided together, at most one of each aggregate.

    Until a moment of the event loop's clock it is recent: no other batch starts beside it unless
    that would be full. From another moment on it is slow, and does not count among the MAX_BATCHES.
    """

    recent_until: float
    slow_from: float
    calls: list[PendingCall] = []


class CommandBatcher:
    """Used as `async with`, in one event loop; any number of tasks may call `decide` at once.

    Commands that arrive while a batch is being decided go together into the next: few large
    batches cost less than many small ones. A batch has up to MAX_BATCH_COMMANDS commands,
    MAX_BATCHES are decided at once, MAX_WAITING_COMMANDS commands wait in all. Another batch starts
    beside one that has run for half the time that the last one took, between MIN_SPACING_SECONDS
    and MAX_SPACING_SECONDS, or when it would be full. A batch that takes longer than
    SLOW_BATCH_SECONDS does not count. An aggregate's commands go one after the other, as they were
    sent. `outcomes` counts the commands.
    """

    def __init__(self, decider: Decider) -> None:
        self._decider = decider
        self.outcomes = Counter(dict.fromkeys(OUTCOME_NAMES.values(), 0))
        self._room = asyncio.Semaphore(MAX_WAITING_COMMANDS)
        # By aggregate, what waits; the key stays while a command of the aggregate is in a batch.
        self._queues: dict[str, deque[PendingCall]] = {}
        # Aggregates of which a command waits and none is in a batch.
        self._ready: deque[str] = deque()
        self._batches: dict[Batch, asyncio.Task[None]] = {}
        self._spacing = MAX_SPACING_SECONDS
        self._next: Batch | None = None  # begins to be decided with the next turn of the loop
        self._timer: asyncio.TimerHandle | None = None
        self._is_open = False

    async def __aenter__(self) -> Self:
        self._is_open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        """Answer Unavailable to every command that is not decided yet."""
        self._is_open = False
        in_batches = [batch.calls for batch in self._batches]
        for call in chain(*self._queues.values(), *in_batches):
            call.answer(CLOSED)
        for task in self._batches.values():
            task.cancel()
        await asyncio.gather(*self._batches.values(), return_exceptions=True)

    async def decide(self, command: ParsedCommand, deadline: datetime, timeout: float) -> Outcome:
        """Decide one command; Unavailable after `timeout` seconds at the latest.

        The decider gets the `deadline`, by its own clock: the command's own, since others of its
        batch may have a later one.
        """
        command, limit = make_tuple(type(command), (*command[:-1], deadline)), Timeout(timeout)
        try:
            with limit:
                async with self._room:
                    outcome = await self._wait(command, deadline) if self._is_open else CLOSED
        except TimeoutError:
            if not limit.expired:
                raise  # the decider's own
            outcome = Unavailable(_LATE.format(timeout))
        self.outcomes[OUTCOME_NAMES[type(outcome)]] += 1
        return outcome

    async def _wait(self, command: ParsedCommand, deadline: datetime) -> Outcome:
        """Queue a command for the next batches, and wait for its outcome.

        Its caller may go away meanwhile; a command in a batch is decided all the same.
        """
        call = PendingCall(command, deadline, asyncio.get_running_loop().create_future())
        aggregate_id = command.event.aggregate_id
        queue = self._queues.get(aggregate_id)
        if queue is None:
            queue = self._queues[aggregate_id] = deque()
            self._ready.append(aggregate_id)
            self._start_batch()
        queue.append(call)
        try:
            return await call.outcome
        finally:
            if call.is_queued:
                queue.remove(call)
            del call  # else an error's traceback leads to its future, and so to itself

    def _start_batch(self) -> None:
        """Start a batch of all commands of this turn of the loop, or once one may start."""
        is_full = len(self._ready) >= MAX_BATCH_COMMANDS
        if self._next or not self._ready or not self._is_open or (self._timer and not is_full):
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        running = [batch for batch in self._batches if batch.slow_from > now]
        is_recent = any(batch.recent_until > now for batch in running)
        if len(running) < MAX_BATCHES and (is_full or not is_recent):
            self._next = Batch(now + self._spacing, now + SLOW_BATCH_SECONDS)
            self._batches[self._next] = loop.create_task(self._decide(self._next))
        elif not self._timer:
            moments = chain.from_iterable((b.recent_until, b.slow_from) for b in running)
            next_moment = min(each for each in moments if each > now)
            self._timer = loop.call_at(next_moment, self._start_next)

    def _start_next(self) -> None:
        """Start a batch, unless that has to wait for other reasons than before."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._start_batch()

    def _take_calls(self) -> list[PendingCall]:
        """Take the first command of each aggregate that is ready."""
        calls: list[PendingCall] = []
        while self._ready and len(calls) < MAX_BATCH_COMMANDS:
            aggregate_id = self._ready.popleft()
            if queue := self._queues[aggregate_id]:
                calls.append(queue.popleft())
                calls[-1].is_queued = False
            else:
                del self._queues[aggregate_id]
        return calls

    async def _decide(self, batch: Batch) -> None:
        self._next, batch.calls = None, self._take_calls()
        calls = batch.calls
        self._start_batch()  # of what this one has no room for
        undecided = dict(enumerate(calls))

        def answer(index: int, outcome: Outcome) -> None:
            """Answer a call, and let its aggregate's next command go."""
            if call := undecided.pop(index, None):
                call.answer(outcome)
                aggregate_id = call.command.event.aggregate_id
                if self._queues[aggregate_id]:
                    self._ready.append(aggregate_id)
                    self._start_batch()
                else:
                    del self._queues[aggregate_id]

        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            if calls:
                deadline = max(call.deadline for call in calls)
                await self._decider.decide([call.command for call in calls], deadline, answer)
        except Exception as error:
            for index in undecided:
                undecided[index].fail(error)
        finally:
            for index in [*undecided]:
                answer(index, CLOSED)
            spacing = (loop.time() - began) / 2
            self._spacing = min(max(spacing, MIN_SPACING_SECONDS), MAX_SPACING_SECONDS)
            del self._batches[batch]
            calls.clear()  # an error's traceback holds them, and they hold the error
            self._start_next()
