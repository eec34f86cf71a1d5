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

    calls: list[PendingCall]
    recent_until: float
    slow_from: float


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
        self._wake = asyncio.Event()
        self._starter: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._starter = asyncio.create_task(self._start_batches())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Answer Unavailable to every command that is not decided yet."""
        starter, self._starter = self._starter, None
        in_batches = [batch.calls for batch in self._batches]
        for call in chain(*self._queues.values(), *in_batches):
            call.answer(CLOSED)
        tasks = [*self._batches.values(), *([starter] if starter else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def decide(self, command: ParsedCommand, deadline: datetime, timeout: float) -> Outcome:
        """Decide one command; Unavailable after `timeout` seconds at the latest.

        The decider gets the `deadline`, by its own clock: the command's own, since others of its
        batch may have a later one.
        """
        command, limit = make_tuple(type(command), (*command[:-1], deadline)), Timeout(timeout)
        try:
            with limit:
                async with self._room:
                    outcome = await self._wait(command, deadline) if self._starter else CLOSED
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
            self._wake.set()
        queue.append(call)
        try:
            return await call.outcome
        finally:
            if call.is_queued:
                queue.remove(call)
            del call  # else an error's traceback leads to its future, and so to itself

    async def _start_batches(self) -> None:
        """Start batches whenever one may start, each with every command of a turn of the loop."""
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle | None = None
        await asyncio.sleep(0)  # what was sent before this task began is of this turn, too
        while await self._wake.wait():
            self._wake.clear()
            while calls := self._take_calls(loop.time()):
                batch = Batch(calls, loop.time() + self._spacing, loop.time() + SLOW_BATCH_SECONDS)
                self._batches[batch] = asyncio.create_task(self._decide(batch))
            if timer:
                timer.cancel()
            if self._ready:
                timer = loop.call_at(self._next_moment(loop.time()), self._wake.set)

    def _next_moment(self, now: float) -> float:
        """When a batch will no longer be recent, or be slow, at the earliest."""
        moments = chain.from_iterable((b.recent_until, b.slow_from) for b in self._batches)
        return min((each for each in moments if each > now), default=now)

    def _take_calls(self, now: float) -> list[PendingCall]:
        """The first command of each aggregate that is ready; none while no batch may start."""
        running = [batch for batch in self._batches if batch.slow_from > now]
        is_full = len(self._ready) >= MAX_BATCH_COMMANDS
        if len(running) >= MAX_BATCHES or (
            not is_full and any(batch.recent_until > now for batch in running)
        ):
            return []
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
        calls = batch.calls
        undecided = dict(enumerate(calls))

        def answer(index: int, outcome: Outcome) -> None:
            """Answer a call, and let its aggregate's next command go."""
            if call := undecided.pop(index, None):
                call.answer(outcome)
                aggregate_id = call.command.event.aggregate_id
                if self._queues[aggregate_id]:
                    self._ready.append(aggregate_id)
                    self._wake.set()
                else:
                    del self._queues[aggregate_id]

        loop = asyncio.get_running_loop()
        began, deadline = loop.time(), max(call.deadline for call in calls)
        try:
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
            self._wake.set()
