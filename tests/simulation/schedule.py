"""One schedule: a busy phase with faults, a quiet one in which all ends, and the verdict."""

import os
from collections import Counter
from collections.abc import Coroutine, Iterator
from itertools import count
from random import Random
from typing import Any

from eventfleet.stores.contracts.dead_letters import DiscardedEvent
from eventfleet.topics.dead_letters import ROLE
from tests.simulation import actors
from tests.simulation.checker import (
    BrokenInvariant,
    check_acknowledged,
    check_discards,
    check_emitted,
    check_folds,
    check_forward,
    check_fresh,
    check_halted,
    check_letters,
    check_marks,
    check_order,
    check_placed,
    check_relayed,
    check_versions,
    event_of,
    expected,
)
from tests.simulation.recording_domain import ALL, EVERY, LOUD
from tests.simulation.scheduler import ScheduledTask, drive
from tests.simulation.shrinker import tell_shrunk
from tests.simulation.story import tell
from tests.simulation.world import SOURCES, TOPICS, RoleScenario, World

BUSY = 500
PATIENCE = 10_000


class RoleSchedule:
    def __init__(self, scenario: RoleScenario, seed: int | Random) -> None:
        self.scenario = scenario
        self.world = World(scenario, seed)
        self.scheduler, self.random = self.world.scheduler, self.world.random
        self.latest: dict[str, int] = {}
        self.overlapped = False
        self.violent = self.random.choice([0.0, 0.01, 0.03])
        self.failing = not scenario.fed and self.scheduler.chance(scenario.failures)
        self.world.events.failing = self.failing
        self.losing = self.failing and self._losing()
        self.truncated = False
        self.names = count(1)
        self.makers: list[object] = []

    def run(self) -> None:
        """Violation when an invariant breaks; it tells the steps."""
        try:
            self._busy()
            self._quiet()
            self._verdict()
        except BrokenInvariant as violation:
            violation.args = (f"{violation}\n{self._story()}",)
            raise
        except Exception as error:
            raise BrokenInvariant("error", f"{error!r}\n{self._story()}") from error
        finally:
            self.scheduler.end()

    def _story(self) -> str:
        return tell(self.scheduler.trace)

    # Who takes part

    def _maker(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self.scheduler.start(f"{name}{next(self.names)}", work, "maker")

    def _makers(self) -> None:
        scenario, world, some = self.scenario, self.world, self.random.randint
        events = some(2, scenario.events)
        if scenario.fed:
            self.scheduler.start("feeder", actors.feeder(world, events), "feeder")
            if scenario.repeats:
                self._maker("stutterer", actors.stutterer(world, some(0, 3)))
        else:
            if scenario.puts:
                for _ in range(some(1, 3)):
                    self._maker("synchronous", actors.synchronous(world, some(1, 3)))
            else:
                self._maker("service", actors.service(world, events // 2))
                self._maker("service", actors.service(world, events - events // 2))
            if scenario.repeats:
                self._maker("repeater", actors.repeater(world, some(0, 3)))
        if scenario.poison:
            self._maker("operator", actors.operator(world, some(2, 8)))
        if scenario.queries:
            self._maker("asker", actors.asker(world, some(0, scenario.queries)))

    def _own(self, slot: tuple[str, int]) -> None:
        name, partition = slot
        self.overlapped = self.overlapped or self._owned(slot)
        work = actors.own(self.world, name, partition)
        self.scheduler.start(f"{name} {next(self.names)} of {partition}", work, slot)

    def _of(self, slot: object) -> list[ScheduledTask]:
        return [task for task in self.scheduler.tasks if task.slot == slot]

    def _owned(self, slot: tuple[str, int]) -> bool:
        return bool(self._of(slot))

    def _needs_owner(self, slot: tuple[str, int]) -> bool:
        return slot not in self.world.halted and not self._owned(slot)

    # What happens

    def _busy(self) -> None:
        self._makers()
        for slot in self.world.slots():
            self._own(slot)
        for _ in range(self.random.randint(BUSY // 5, BUSY)):
            if self.scheduler.chance(self.violent):
                self._disturb()
            if self.failing:
                self._fail_servers()
            self._step()

    def _step(self) -> None:
        if self.scheduler.tasks:
            self.scheduler.step()
        self.world.clock.advance(self.random.randint(0, 200 if self.scenario.puts else 50))
        if self.scheduler.steps % 8 == 0:
            self._watch()
        if self.scenario.late:
            self.world.network.go_on()
        if self.scheduler.steps % 200 == 0:
            self.world.events.go_on()

    def _disturb(self) -> None:
        """Somebody is killed or stalls, or a partition gets an owner beside the one it has."""
        slot = self.random.choice(self.world.slots())
        mortal = [task for task in self.scheduler.tasks if task.slot in (slot, "maker")]
        if mortal and self.scheduler.chance(0.6):
            self._strike(self.random.choice(mortal))
        if self.scheduler.chance(0.7) or not self._owned(slot):
            self._own(slot)

    def _strike(self, task: ScheduledTask) -> None:
        if self.scheduler.chance(0.5):
            self.scheduler.kill(task)
        else:
            self.scheduler.stall(task, self.random.randint(10, 200))

    def _fail_servers(self) -> None:
        """A primary is alone or is replaced, most of all while it has what no other server has."""
        events, chance = self.world.events, self.scheduler.chance
        if chance(0.02):
            steps = self.random.randint(5, 60)
            self.scheduler.tell("the store's primary", "is alone for steps:", steps)
            events.lag(steps)
        if chance(0.12 if events.behind else 0.002):
            self.scheduler.tell("the store", "elects another primary")
            events.fail_over()
        if self.losing and chance(0.05):
            self._lose_records()
        if chance(0.01) and self.world.clocks:
            self.scheduler.count("a clock steps back")
            self.random.choice(self.world.clocks).step(-self.random.choice([0.5, 5.0, 60.0]))
        for task in [task for task in self._of("maker") if task.name in events.holders]:
            if chance(0.1):
                self.scheduler.kill(task)
        for owner in self.world.log.open_transactions():
            if chance(0.02):
                self.scheduler.count("a transaction times out")
                self.world.log.time_out(owner)

    def _losing(self) -> str:
        """What the log loses in this schedule, if it loses anything."""
        loaded = not (self.scenario.marked or self.scenario.puts)
        kinds = ["retention", "truncation", "truncation"] if loaded else ["retention"]
        return self.random.choice(kinds) if self.scheduler.chance(0.75 if loaded else 0.2) else ""

    def _lose_records(self) -> None:
        """The log removes records that append has not read, or some that it has."""
        log, p = self.world.log, self.random.randrange(self.world.partitions)
        committed, end = self.world.committed("append", p), len(log.entries(TOPICS.events, p))
        if self.losing == "retention" and committed < end:
            self.scheduler.count("unread records are removed")
            log.remove(TOPICS.events, p, self.random.randint(committed + 1, end))
            self.losing = ""
        elif self.losing == "truncation" and committed:
            self.scheduler.count("the log is truncated")
            log.truncate(TOPICS.events, p, self.random.randrange(committed))
            for task in self._of("maker"):
                self.scheduler.kill(task)
            self.losing, self.truncated = "", True

    def _quiet(self) -> None:
        self.scheduler.tell("the schedule", "goes quiet")
        self.world.faults.rate = self.world.network.rate = 0.0
        self.world.events.recover()
        self.world.code.mended = self.world.mends
        if self.scheduler.chance(0.5) or self.scenario.parts.stubborn:
            for task in [t for t in self.scheduler.tasks if t.slot in self.world.slots()]:
                self.scheduler.kill(task)
        for slot in self.world.slots():
            if slot not in self.world.halted:
                self._own(slot)
        self._until_settled()
        if self.truncated:
            self._maker("service", actors.service(self.world, 4))
            self._until_settled()

    def _until_settled(self) -> None:
        for step in range(PATIENCE):
            if step % 25 == 0 and self._settled():
                return
            self._step()
            for slot in self.world.slots():
                if self._needs_owner(slot):
                    self._own(slot)
        raise BrokenInvariant("stuck", f"not done after {PATIENCE} quiet steps")

    def _settled(self) -> bool:
        """Nothing is pending; where only the sweep is left to do something, it does."""
        busy = ("maker", "feeder", "sweep")
        if any(task.slot in busy for task in self.scheduler.tasks):
            return False
        for role, p in set(self.world.slots()) - self.world.halted:
            committed = self.world.committed(role, p)
            if self.world.tail(SOURCES[role], p, committed) or self._must_stop(role, p):
                return False
        if self.world.log.open_transactions():
            return False
        if self.scenario.late and not self.world.network.is_idle:
            return False
        if parked := self.world.parked():
            for each in parked:
                drive(actors.request(self.world, self.world.letters, each, not self.world.mends))
            return False
        sound = self.world.sound(self.world.stored())
        unplaced = [event for events in sound.values() for event in events if not event.position]
        if unplaced and not self.scenario.fed:
            for p in range(self.world.partitions):
                self.scheduler.start(f"sweep of {p}", actors.sweep(self.world, p), "sweep")
            return False
        return True

    def _must_stop(self, role: str, partition: int) -> bool:
        world = self.world
        offset = world.committed(role, partition)
        minds = world.scenario.parts.minds_offsets
        return minds and not world.log.has(SOURCES[role], partition, offset)

    # The verdict

    def _watch(self) -> None:
        """What must hold at any moment."""
        stored = self.world.stored()
        check_versions(stored)
        if "snapshot" in self.scenario.roles and self.scenario.poison:
            check_marks(stored, self.world.logged("snapshot"))
        if "snapshot" in self.scenario.roles:
            latest = self.world.latest_kept()
            for aggregate_id, version in self.latest.items():
                if latest.get(aggregate_id, 0) < version:
                    raise BrokenInvariant(
                        "snapshot went back", f"{aggregate_id}: {version} to {latest}"
                    )
            self.latest = latest

    def _verdict(self) -> None:
        self._watch()
        discarded = self._discarded("relay") + self._discarded("snapshot")
        check_discards(self.world.stored(), discarded, self.world.discards)
        checks = {"append": self._append, "snapshot": self._snapshot, "relay": self._relay}
        for role in self.scenario.roles:
            checks[role]()

    def _discarded(self, role: str) -> list[DiscardedEvent]:
        return drive(self.world.letters.discarded(role, self.world.aggregates))

    def _append(self) -> None:
        world, log = self.world, self.world.sound_log(TOPICS.events)
        stored = world.sound(world.stored())
        for _, partition in world.halted:
            self._halted(partition)
        check_order(stored, expected(log, self.scenario.marked), world.put_ids)
        check_acknowledged(world.stored(), world.acknowledged)
        check_placed(stored, log)
        check_emitted(stored, world.sound_log(TOPICS.stored))
        letters = [
            letter
            for records in world.sound_log(TOPICS.dead_letters).values()
            for letter in records
            if dict(letter.headers)[ROLE] == b"append"
        ]
        check_letters(letters, stored, log)

    def _halted(self, partition: int) -> None:
        """What append has committed before it stopped is stored and emitted, in order."""
        world = self.world
        taken = world.log.before_losses(TOPICS.events, partition)
        committed = world.committed("append", partition)
        order = expected(
            {partition: [r for r in taken if r.offset < committed]}, self.scenario.marked
        )
        emitted = world.whole(TOPICS.stored)[partition]
        check_halted(world.stored(), order, emitted, world.put_ids)

    def _snapshot(self) -> None:
        stored, kept, topic = self.world.stored(), self.world.kept(), self.world.kept_in_topic()
        check_folds(stored, kept + topic)
        check_forward(topic)
        sound = self.world.sound(stored)
        check_fresh(sound, kept, EVERY, "store")
        if not self.scenario.queries and not self.overlapped:
            check_fresh(sound, topic, EVERY, "topic")

    def _relay(self) -> None:
        """An event that snapshot has had discarded may be relayed, if relay was there before."""
        passed_over = {each.event_id for each in self._discarded("relay")}
        for topic, loud in ((ALL, False), (LOUD, True)):
            relayed = [r for records in self.world.sound_log(topic).values() for r in records]
            ids = {event_of(record).id for record in relayed}
            stored = {
                key: [e for e in es if e.id not in passed_over and (e.id in ids or not e.discarded)]
                for key, es in self.world.sound(self.world.stored()).items()
            }
            check_relayed(stored, relayed, loud)


def scaled(schedules: int) -> int:
    """So many schedules of the 10,000 of a normal run, or as many as SCHEDULES asks for."""
    return max(1, schedules * int(os.environ.get("SCHEDULES", "10000")) // 10_000)


def run(scenario: RoleScenario, seeds: range) -> Counter[str]:
    """Returns in how many schedules each kind of fault occurred."""
    occurred: Counter[str] = Counter()
    for seed in seeds:
        schedule = RoleSchedule(scenario, seed)
        try:
            schedule.run()
        except BrokenInvariant as violation:
            story = tell_shrunk(RoleSchedule, scenario, seed)
            raise AssertionError(f"seed {seed}: {story}") from violation
        occurred.update(schedule.scheduler.counts.keys())
    return occurred


def violations(scenario: RoleScenario, seeds: range) -> Iterator[BrokenInvariant]:
    for seed in seeds:
        try:
            RoleSchedule(scenario, seed).run()
        except BrokenInvariant as violation:
            yield violation
