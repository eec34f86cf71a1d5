"""An event loop in simulated time: its scheduler decides which process goes on, a step at a time.

Within a process callbacks come in their order; between processes they come as the dice fall.
"""

import asyncio
import heapq
import threading
from collections.abc import Coroutine
from contextvars import ContextVar, copy_context
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


_process: ContextVar[Process | None] = ContextVar("process", default=None)


class SimulatedLoop(asyncio.BaseEventLoop):
    """An event loop without I/O. `scheduler` counts its steps and rolls its dice."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self.scheduler = scheduler
        self.error: BaseException | None = None
        self._seconds = 0.0
        self._processes: list[Process] = []
        self._dead: list[asyncio.Handle] = []  # what dead processes would have done next
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
        self._ready.extend(self._dead)
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
        self._processes.append(process)
        context = copy_context()
        context.run(_process.set, process)
        return self.create_task(work, context=context)

    def kill(self, process: Process) -> None:
        self.scheduler.tell(process.name, "is killed")
        process.alive = False

    def stall(self, process: Process, seconds: float) -> None:
        self.scheduler.tell(process.name, "stands still for seconds:", round(seconds, 3))
        process.wakes_at = self._seconds + seconds

    def step(self) -> None:
        """Run one callback; where none is ready, let time pass until one is."""
        self.scheduler.steps += 1
        self._seconds += self.scheduler.random.random() * MAX_STEP_SECONDS
        self._take_due()
        firsts = self._first_of_each_process()
        if not firsts:
            self._pass_time()
            return
        process, handle = firsts[int(self.scheduler.random.random() * len(firsts))]
        self._ready.remove(handle)
        self.scheduler.running = process.name if process else ""
        handle._run()

    def _take_due(self) -> None:
        while self._scheduled and self._scheduled[0]._when <= self._seconds:
            timer = heapq.heappop(self._scheduled)
            timer._scheduled = False
            if not timer._cancelled:
                self._ready.append(timer)

    def _first_of_each_process(self) -> list[tuple[Process | None, asyncio.Handle]]:
        firsts: dict[Process | None, asyncio.Handle] = {}
        dropped = []
        for handle in self._ready:
            process = handle._context.get(_process)
            if process and not process.alive:
                self._dead.append(handle)
                dropped.append(handle)
            elif handle._cancelled:
                dropped.append(handle)
            elif not process or process.wakes_at <= self._seconds:
                firsts.setdefault(process, handle)
        for handle in dropped:
            self._ready.remove(handle)
        return list(firsts.items())

    def _pass_time(self) -> None:
        waking = [
            process.wakes_at
            for handle in self._ready
            if (process := handle._context.get(_process)) and process.alive
        ]
        timers = [self._scheduled[0]._when] if self._scheduled else []
        if waking or timers:
            self._seconds = max(self._seconds, min(waking + timers))

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
