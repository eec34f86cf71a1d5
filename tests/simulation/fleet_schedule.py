"""One schedule of a fleet: faults, then quiet, then every command once more, and the verdict."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from random import Random
from typing import NamedTuple
from unittest.mock import patch

from eventfleet.deciders.manager import Manager
from eventfleet.deciders.outcomes import Outcome, VersionConflict
from eventfleet.deciders.state_command import StateCommand, parse_state_command
from eventfleet.topics.codec import encode
from eventfleet.topics.event import CommandRecord
from eventfleet.topics.record import ProducerRecord
from tests.simulation.accounts import accounts
from tests.simulation.checker import BrokenInvariant, check_emitted, check_folds, check_versions
from tests.simulation.fleet_checker import (
    Answer,
    check_answers,
    check_balances,
    check_expected,
    check_refusals,
    check_rejections,
    check_whole,
)
from tests.simulation.fleet_world import TOPICS, FleetScenario, FleetWorld, LoopClock, serve
from tests.simulation.scheduler import checkpoint
from tests.simulation.shrinker import tell_shrunk
from tests.simulation.simulated_loop import Process
from tests.simulation.story import tell

BUSY = 1500
PATIENCE = 40_000


class AccountCommand(NamedTuple):
    """A command of the accounts, by its id."""

    id: str
    name: str
    aggregate_id: str
    amount: int

    def __str__(self) -> str:
        return f"{self.id} {self.name} {self.amount} of {self.aggregate_id}"


class SimulatedService:
    """A process with a Manager."""

    def __init__(self, world: FleetWorld, name: str) -> None:
        self.process = Process(name)
        self.opened: asyncio.Future[tuple[Manager, LoopClock]] = world.loop.create_future()
        world.loop.start(self.process, serve(world, self.opened))


class SimulatedWorker:
    """A process with the owners of one role."""

    def __init__(self, world: FleetWorld, role: str, name: str) -> None:
        self.role, self.process = role, Process(name)
        self.released = asyncio.Event()
        world.loop.start(self.process, world.work(role, self.released))


class FleetSchedule:
    def __init__(self, scenario: FleetScenario, seed: int | Random) -> None:
        self.scenario = scenario
        self.world = FleetWorld(scenario, seed)
        self.loop, self.scheduler = self.world.loop, self.world.scheduler
        self.random, self.names = self.world.random, count(1)
        self.failing = self.scheduler.chance(scenario.failures)
        self.world.events.failing = self.failing
        self.answers: dict[str, list[Answer]] = {}
        self.services: list[SimulatedService] = []
        self.workers: dict[str, SimulatedWorker] = {}
        self.left: list[AccountCommand] = []
        self.sent: list[AccountCommand] = []
        self.calls: list[tuple[AccountCommand, Answer, Process]] = []
        self.quiet = False
        self.deposits_at: list[int] = []
        self.world.hesitate = self._hesitate

    def run(self) -> None:
        """Violation when an invariant breaks; it tells the steps."""
        state = random.getstate()
        random.seed(0)
        try:
            with (
                patch("time.monotonic", self.loop.time),
                patch("eventfleet.workers.owners.Owner", self.scenario.parts.owner),
            ):
                self._run()
        finally:
            random.setstate(state)

    def _run(self) -> None:
        self.loop.enter()
        try:
            self._begin()
            self._busy()
            self._settle()
            self._ask_again()
            self._verdict()
        except BrokenInvariant as violation:
            violation.args = (f"{violation}\n{tell(self.scheduler.trace)}",)
            raise
        except Exception as error:
            story = tell(self.scheduler.trace)
            raise BrokenInvariant("error", f"{error!r}\n{story}") from error
        finally:
            self.loop.leave()

    # Who takes part

    def _begin(self) -> None:
        for _ in range(self.scenario.services):
            self.services.append(self._service())
        for role in self.scenario.roles:
            self._hire(role)
        for number in range(self.random.randint(2, self.scenario.commands)):
            self.left.append(self._command(number))

    def _command(self, number: int) -> AccountCommand:
        if self.sent and self.scheduler.chance(0.15):
            return self.random.choice(self.sent)
        name = self.random.choice(["Deposit", "Withdraw", "Withdraw"])
        amount = self.random.randint(2, 5) if name == "Deposit" else self.random.randint(1, 3)
        aggregate_id = self.random.choice(self.world.aggregates)
        self.sent.append(command := AccountCommand(f"c{number}", name, aggregate_id, amount))
        return command

    def _service(self) -> SimulatedService:
        return SimulatedService(self.world, f"service {next(self.names)}")

    def _hire(self, role: str) -> None:
        """A worker takes all partitions of a role; the one before hears of that in time."""
        if former := self.workers.get(role):
            former.released.set()
        self.workers[role] = SimulatedWorker(self.world, role, f"{role} {next(self.names)}")

    # Calls

    def _record(self, command: AccountCommand, sending: str, expected: int | None) -> CommandRecord:
        return CommandRecord(
            id=command.id,
            type=command.name,
            domain=accounts.name,
            aggregate_id=command.aggregate_id,
            time=LoopClock(self.loop).now(),
            data={"n": command.id, "amount": command.amount},
            correlation_id=sending,
            expected_version=expected,
        )

    def _expected(self, aggregate_id: str) -> int | None:
        """Now and then the version that readers see, or one before it."""
        often = self.scenario.expecting
        if not (often and self.scheduler.chance(often)):
            return None
        return max(0, len(self.world.events.dates[aggregate_id]) - self.random.choice([0, 0, 1]))

    def _send(self, command: AccountCommand, *, by_topic: bool = True) -> None:
        """To a service, or now and then through the topic where that may be."""
        sending, expected = f"sending {next(self.names)}", self._expected(command.aggregate_id)
        record = self._record(command, sending, expected)
        parsed = parse_state_command(accounts, record)
        about = command.id, parsed.event.id, command.amount, command.aggregate_id
        answer = Answer(*about, sending, expected, began=self.scheduler.steps)
        self.answers.setdefault(command.id, []).append(answer)
        if by_topic and not self.quiet and self.scheduler.chance(0.4):
            self._enqueue(command, record, answer)
            return
        service = self.random.choice(self.services)
        self.loop.start(service.process, self._decide(service, command, parsed, answer))
        self.calls.append((command, answer, service.process))

    def _enqueue(self, command: AccountCommand, record: CommandRecord, answer: Answer) -> None:
        self.scheduler.tell("a sender", "produces the command", command)
        partition = self.world.partition(command.aggregate_id)
        key, value = command.aggregate_id.encode(), encode(record)
        self.world.log.append(ProducerRecord(TOPICS.commands, key, value, partition))
        answer.by_topic = True

    async def _decide(
        self,
        service: SimulatedService,
        command: AccountCommand,
        parsed: StateCommand,
        answer: Answer,
    ) -> None:
        manager, clock = await asyncio.shield(service.opened)
        self.scheduler.note("is asked", command)

        def keep(_: int, outcome: Outcome) -> None:
            answer.outcome, answer.ended = outcome, self.scheduler.steps
            if isinstance(outcome, VersionConflict):
                self.scheduler.count("a command expects another version")
            self.scheduler.note("answers", [command, outcome])

        seconds = 5.0 if self.quiet else self.random.choice([0.1, 0.5, 5.0])
        deadline = clock.steady() + timedelta(seconds=seconds)
        await manager.decide([parsed], deadline, keep)

    def _tend(self) -> None:
        """Calls that are undecided are made again, most of them; now and then another begins."""
        for call in list(self.calls):
            command, answer, process = call
            if answer.outcome is None and process.alive:
                continue
            self.calls.remove(call)
            if answer.unknown and (self.quiet or self.scheduler.chance(0.8)):
                self._send(command)
        if self.deposits_at and self.deposits_at[0] <= self.scheduler.steps:
            self.deposits_at.pop(0)
            self._deposit()
        if self.left and (self.quiet or self.scheduler.chance(0.03)):
            self._send(self.left.pop(0))

    # What happens

    def _busy(self) -> None:
        for _ in range(self.random.randint(BUSY // 4, BUSY)):
            if self.scheduler.chance(self.scenario.violence):
                self._disturb()
            if self.failing:
                self._fail_servers()
            self._step()

    def _step(self) -> None:
        if self.scheduler.steps % 4 == 0:
            self._tend()
        self.loop.step()
        if self.scenario.late:
            self.world.network.go_on()
        if self.scheduler.steps % 256 == 0:
            self.world.events.go_on()
        if self.world.fault or self.loop.error:
            raise self.world.fault or self.loop.error or RuntimeError

    def _disturb(self) -> None:
        if self.scheduler.chance(0.5):
            self._disturb_service(self.random.randrange(len(self.services)))
        else:
            self._disturb_worker(self.random.choice(self.scenario.roles))

    def _disturb_service(self, number: int) -> None:
        if self.scheduler.chance(0.5):
            self._kill_service(number)
        else:
            self.loop.stall(self.services[number].process, self.random.random())

    def _kill_service(self, number: int) -> None:
        self.scheduler.count("a service is killed")
        self.loop.kill(self.services[number].process)
        self.services[number] = self._service()

    def _disturb_worker(self, role: str) -> None:
        process = self.workers[role].process
        if self.scheduler.chance(0.5):
            self.scheduler.count(f"a worker of {role} is killed")
            self.loop.kill(process)
        else:
            self.scheduler.count(f"a worker of {role} stands still beside its successor")
            self.loop.stall(process, self.random.random())
        self._hire(role)

    async def _hesitate(self) -> None:
        """A worker of command stands still, with commands in hand, while its successor decides
        them; and a service changes the state behind that."""
        worker = self.workers["command"]
        standing = worker.process.name == self.scheduler.running
        if self.quiet or not standing or not self.scheduler.chance(self.scenario.hesitates):
            return
        self.scheduler.count("a worker of command stands still with commands in hand")
        self.loop.stall(worker.process, 0.4 + self.random.random())
        self._hire("command")
        self.deposits_at.append(self.scheduler.steps + self.random.randint(50, 500))
        await checkpoint()

    def _deposit(self) -> None:
        """Into each account, through a service."""
        for aggregate_id in self.world.aggregates:
            command = AccountCommand(f"d{next(self.names)}", "Deposit", aggregate_id, 5)
            self.sent.append(command)
            self._send(command, by_topic=False)

    def _fail_servers(self) -> None:
        events, chance = self.world.events, self.scheduler.chance
        if chance(0.003):
            steps = self.random.randint(20, self.scenario.longest_lag)
            self.scheduler.tell("the store's primary", "is alone for steps:", steps)
            events.lag(steps)
        if chance(self.scenario.elections if events.behind else 0.0005):
            self.scheduler.tell("the store", "elects another primary")
            events.fail_over()
        if holders := events.holders:
            for number, service in enumerate(self.services):
                if service.process.name in holders and chance(0.2):
                    self._kill_service(number)
        for owner in self.world.log.open_transactions():
            if chance(0.015):
                self.scheduler.count("a transaction times out")
                self.world.log.time_out(owner)

    def _settle(self) -> None:
        if not self.quiet:
            self.scheduler.tell("the schedule", "goes quiet")
        self.quiet = True
        self.world.faults.rate = self.world.network.rate = 0.0
        self.world.events.recover()
        self._until(self._is_settled)

    def _is_settled(self) -> bool:
        world = self.world
        if self.left or self.calls or not world.caught_up():
            return False
        if self.scenario.late and not world.network.is_idle:
            return False
        return all(e.position for events in world.stored().values() for e in events)

    def _until(self, done: Callable[[], bool]) -> None:
        for step in range(PATIENCE):
            if step % 50 == 0 and done():
                return
            self._step()
        raise BrokenInvariant("stuck", f"not done after {PATIENCE} quiet steps")

    # The verdict

    def _ask_again(self) -> None:
        for command in self.sent:
            self.left.append(command)
        self._settle()

    def _verdict(self) -> None:
        world, stored = self.world, self.world.stored()
        if self.scenario.undisturbed and self.scheduler.counts["a partition is given up"]:
            raise BrokenInvariant("given up to nobody", "no other owner was there")
        check_versions(stored)
        if "append" in self.scenario.roles:
            check_emitted(stored, world.whole(TOPICS.stored))
        check_folds(stored, world.kept())
        check_balances(stored)
        check_whole(stored)
        replies = [r for rs in world.whole(TOPICS.replies).values() for r in rs]
        check_answers(self.answers, replies, stored)
        check_refusals(self.answers, replies, stored, world.events.dates)
        check_rejections(self.answers, stored, world.events.dates)
        check_expected(self.answers, replies, stored, world.events.dates)


def run(scenario: FleetScenario, seeds: range) -> Counter[str]:
    """Returns in how many schedules each kind of fault occurred."""
    occurred: Counter[str] = Counter()
    for seed in seeds:
        schedule = FleetSchedule(scenario, seed)
        try:
            schedule.run()
        except BrokenInvariant as violation:
            story = tell_shrunk(FleetSchedule, scenario, seed)
            raise AssertionError(f"seed {seed}: {story}") from violation
        occurred.update(schedule.scheduler.counts.keys())
    return occurred


def scaled(schedules: int) -> int:
    """So many schedules of the 10,000 of a normal run, or as many as SCHEDULES asks for."""
    return max(1, schedules * int(os.environ.get("SCHEDULES", "10000")) // 10_000)


def violations(scenario: FleetScenario, seeds: range) -> Iterator[BrokenInvariant]:
    for seed in seeds:
        try:
            FleetSchedule(scenario, seed).run()
        except BrokenInvariant as violation:
            yield violation
