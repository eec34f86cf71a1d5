"""One schedule of the marker protocol: faults, then quiet, then every command once more."""

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from itertools import count
from random import Random
from typing import Any, NamedTuple

from eventfleet.deciders.outcomes import Accepted, Failed, Outcome, Rejected, Repeated
from eventfleet.deciders.proposed_event import ProposedEvent, propose_event
from eventfleet.stores.contracts.dead_letters import ParkedQuery
from eventfleet.topics.codec import encode
from eventfleet.topics.event import CommandRecord, EventRecord
from eventfleet.topics.parked import Discard
from eventfleet.topics.partitioner import partition_of
from eventfleet.topics.record import ProducerRecord
from tests.simulation.checker import BrokenInvariant
from tests.simulation.commands import items
from tests.simulation.marker_checker import (
    Request,
    check_accepted_once,
    check_answers,
    check_final,
    check_refusals,
    check_rejections,
    check_streams,
    check_successions,
    first_copies,
    streams,
)
from tests.simulation.marker_world import (
    DEADLINE,
    TERMS,
    TOPICS,
    MarkerScenario,
    MarkerWorld,
    SimulatedService,
)
from tests.simulation.scheduler import ScheduledTask, checkpoint, drive
from tests.simulation.shrinker import tell_shrunk
from tests.simulation.story import tell

PATIENCE = 6000
MAX_LISTED = 100
MAX_STALLS = 10
"""More of those who decide the topic's commands would keep each other from it for long."""


class ScheduledCommand(NamedTuple):
    """One that is `new` gets its id as it is sent: nobody repeats it before its first answer."""

    id: str
    name: str
    aggregate_id: str
    new: bool = False

    def __str__(self) -> str:
        return f"{self.id} {self.name} of {self.aggregate_id}"


class Client:
    """Sends its commands in calls of one or more, and repeats each until it is decided."""

    def __init__(self, calls: list[list[ScheduledCommand]], loyal: bool) -> None:
        self.calls, self.loyal = calls, loyal
        self.task: ScheduledTask | None = None
        self.left: list[ScheduledCommand] = []


class MarkerSchedule:
    def __init__(self, scenario: MarkerScenario, seed: int | Random) -> None:
        self.scenario = scenario
        self.world = MarkerWorld(scenario, seed)
        self.scheduler, self.random = self.world.scheduler, self.world.random
        self.names, self.serial, self.owners = count(1), count(1), count(1)
        self.services: list[SimulatedService] = []
        self.clients: list[Client] = []
        self.requests: dict[str, list[Request]] = {}
        self.sent: dict[str, ScheduledCommand] = {}
        self.quiet = False
        self.losses, self.dumps = scenario.losses, scenario.dumps
        self.changes_at: list[int] = []
        self.world.hesitate = self._hesitate

    def run(self) -> None:
        """Violation when a promise is broken; it tells the steps."""
        state = random.getstate()
        random.seed(0)
        try:
            self._begin()
            self._busy()
            self._settle()
            self._ask_again()
            self._verdict()
        except BrokenInvariant as violation:
            violation.args = (f"{violation}\n{self._story()}",)
            raise
        except Exception as error:
            raise BrokenInvariant("error", f"{error!r}\n{self._story()}") from error
        finally:
            self.scheduler.end()
            random.setstate(state)

    def _story(self) -> str:
        return tell(self.scheduler.trace)

    # Who takes part

    def _begin(self) -> None:
        """Some items are there already; Redis may be long up, or new."""
        world = self.world
        for aggregate_id in world.aggregates:
            if not self.scenario.begins and self.scheduler.chance(0.75):
                proposed = self._proposed(
                    ScheduledCommand(f"first-{aggregate_id}", "Open", aggregate_id)
                )
                world.put(proposed.event)
        if not self.scenario.begins and self.scheduler.chance(0.75):
            world.redis.incarnation()
            world.clock.advance(int(TERMS.expiry * 1000) + 1)
        self._own_all()
        for number in range(self.scenario.services):
            self.services.append(self._service(number))
        some = self.random.randint
        for _ in range(some(1, self.scenario.clients)):
            calls = [self._call() for _ in range(some(1, self.scenario.commands))]
            self.clients.append(Client(calls, self.scheduler.chance(0.8)))

    def _own_all(self) -> None:
        for partition in range(self.world.partitions):
            self._own(partition)
            if self.scenario.hesitates:
                self._open_desk(partition)

    def _open_desk(self, partition: int) -> None:
        """Somebody decides the commands of a partition, also where another does."""
        slot = "desk", partition, next(self.owners)
        desk = SimulatedService(self.world, decides=partition)
        name = f"command {slot[-1]} of {partition}"
        self.scheduler.start(f"beat of {name}", desk.beat(), slot)
        self.scheduler.start(name, self.world.command(partition, desk), slot)

    def _own(self, partition: int) -> None:
        name = f"append {next(self.owners)} of {partition}"
        self.scheduler.start(name, self.world.append(partition), "append")

    def _service(self, number: int) -> SimulatedService:
        service = SimulatedService(self.world)
        self.scheduler.start(f"beat {number}", service.beat(), ("service", number))
        return service

    def _call(self) -> list[ScheduledCommand]:
        many = self.random.choice([1, 1, 1, 2, 3])
        return [self._command() for _ in range(many)]

    def _command(self) -> ScheduledCommand:
        known = [command for command in self.sent.values() if not command.new]
        if known and self.scheduler.chance(self.scenario.echoes):
            return self.random.choice(known)
        name = self.random.choice(self.scenario.names)
        aggregate_id, new = self.random.choice(self.world.aggregates), self.scheduler.chance(0.3)
        command = ScheduledCommand(f"c{next(self.serial)}", name, aggregate_id, new)
        self.sent[command.id] = command
        return command

    def _proposed(self, command: ScheduledCommand) -> ProposedEvent:
        record = EventRecord(
            id=command.id,
            type=command.name,
            domain=items.name,
            aggregate_id=command.aggregate_id,
            time=self.world.clock.now(),
            data={},
        )
        proposed = propose_event(items, record)
        return proposed._replace(new=command.new and proposed.event.id not in self.requests)

    # Calls

    def _send(self, client: Client, number: int) -> None:
        if self.scenario.hesitates and not self.quiet and self.scheduler.chance(0.5):
            name = f"call {next(self.names)} by the topic"
            work = self._sending_by_topic(client, name)
            client.task = self.scheduler.start(name, work, "sender")
            return
        name = f"call {next(self.names)} to {number}"
        work = self._sending(client, self.services[number])
        client.task = self.scheduler.start(name, work, ("service", number))

    async def _sending(self, client: Client, service: SimulatedService) -> None:
        commands = list(client.left)
        proposals = [self._proposed(command) for command in commands]
        asked = [self._request(proposed.event, service) for proposed in proposals]
        self.scheduler.note("asks", commands)

        def answer(index: int, outcome: Outcome) -> None:
            if asked[index].outcome:
                raise BrokenInvariant("answered twice", f"{commands[index]}: {outcome}")
            asked[index].outcome, asked[index].ended = outcome, self.scheduler.steps
            self.scheduler.note("answers", [commands[index], outcome])
            self._check_parked(asked[index])

        seconds = DEADLINE if self.quiet else self.random.choice([0.2, 1.0, DEADLINE])
        deadline = service.clock.steady() + timedelta(seconds=seconds)
        await service.marking.decide(proposals, deadline, answer)
        if not all(request.outcome for request in asked):
            raise BrokenInvariant("not answered", commands)
        client.left = [c for c, r in zip(commands, asked, strict=True) if r.unknown]

    async def _sending_by_topic(self, client: Client, name: str) -> None:
        """The commands go into their topic, and their replies are awaited."""
        self.scheduler.note("asks by the topic", client.left)
        asked: dict[str, Request] = {}
        for number, command in enumerate(client.left):
            event = self._proposed(command).event
            sending = f"{name}, {number}"
            asked[sending] = self._request(event, self.services[0])
            self._enqueue(command, sending)
        while waiting := [each for each in asked if not asked[each].outcome]:
            await checkpoint()
            replies = self.world.replies()
            for sending in waiting:
                if reply := replies.get(sending):
                    request = asked[sending]
                    request.outcome, request.ended = outcome_of(reply), self.scheduler.steps
                    self.scheduler.note("is answered", [sending, request.outcome])
        client.left = []

    def _enqueue(self, command: ScheduledCommand, sending: str) -> None:
        record = CommandRecord(
            id=command.id,
            type=command.name,
            domain=items.name,
            aggregate_id=command.aggregate_id,
            time=self.world.clock.now(),
            data={},
            correlation_id=sending,
        )
        key = command.aggregate_id
        partition = partition_of(key, self.world.partitions)
        self.world.log.append(
            ProducerRecord(TOPICS.commands, key.encode(), encode(record), partition)
        )

    def _request(self, event: EventRecord, service: SimulatedService) -> Request:
        request = Request(event.id, event.type, event.aggregate_id, self.scheduler.steps)
        asked = self.requests.setdefault(event.id, [])
        since = self.world.events.parked_since(event.aggregate_id)
        # What was sent before may have been noted before its aggregate was parked.
        if since is not None and since < service.looked_from and not asked:
            request.parked_since = since
        asked.append(request)
        return request

    def _check_parked(self, request: Request) -> None:
        """Check that no command is accepted whose service knew all the time that append parks its
        aggregate."""
        since = self.world.events.parked_since(request.aggregate_id)
        known = since is not None and request.parked_since == since
        if known and isinstance(request.outcome, Accepted):
            raise BrokenInvariant("accepted where it is parked", request)

    def _tend(self) -> None:
        """Clients go on: with what is undecided, or with the next call."""
        for client in self.clients:
            if client.task in self.scheduler.tasks:
                continue
            if client.left and not client.loyal and self.scheduler.chance(0.5):
                client.left = []
            if not client.left and client.calls:
                client.left = client.calls.pop(0)
            if client.left:
                self._send(client, self.random.randrange(len(self.services)))

    # What happens

    def _busy(self) -> None:
        for _ in range(self.random.randint(self.scenario.busy // 4, self.scenario.busy)):
            self._disturb()
            noted = not self.losses or self.world.noted()
            self._step()
            if not noted and self.losses and self.world.noted():
                self._freeze()

    def _step(self) -> None:
        while self.world.handovers:
            self._own(self.world.handovers.pop())
        if self.changes_at and self.changes_at[0] <= self.scheduler.steps:
            self._change()
        self._tend()
        self.scheduler.step()
        self.world.clock.advance(self.random.randint(0, 20))

    def _disturb(self) -> None:
        """Most of it while a note stands: that is when it can do harm."""
        scenario, chance = self.scenario, self.scheduler.chance
        pressure = 3.0 if self.world.noted() else 0.3
        if chance(scenario.kills * pressure):
            self._kill(self.random.randrange(len(self.services)))
        if chance(scenario.stalls):
            self._stall(self.random.choice(self.scheduler.tasks))
        if chance(scenario.lag):
            self._stall(*self._of("append"))
        if chance(scenario.jumps * pressure):
            self._jump()
        if chance(scenario.owners):
            self._disown()
        if scenario.clocks and chance(0.01 * pressure):
            self.scheduler.count("a clock steps back")
            self.random.choice(self.world.clocks).step(-self.random.choice([0.5, 5.0, 30.0]))
        if self.losses and chance(0.01 * pressure):
            self.losses -= 1
            self._lose("is flushed")
            self.world.redis.flush()
        if self.dumps:
            self._dump(pressure)
        if scenario.poison and chance(0.1):
            self._operate(discards=chance(0.2))

    def _operate(self, *, discards: bool) -> None:
        """An operator has what is parked redriven, or its first event discarded."""
        listed = drive(self.world.letters.find(ParkedQuery(), MAX_LISTED))
        for parked in listed if self.quiet else listed[:1]:
            self.scheduler.count("a discard" if discards else "a redrive")
            why = Discard("it is a mistake", "op", self.world.clock.now()) if discards else None
            self.scheduler.trace.append(("operator", "asks for", (parked, why)))
            drive(self.world.letters.request(parked, why))

    def _hesitate(self, partition: int, method: str) -> None:
        """Who decides the commands of a partition stands still while its successor does; and a
        service changes the state behind that."""
        running = self.scheduler.running
        slot = next(task.slot for task in self.scheduler.tasks if task.name == running)
        what, scheduler = "who decides stands still with commands in hand", self.scheduler
        enough = self.quiet or scheduler.counts[what] == MAX_STALLS
        if enough or method != self.world.hesitates_at:
            return
        if not scheduler.chance(self.scenario.hesitates):
            return
        scheduler.count(what)
        steps = self.random.randint(150, 500)
        for task in self._of(slot):
            self.scheduler.stall(task, steps)
        self._open_desk(partition)
        self.changes_at.append(self.scheduler.steps + self.random.randint(80, 300))

    def _change(self) -> None:
        """A service is sent what nothing forbids."""
        self.changes_at.pop(0)
        aggregate_id = self.random.choice(self.world.aggregates)
        command = ScheduledCommand(f"c{next(self.serial)}", "Note", aggregate_id)
        self.sent[command.id] = command
        client = Client([], loyal=True)
        client.left = [command]
        self.clients.append(client)
        self._send(client, self.random.randrange(len(self.services)))

    def _of(self, slot: object) -> list[ScheduledTask]:
        return [task for task in self.scheduler.tasks if task.slot == slot]

    def _stall(self, *tasks: ScheduledTask) -> None:
        for task in tasks:
            self.scheduler.stall(task, self.random.randint(20, 250))

    def _freeze(self) -> None:
        """Who has just noted stands still, while Redis loses all and, where the domain had begun
        before, a new life grows old."""
        if not self.scheduler.chance(self.scenario.freezes):
            return
        self.losses -= 1
        self._lose("is flushed, and time goes on")
        self._stall(*[t for t in self.scheduler.tasks if t.name == self.scheduler.running])
        self.world.redis.flush()
        if self.scenario.begins:
            return
        self.world.redis.incarnation()
        self.world.clock.advance(int(TERMS.expiry * 1000) + 1)

    def _disown(self) -> None:
        """An owner of append is killed, or a partition gets one beside that which it has."""
        if self.scheduler.chance(0.5):
            for task in self._of("append")[:1]:
                self.scheduler.kill(task)
        self.scheduler.count("several owners")
        if self.world.lost:
            self.scheduler.count("several owners beside a loss of markers")
        self._own(self.random.randrange(self.world.partitions))

    def _pause(self) -> None:
        """What is under way stays so for a while, or a whole process stands still."""
        if self.scheduler.chance(0.5):
            self._stall(*self._of("network"))
        if self.scheduler.chance(0.3):
            self._stall(*self._of(("service", self.random.randrange(len(self.services)))))

    def _jump(self) -> None:
        seconds = self.random.choice([1.0, TERMS.expiry / 2, TERMS.expiry, 2 * TERMS.expiry])
        self.scheduler.trace.append(("time", "jumps by", seconds))
        self.world.clock.advance(int(seconds * 1000) + 1)
        self._pause()

    def _dump(self, pressure: float) -> None:
        if self.scheduler.chance(0.02):
            self.scheduler.trace.append(("redis", "dumps", ""))
            self.world.dump = self.world.redis.dump()
        if self.scheduler.chance(0.01 * pressure):
            self.dumps -= 1
            self._lose("restarts from an old dump")
            self.world.redis.restart(self.world.dump)

    def _lose(self, how: str) -> None:
        self.world.lost = True
        self.scheduler.trace.append(("redis", how, ""))
        self._pause()

    def _kill(self, number: int) -> None:
        for task in self._of(("service", number)):
            self.scheduler.kill(task)
        self.services[number] = self._service(number)

    def _settle(self) -> None:
        if not self.quiet:
            self.scheduler.tell("the schedule", "goes quiet")
            self._deploy()
            self._own_all()
        self.quiet, self.world.faults.rate = True, 0.0
        self._until(lambda: not any(c.calls or c.left for c in self.clients))

    def _deploy(self) -> None:
        """From now on no owner has old code."""
        self.world.mended = True
        for task in self._of("append") if self.scenario.poison else ():
            self.scheduler.kill(task)

    def _until(self, done: Callable[[], bool]) -> None:
        # Clocks that were set back come to where they were first; the copies of many redrives are
        # gone through. Who decides the topic's commands has as many processes as there were stalls.
        scenario = self.scenario
        patience = PATIENCE * (3 if scenario.clocks or scenario.slow or scenario.hesitates else 1)
        for step in range(patience):
            if step % 50 == 0 and self.scenario.poison:
                self._operate(discards=False)
            if step % 5 == 0 and done() and self._is_at_rest():
                return
            self._step()
        raise BrokenInvariant("stuck", f"not done after {patience} quiet steps")

    def _is_at_rest(self) -> bool:
        return self.world.caught_up() and not self._of("network") and not self._is_parked()

    def _is_parked(self) -> bool:
        """Look at what append parks, and at what the services know of it."""
        known = [service.guard.parked for service in self.services]
        return any([*known, drive(self.world.events.parked()), drive(self.world.letters.count())])

    # The verdict

    def _ask_again(self) -> None:
        """Each command is repeated, one at a time; then one that nothing forbids."""
        for command in list(self.sent.values()):
            self._ask(command)
        for aggregate_id in self.world.aggregates:
            outcome = self._ask(ScheduledCommand(f"last-{aggregate_id}", "Note", aggregate_id))
            if not isinstance(outcome, Accepted):
                raise BrokenInvariant("stuck", f"{aggregate_id}: {outcome}")

    def _ask(self, command: ScheduledCommand) -> Outcome | None:
        self.clients = [Client([[command]], loyal=True)]
        self._settle()
        return self.requests[self._proposed(command).event.id][-1].outcome

    def _verdict(self) -> None:
        world = self.world
        stored, log = world.stored(), streams(world.whole(TOPICS.events))
        emitted = streams(world.whole(TOPICS.stored))
        check_successions("the store", stored)
        check_successions(".stored", emitted)
        if not world.lost:
            check_successions(".events", first_copies(log))
        check_streams(stored, emitted)
        check_answers(self.requests, stored)
        check_refusals(self.requests, stored, world.arrivals(stored))
        if not world.lost and not self.scenario.faults:
            check_accepted_once(self.requests)
        check_final(self.requests, stored)
        ends = world.appends() if world.lost else world.arrivals(stored)
        check_rejections(self.requests, stored, world.arrivals(stored), ends)


def outcome_of(reply: Mapping[str, Any]) -> Outcome:
    """The outcome that a reply tells."""
    match reply["outcome"]:
        case "accepted":
            return Accepted(reply["event_id"], reply["place"])
        case "repeated":
            return Repeated(reply["event_id"], reply["place"])
        case "rejected":
            return Rejected(reply["reason"], reply["marked"])
        case "failed":
            return Failed(reply["problem"], reply["reason"])
    raise BrokenInvariant("an unexpected reply", reply)


def run(scenario: MarkerScenario, seeds: range) -> Counter[str]:
    """Returns in how many schedules each kind of fault occurred."""
    occurred: Counter[str] = Counter()
    for seed in seeds:
        schedule = MarkerSchedule(scenario, seed)
        try:
            schedule.run()
        except BrokenInvariant as violation:
            story = tell_shrunk(MarkerSchedule, scenario, seed)
            raise AssertionError(f"seed {seed}: {story}") from violation
        occurred.update(schedule.scheduler.counts.keys())
    return occurred


def violations(scenario: MarkerScenario, seeds: range) -> Iterator[BrokenInvariant]:
    for seed in seeds:
        try:
            MarkerSchedule(scenario, seed).run()
        except BrokenInvariant as violation:
            yield violation


def scaled(schedules: int) -> int:
    """So many schedules of the 10,000 of a normal run, or as many as SCHEDULES asks for."""
    return max(1, schedules * int(os.environ.get("SCHEDULES", "10000")) // 10_000)
