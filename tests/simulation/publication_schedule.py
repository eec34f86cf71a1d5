"""One schedule of documents' publication: faults while processes edit, then the verdict."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count
from random import Random
from unittest.mock import patch
from uuid import UUID

from tests.simulation.checker import BrokenInvariant
from tests.simulation.publication_world import (
    DOCUMENTS,
    GROUPS,
    PublicationScenario,
    PublicationWorld,
)
from tests.simulation.scheduler import drive
from tests.simulation.simulated_loop import Process
from tests.simulation.story import tell

BUSY = 3_000
MAX_QUIET_STEPS = 20_000
MAX_MENDED_STEPS = 60_000
"""They take longer than a publisher at rest compares its dead letters with its memory."""
ASK_STEPS = 2_000
FIRST_TIME_NS = 1_700_000_000 * 10**9
STALLS_SECONDS = (0.3, 3.0, 7.0, 12.0)


def _owner_ids() -> Iterator[UUID]:
    return (UUID(int=number) for number in count(1))


class PublicationSchedule:
    def __init__(self, scenario: PublicationScenario, seed: int | Random) -> None:
        self.scenario = scenario
        self.world = PublicationWorld(scenario, seed)
        self.loop, self.scheduler = self.world.loop, self.world.scheduler
        self.random = self.world.random
        self.processes: list[Process] = []

    def run(self) -> None:
        """BrokenInvariant when a promise breaks; it tells the steps."""
        state = random.getstate()
        random.seed(0)
        parts = self.scenario.parts
        try:
            with ExitStack() as stack:
                stack.enter_context(patch("time.monotonic", self.loop.time))
                stack.enter_context(patch("time.time_ns", self._time_ns))
                stack.enter_context(
                    patch("eventfleet.documents.event_sourced.Publisher", parts.publisher)
                )
                publisher = "eventfleet.buses.publisher"
                stack.enter_context(patch(f"{publisher}.BATCH_EVENTS", 3))
                stack.enter_context(patch(f"{publisher}.uuid4", partial(next, _owner_ids())))
                stack.enter_context(patch(f"{publisher}.Publication", parts.publication))
                stack.enter_context(patch(f"{publisher}.Confirmations", parts.confirmations))
                self._run()
        finally:
            random.setstate(state)

    def _time_ns(self) -> int:
        """The time that ids begin with; the story tells their first part."""
        return FIRST_TIME_NS + int(self.loop.time() * 1e9)

    def _run(self) -> None:
        self.loop.enter()
        try:
            self._begin()
            self._busy()
            self._verdict()
        except BrokenInvariant as violation:
            violation.args = (f"{violation}\n{tell(self.scheduler.trace)}",)
            raise
        finally:
            self.loop.leave()

    # Who takes part

    def _begin(self) -> None:
        self.world.begin_bus()
        for number in range(self.scenario.processes):
            self._start_process(f"process {number}", self.scenario.edits)
        for name in GROUPS:
            self._start_subscriber(name)

    def _start_process(self, name: str, edits: int) -> None:
        process = Process(name)
        self.processes.append(process)
        self.loop.start(process, self.world.run_process(process, edits))

    def _start_subscriber(self, name: str) -> None:
        process = Process(f"subscriber {name}")
        self.processes.append(process)
        self.loop.start(process, self.world.run_subscriber(name))

    # What happens

    def _busy(self) -> None:
        for _ in range(self.random.randint(BUSY // 4, BUSY)):
            self._disturb()
            self._step()
        self.scheduler.tell("the schedule", "goes quiet")
        self.world.go_quiet()
        self._start_process("the last process", 2)
        for name in GROUPS:
            self._start_subscriber(name)
        self._until(self._is_published_but_for_poison, "not all is published or parked")
        self.world.mend()
        self.scheduler.tell("the team", "mends its code")
        drive(self.world.operate(discards=True))
        self._until(self._is_published, "not all is published", asks=True)

    def _until(self, holds: Callable[[], bool], otherwise: str, *, asks: bool = False) -> None:
        for number in range(MAX_MENDED_STEPS if asks else MAX_QUIET_STEPS):
            if holds():
                return
            if asks and number % ASK_STEPS == 0:
                drive(self.world.operate(discards=False))
            self._step()
        raise BrokenInvariant("stuck", otherwise)

    def _step(self) -> None:
        self.loop.step()
        if self.loop.error:
            raise BrokenInvariant("error", repr(self.loop.error)) from self.loop.error

    def _disturb(self) -> None:
        chance, scenario = self.scheduler.chance, self.scenario
        process = self.random.choice(self.processes)
        if chance(scenario.stalls) and process.wakes_at <= self.loop.time():
            self.scheduler.counts["a process stands still"] += 1
            self.loop.stall(process, self.random.choice(STALLS_SECONDS))
        if chance(scenario.kills) and process.alive:
            self._kill(process)
        if chance(scenario.restarts):
            self.scheduler.counts["the bus restarts empty"] += 1
            self.world.restart_bus()
        if scenario.poison and chance(0.002):
            drive(self.world.operate(discards=False))

    def _kill(self, process: Process) -> None:
        self.scheduler.counts["a process is killed"] += 1
        self.loop.kill(process)
        self.world.editing.discard(process)
        _, _, name = process.name.partition("subscriber ")
        if name:
            self._start_subscriber(name)
        else:
            self._start_process(f"{process.name}'", self.random.randint(0, 4))

    # The verdict

    def _is_quiet(self) -> bool:
        living = [each for each in self.processes if each.alive]
        outbox = self.world.store.outbox
        return (
            self.world.editing.isdisjoint(living)
            and not any(outbox.unsettled.values())
            and not outbox._published
        )

    def _is_published_but_for_poison(self) -> bool:
        bad = {id for code in self.world.code for id in code.poison | code.refused}
        parked = drive(self.world.store.outbox.parked_aggregates())
        return self._is_quiet() and parked <= bad

    def _is_published(self) -> bool:
        return self._is_quiet() and not self.world.store.outbox._parked and not self._listed()

    def _listed(self) -> object:
        return drive(self.world.store.letters.count())

    def _verdict(self) -> None:
        stored = {id: self._versions(id) for id in DOCUMENTS}
        for id, version in self.world.acknowledged.items():
            if version > len(stored[id]):
                raise BrokenInvariant("an acknowledged edit is lost", f"{id} {version}")
        for name in GROUPS:
            handled = defaultdict(set)
            for event in self.world.handled[name]:
                handled[event.aggregate_id].add(event.version)
            for id, versions in stored.items():
                missing = {
                    version
                    for version in {*versions} - handled[id]
                    if (id, version) not in self.world.discarded
                }
                if missing:
                    raise BrokenInvariant("not delivered", f"{name} lacks {id} {sorted(missing)}")
        for entries in [*self.world.streams, self.world.server.entries]:
            self._check_order(entries)
        for seen in self.world.watched.values():
            if seen != sorted({*seen}):
                raise BrokenInvariant("watched in another order", seen)

    def _versions(self, id: str) -> list[int]:
        return sorted(self.world.store._events.get(id, {}))

    def _check_order(self, entries: list[object]) -> None:
        """Check that of each document the first occurrences are in version order.

        A publisher that has lost its lease may publish an event after it was discarded.
        """
        highest: dict[str, int] = {}
        first: set[str] = set()
        for event in entries:
            if event.id in first:  # type: ignore[attr-defined]
                continue
            first.add(event.id)  # type: ignore[attr-defined]
            id, version = event.aggregate_id, event.version  # type: ignore[attr-defined]
            if (id, version) in self.world.discarded:
                continue
            if version < highest.get(id, 0):
                raise BrokenInvariant("out of order", f"{id} {version} after {highest[id]}")
            highest[id] = version


def run(scenario: PublicationScenario, seeds: range) -> Counter[str]:
    """Return in how many schedules each fault occurred."""
    occurred: Counter[str] = Counter()
    for seed in seeds:
        schedule = PublicationSchedule(scenario, seed)
        try:
            schedule.run()
        except BrokenInvariant as violation:
            raise AssertionError(f"seed {seed}: {violation}") from violation
        occurred.update(schedule.scheduler.counts.keys())
    return occurred


def violations(scenario: PublicationScenario, seeds: range) -> Iterator[BrokenInvariant]:
    for seed in seeds:
        try:
            PublicationSchedule(scenario, seed).run()
        except BrokenInvariant as violation:
            yield violation
