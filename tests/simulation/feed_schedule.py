"""One schedule of feeds: faults while clients follow, then all copies must equal the store's."""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from random import Random
from unittest.mock import patch

from eventfleet.feeds import event_feed
from eventfleet.web import feed_response
from tests.simulation.checker import BrokenInvariant
from tests.simulation.feed_world import PARTITIONS, Copy, FeedScenario, FeedWorld
from tests.simulation.simulated_loop import Process
from tests.simulation.story import tell

BUSY = 3_000
MAX_QUIET_STEPS = 20_000
CONSTANTS = {
    event_feed: {"PAGE_EVENTS": 3, "MAX_KEPT_EVENTS": 6},
    feed_response: {
        "MAX_UNREAD_BYTES": 1_000,
        "SEND_SECONDS": 2.0,
        "CHUNK_BYTES": 300,
        "HEARTBEAT_SECONDS": 1.5,
    },
}
"""Small ones, so that little is enough to be behind."""


class FeedSchedule:
    def __init__(self, scenario: FeedScenario, seed: int | Random) -> None:
        self.scenario = scenario
        self.world = FeedWorld(scenario, seed)
        self.loop, self.scheduler = self.world.loop, self.world.scheduler
        self.random = self.world.random

    def run(self) -> None:
        """BrokenInvariant when a promise breaks; it tells the steps."""
        state = random.getstate()
        random.seed(0)
        try:
            with ExitStack() as stack:
                stack.enter_context(patch("time.monotonic", self.loop.time))
                for module, values in CONSTANTS.items():
                    stack.enter_context(patch.multiple(module, **values))
                self._run()
        finally:
            random.setstate(state)

    def _run(self) -> None:
        self.loop.enter()
        try:
            self._begin()
            self._busy()
            self._settle()
        except BrokenInvariant as violation:
            violation.args = (f"{violation}\n{tell(self.scheduler.trace)}",)
            raise
        finally:
            self.loop.leave()

    def _begin(self) -> None:
        world = self.world
        for number in range(self.scenario.services):
            world.start_service(number)
        for partition in range(PARTITIONS):
            self.loop.start(Process(f"append {partition}"), world.write(partition))
        for number in range(self.scenario.clients):
            copy = Copy(self.random.choice(self.scenario.followings))
            world.copies.append(copy)
            process = Process(f"client {number}")
            self.loop.start(process, world.follow(process, copy))

    def _busy(self) -> None:
        for _ in range(self.random.randint(BUSY // 4, BUSY)):
            self._disturb()
            self._step()

    def _disturb(self) -> None:
        chance, scenario, world = self.scheduler.chance, self.scenario, self.world
        if chance(scenario.cuts) and world.wires:
            self.scheduler.counts["a connection is cut"] += 1
            wires = [wire for _, wire in world.wires]
            self.random.choice([each for each in wires if each.pending] or wires).cut()
        service = self.random.choice(world.services)
        if chance(scenario.stalls) and service.process.wakes_at <= self.loop.time():
            self.scheduler.counts["a service stands still"] += 1
            self.loop.stall(service.process, self.random.choice((0.3, 3.0, 12.0)))
        if chance(scenario.kills):
            self.scheduler.counts["a service is killed"] += 1
            world.kill(service)
            world.start_service(self.scheduler.steps)
        if chance(scenario.restores) and world.left > 0:
            self.scheduler.counts["the store is restored"] += 1
            world.restore()

    def _settle(self) -> None:
        self.scheduler.tell("the schedule", "goes quiet")
        self.world.failing = 0.0
        for step in range(MAX_QUIET_STEPS):
            self._step()
            if step % 50 == 0 and self.world.left <= 0 and self._all_are_current():
                break
        else:
            behind = [copy for copy in self.world.copies if not self.world.is_current(copy)]
            raise BrokenInvariant("a copy is not the store's", f"{behind}")
        for _ in range(500):
            self._step()
        if not self._all_are_current():
            raise BrokenInvariant("a copy is not the store's", "it was before")

    def _all_are_current(self) -> bool:
        return all(map(self.world.is_current, self.world.copies))

    def _step(self) -> None:
        self.loop.step()
        if self.loop.error:
            if isinstance(self.loop.error, BrokenInvariant):
                raise self.loop.error
            raise BrokenInvariant("error", repr(self.loop.error)) from self.loop.error


def run(scenario: FeedScenario, seeds: range) -> Counter[str]:
    """Return in how many schedules each fault occurred."""
    occurred: Counter[str] = Counter()
    for seed in seeds:
        schedule = FeedSchedule(scenario, seed)
        try:
            schedule.run()
        except BrokenInvariant as violation:
            raise AssertionError(f"seed {seed}: {violation}") from violation
        occurred.update(schedule.scheduler.counts.keys())
    return occurred


def violations(scenario: FeedScenario, seeds: range) -> Iterator[BrokenInvariant]:
    for seed in seeds:
        try:
            FeedSchedule(scenario, seed).run()
        except BrokenInvariant as violation:
            yield violation
