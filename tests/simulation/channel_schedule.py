"""One schedule of commands over channels: faults while the clients talk, then the verdict."""

import random
from collections import Counter
from collections.abc import Iterator
from random import Random
from unittest.mock import patch

from eventfleet.feeds.channel_commands import ChannelCommand
from eventfleet.topics.event import event_id
from tests.simulation.accounts import accounts
from tests.simulation.channel_world import ChannelScenario, ChannelWorld, Sending
from tests.simulation.checker import BrokenInvariant
from tests.simulation.scheduler import drive
from tests.simulation.simulated_loop import Process
from tests.simulation.story import tell

BUSY = 1_200
MAX_QUIET_STEPS = 20_000
STALLS_SECONDS = (0.3, 3.0, 7.0, 12.0)
NOTHING_DONE = ("rejected", "invalid", "conflict", "failed")


class ChannelSchedule:
    def __init__(self, scenario: ChannelScenario, seed: int | Random) -> None:
        self.scenario = scenario
        self.world = ChannelWorld(scenario, seed)
        self.loop, self.scheduler = self.world.loop, self.world.scheduler
        self.random = self.world.random
        self.processes: list[Process] = []

    def run(self) -> None:
        """BrokenInvariant when a promise breaks; it tells the steps."""
        state = random.getstate()
        random.seed(0)
        try:
            with patch("time.monotonic", self.loop.time):
                self._run()
        finally:
            random.setstate(state)

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
        clients: list[list[list[ChannelCommand]]] = [[] for _ in range(self.scenario.processes)]
        for number in range(self.random.randint(2, self.scenario.clients)):
            count = self.random.randint(1, self.scenario.commands)
            commands = [self._command(f"c{number}-{each}") for each in range(count)]
            self.random.choice(clients).append(commands)
        for number, of_process in enumerate(clients):
            process = Process(f"process {number}")
            self.processes.append(process)
            self.loop.start(process, self.world.run_process(process, of_process))

    def _command(self, command_id: str) -> ChannelCommand:
        name = self.random.choice(["Deposit", "Withdraw"])
        amount = self.random.randint(1, 4)
        data = {"n": command_id, "amount": amount}
        return ChannelCommand(command_id, name, self.random.choice(["a", "a", "b"]), "ann", data)

    # What happens

    def _busy(self) -> None:
        for _ in range(self.random.randint(BUSY // 4, BUSY)):
            self._disturb()
            self._step()
        self.scheduler.tell("the schedule", "goes quiet")
        for _ in range(MAX_QUIET_STEPS):
            if self._is_done():
                break
            self._step()
        else:
            raise BrokenInvariant("stuck", f"not done after {MAX_QUIET_STEPS} quiet steps")
        ends = self.loop.time() + 2 * max(STALLS_SECONDS)
        while self.loop.time() < ends:
            self._step()

    def _step(self) -> None:
        self.loop.step()
        if self.loop.error:
            raise BrokenInvariant("error", repr(self.loop.error)) from self.loop.error

    def _is_done(self) -> bool:
        living = [process for process in self.processes if process.alive]
        return self.world.talking.isdisjoint(living)

    def _disturb(self) -> None:
        chance, scenario = self.scheduler.chance, self.scenario
        process = self.random.choice(self.processes)
        if chance(scenario.stalls) and process.wakes_at <= self.loop.time():
            self.scheduler.counts["a process stands still"] += 1
            self.loop.stall(process, self.random.choice(STALLS_SECONDS))
        if chance(scenario.kills) and sum(each.alive for each in self.processes) > 1:
            self.scheduler.counts["a process is killed"] += 1
            self.loop.kill(process)
        if chance(scenario.restarts):
            self.scheduler.counts["the channels' server begins anew"] += 1
            self.scheduler.tell("the channels' server", "begins anew")
            self.world.channels.stop()
            self.world.channels.start()

    # The verdict

    def _verdict(self) -> None:
        stored = {event.id for key in ("a", "b") for event in drive(self._history(key))}
        for sending in self.world.sendings:
            if sending.outcome:
                self._check(sending, stored)

    async def _history(self, key: str) -> list[object]:
        return [event async for event in self.world.events.read(key)]

    def _check(self, sending: Sending, stored: set[str]) -> None:
        """Check that nothing is put once its sender has been answered, and that what was refused
        is not stored."""
        command = sending.command
        first = event_id(accounts.name, command.aggregate_id, command.id)
        if sending.outcome in NOTHING_DONE and first in stored:
            raise BrokenInvariant("refused and stored", f"{command}: {sending.outcome}")
        if late := [
            at for at in self.world.events.put_at.get(first, ()) if at > sending.answered_at
        ]:
            told = f"{command}: {sending.outcome} at {sending.answered_at}, put at {late}"
            raise BrokenInvariant("put after its sender was answered", told)


def run(scenario: ChannelScenario, seeds: range) -> Counter[str]:
    """Return how many commands had each outcome, and in how many schedules each fault occurred."""
    occurred: Counter[str] = Counter()
    for seed in seeds:
        schedule = ChannelSchedule(scenario, seed)
        try:
            schedule.run()
        except BrokenInvariant as violation:
            raise AssertionError(f"seed {seed}: {violation}") from violation
        occurred.update(schedule.scheduler.counts.keys())
        occurred.update(sending.outcome for sending in schedule.world.sendings)
    return occurred


def violations(scenario: ChannelScenario, seeds: range) -> Iterator[BrokenInvariant]:
    for seed in seeds:
        try:
            ChannelSchedule(scenario, seed).run()
        except BrokenInvariant as violation:
            yield violation
