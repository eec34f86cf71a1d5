"""The workers of one role in a rehearsal, and what is noted of them in each step of the load."""

import time
from contextlib import suppress
from dataclasses import dataclass, field
from math import ceil

from benchmarks.autoscale.orders import SECONDS_PER_RECORD
from benchmarks.autoscale.scaler import (
    TOLERANCE,
    HorizontalAutoscaler,
    desired_replicas,
    reported_lag,
)
from tests.acceptance.fleet import Fleet, Worker


@dataclass(frozen=True)
class Plan:
    """What a worker takes in records a second, and how the workers of a role are scaled.

    `lag_threshold`: lag for each worker, in records. `grace`: seconds to stop in, after SIGTERM.
    """

    records_per_second: float
    lag_threshold: int
    grace: float
    partitions: int

    def workers_for(self, rate: int) -> int:
        """Return how many workers a load takes."""
        return ceil(rate / self.records_per_second)

    def target_lag(self, rate: int) -> int:
        """Return the lag at which the scaling leaves a load: the threshold for each worker."""
        return ceil((1 + TOLERANCE) * self.workers_for(rate) * self.lag_threshold)


@dataclass
class StepFigures:
    """What was noted of one role in one step: the workers it began and ended with, and the most;
    after how many seconds so many as the load takes were ready; its highest lag, and after how many
    seconds that was drained to its target; how often partitions were assigned."""

    rate: int
    role: str
    first_workers: int
    workers: int = 0
    most_workers: int = 0
    enough_after: float | None = 0.0
    peak_lag: int = 0
    drained_after: float | None = 0.0
    rebalances: int = 0
    seconds: float = 0.0


@dataclass
class Workload:
    """The workers of a role; the newest are stopped first, so the oldest sees every rebalance."""

    fleet: Fleet
    role: str
    plan: Plan
    scaler: HorizontalAutoscaler | None
    workers: list[Worker] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    lag: int = 0
    _ready: list[Worker] = field(default_factory=list)
    _stopping: list[tuple[Worker, float]] = field(default_factory=list)
    _step: StepFigures | None = None
    _step_began: float = 0.0
    _rebalances_before: int = 0

    def run(self, replicas: int) -> None:
        """Start or stop workers until there are so many. A stop is not waited for."""
        while len(self.workers) < replicas:
            self.workers.append(self._start())
        while len(self.workers) > replicas:
            worker = self.workers.pop()
            worker.process.terminate()
            self._stopping.append((worker, time.monotonic() + self.plan.grace))

    def _start(self) -> Worker:
        environment = dict(self.fleet.environment)
        if self.scaler:
            environment[SECONDS_PER_RECORD] = str(1 / self.plan.records_per_second)
        log = self.fleet.folder / f"{self.role}-{len(self.fleet.workers)}.log"
        worker = Worker((self.role,), environment, log)
        self.fleet.workers.append(worker)
        return worker

    def scale(self, lags: list[int]) -> None:
        """Note the lag of the partitions, and run as many workers as that calls for."""
        self.lag = sum(lags)
        self._note_lag()
        if self.scaler:
            replicas, threshold = len(self.workers), self.plan.lag_threshold
            target = desired_replicas(reported_lag(lags, threshold), threshold, replicas)
            self.run(self.scaler.decide(time.monotonic(), replicas, target))

    def check_processes(self) -> None:
        """Note as a problem each worker that ended by itself, or did not stop as it should."""
        for worker in [each for each in self.workers if each.process.poll() is not None]:
            self.workers.remove(worker)
            self._add_problem(worker, f"ended by itself with status {worker.process.returncode}")
        still: list[tuple[Worker, float]] = []
        for worker, deadline in self._stopping:
            if (status := worker.process.poll()) is None and time.monotonic() < deadline:
                still.append((worker, deadline))
            elif status is None:
                worker.kill()
                self._add_problem(worker, f"had not stopped within {self.plan.grace:g} s")
            elif status:
                self._add_problem(worker, f"stopped with status {status}")
        self._stopping = still

    def note_ready(self) -> None:
        """Note which workers have been ready, by their health pages. It blocks."""
        for worker in [each for each in self.workers if each not in self._ready]:
            with suppress(OSError):
                if worker.get("/ready")[0] == 200:
                    self._ready.append(worker)
        if (step := self._step) and step.enough_after is None and self._has_enough(step.rate):
            step.enough_after = time.monotonic() - self._step_began

    def _has_enough(self, rate: int) -> bool:
        ready = sum(worker in self._ready for worker in self.workers)
        return ready >= min(self.plan.workers_for(rate), self.plan.partitions)

    @property
    def is_stopping(self) -> bool:
        return bool(self._stopping)

    def _add_problem(self, worker: Worker, what: str) -> None:
        self.problems.append(f"a worker of {self.role} {what}:\n{worker.output()[-2000:]}")

    # The figures of a step

    def begin_step(self, rate: int) -> None:
        self._step = StepFigures(rate, self.role, len(self.workers))
        if not self._has_enough(rate):
            self._step.enough_after = None
        self._step_began, self._rebalances_before = time.monotonic(), self._rebalances()

    def end_step(self) -> StepFigures:
        assert self._step is not None
        step, self._step = self._step, None
        step.workers = len(self.workers)
        step.rebalances = self._rebalances() - self._rebalances_before
        step.seconds = time.monotonic() - self._step_began
        return step

    @property
    def is_drained(self) -> bool:
        """True if the lag has come down to its target since its peak."""
        return self._step is not None and self._step.drained_after is not None

    def _note_lag(self) -> None:
        if (step := self._step) is None:
            return
        step.most_workers = max(step.most_workers, len(self.workers))
        if self.lag > step.peak_lag:
            step.peak_lag = self.lag
            if self.lag > self.plan.target_lag(step.rate):
                step.drained_after = None
        if step.drained_after is None and self.lag <= self.plan.target_lag(step.rate):
            step.drained_after = time.monotonic() - self._step_began

    def _rebalances(self) -> int:
        return int(
            self.workers[0].metric("rebalances_total", role=self.role) if self.workers else 0
        )
