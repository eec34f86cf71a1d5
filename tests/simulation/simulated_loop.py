"""An event loop in simulated time: its scheduler decides which process goes on, a step at a time.

Within a process callbacks come in their order; between processes they come as the dice fall.
Queues and handles are its own: asyncio's took a third of the simulation's time.
"""

import asyncio
import heapq
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from itertools import count
from typing import Any

from tests.simulation.scheduler import Scheduler

MAX_STEP_SECONDS = 0.004
MAX_LAST_STEPS = 3000


class Process:
    """A process of the fleet: what it runs ends all at once when it is killed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.wakes_at = 0.0
        self.ready: deque[Handle] = deque()


class Handle:
    """A callback that a process runs once it is its turn. Stands for asyncio's."""

    __slots__ = ("_args", "_callback", "_cancelled", "_context", "_process", "_when")

    def __init__(
        self,
        process: Process,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context,
        when: float,
    ) -> None:
        self._process, self._context = process, context
        self._callback, self._args, self._when = callback, args, when
        self._cancelled = False

    def be_ready(self) -> None:
        """Be the last one in the process's turn."""
        if not self._cancelled:
            self._process.ready.append(self)

    def run(self) -> None:
        self._context.run(self._callback, *self._args)

    def when(self) -> float:
        return self._when

    def cancel(self) -> None:
        self._cancelled = True
        with suppress(ValueError):
            self._process.ready.remove(self)

    def cancelled(self) -> bool:
        return self._cancelled


_process: ContextVar[Process | None] = ContextVar("process", default=None)


class SimulatedLoop(asyncio.BaseEventLoop):
    """An event loop without I/O. `scheduler` counts its steps and rolls its dice."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self.scheduler = scheduler
        self.error: BaseException | None = None
        self._seconds = 0.0
        self._outside = Process("")
        self._processes = [self._outside]
        self._living = [self._outside]
        self._timers: list[tuple[float, int, Handle]] = []
        self._numbers = count()
        self._kept: list[asyncio.Task[Any]] = []
        self.set_exception_handler(self._note_error)
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self._seconds

    def enter(self) -> None:
        """Become the running loop of this thread."""
        self._thread_id = threading.get_ident()
        asyncio._set_running_loop(self)

    def leave(self) -> None:
        """Cancel all that runs, and let the thread have another loop."""
        for process in self._processes:
            process.alive, process.wakes_at = True, 0.0
        self._living = self._processes
        for task in self._kept:
            task.cancel()
        steps = 0
        while steps < MAX_LAST_STEPS and not all(task.done() for task in self._kept):
            self.step()
            steps += 1
        asyncio._set_running_loop(None)
        self._thread_id = None
        self.close()

    def start(self, process: Process, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine in a process."""
        if process not in self._processes:
            self._processes.append(process)
            self._living.append(process)
        context = copy_context()
        context.run(_process.set, process)
        return self.create_task(work, context=context)

    def kill(self, process: Process) -> None:
        self.scheduler.tell(process.name, "is killed")
        process.alive = False
        self._living.remove(process)

    def stall(self, process: Process, seconds: float) -> None:
        self.scheduler.tell(process.name, "stands still for seconds:", round(seconds, 3))
        process.wakes_at = self._seconds + seconds

    def step(self) -> None:
        """Run one callback; where none is ready, let time pass until one is."""
        scheduler = self.scheduler
        scheduler.steps += 1
        random = scheduler.random.random
        self._seconds = now = self._seconds + random() * MAX_STEP_SECONDS
        timers = self._timers
        while timers and timers[0][0] <= now:
            heapq.heappop(timers)[2].be_ready()
        ready = [each for each in self._living if each.ready and each.wakes_at <= now]
        if not ready:
            self._pass_time()
            return
        process = ready[int(random() * len(ready))]
        scheduler.running = process.name
        try:
            process.ready.popleft().run()
        except Exception as error:
            self.error = self.error or error

    def _pass_time(self) -> None:
        waking = [process.wakes_at for process in self._living if process.ready]
        waking += [when for when, _, _ in self._timers[:1]]
        if waking:
            self._seconds = max(self._seconds, min(waking))

    # What asyncio calls

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        handle = self._handle(callback, args, context, 0.0)
        handle.be_ready()
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> Any:
        return self.call_at(self._seconds + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> Any:
        handle = self._handle(callback, args, context, when)
        heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def _handle(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None,
        when: float,
    ) -> Handle:
        if context is None:
            context = copy_context()
        return Handle(context.get(_process) or self._outside, callback, args, context, when)

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._kept.append(task)  # none is collected, and ends, in the middle of a schedule
        return task

    def _note_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.error = self.error or context.get("exception")

    def _process_events(self, event_list: Any) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps in a selector."""
