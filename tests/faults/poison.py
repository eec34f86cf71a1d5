"""Loads with poison events, what becomes of them, and kills meanwhile.

EVENTS (100,000), POISON (1,000), KILLS (50) and PARKED (10,000) are environment variables.
"""

import json
import os
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from eventfleet.stores.clock import SystemClock
from eventfleet.stores.ids import Uuid7Generator
from eventfleet.topics.codec import EVENT_HEADERS, encode
from eventfleet.topics.event import EventRecord
from eventfleet.topics.partitioner import partition_of
from eventfleet.topics.record import LogRecord
from tests.acceptance.fleet import Fleet
from tests.acceptance.kafka_by_hand import wait_for
from tests.acceptance.poisoned import POISON
from tests.faults.fleet_supervisor import PARTITIONS, FleetSupervisor

ROLES = ("snapshot", "relay")
PER_AGGREGATE = 20
MAX_LOAD_SECONDS = 600.0
MAX_PAUSE_SECONDS = 2.0
LEAST_SPEED = 0.8
"""With one event in a hundred poison, as a part of the speed without."""
READERS = {"snapshot": "stored", "relay": "stored", "project": "stored"}

NewFleet = Callable[..., Fleet]
"""Makes fleets, one after the other: each with topics and a database of its own."""


class Load:
    """Events of many aggregates in turns, some of them poison: one at most in an aggregate.

    `kind` and `type` are those of the topic and of the records: events, or commands for them.
    """

    def __init__(
        self,
        fleet: Fleet,
        events: int,
        poison: int,
        seed: int,
        name: str,
        per_aggregate: int = PER_AGGREGATE,
        *,
        kind: str = "events",
        type: str = "Noted",
    ) -> None:
        self._fleet, self._kind, self._type = fleet, kind, type
        chance = random.Random(seed)
        aggregates = [f"{name}-{n}" for n in range(events // per_aggregate)]
        self.poisoned = {
            aggregate_id: chance.randrange(per_aggregate)
            for aggregate_id in chance.sample(aggregates, poison)
        }
        self.texts = {
            aggregate_id: [
                f"{POISON} {n}" if self.poisoned.get(aggregate_id) == n else str(n)
                for n in range(per_aggregate)
            ]
            for aggregate_id in aggregates
        }
        self.turns = range(per_aggregate)

    def produce(self, turns: Iterable[int] | None = None) -> None:
        """Produce the records of some turns, or all."""
        self.send(
            (aggregate_id, texts[n])
            for n in (self.turns if turns is None else turns)
            for aggregate_id, texts in self.texts.items()
        )

    def send(self, texts: Iterable[tuple[str, str]]) -> None:
        """Produce one record for each aggregate and text."""
        ids, clock = Uuid7Generator(), SystemClock()
        domain = self._fleet.domain
        topic = self._fleet.topic(self._kind)
        records = []
        for aggregate_id, text in texts:
            event = EventRecord(
                id=ids.new(),
                type=self._type,
                domain=domain,
                aggregate_id=aggregate_id,
                time=clock.now(),
                data={"text": text},
            )
            partition = partition_of(aggregate_id, PARTITIONS)
            key, value = aggregate_id.encode(), encode(event)
            records.append(LogRecord(topic, partition, 0, key, value, EVENT_HEADERS))
        self._fleet.kafka.produce(records)


def relayed(fleet: Fleet) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for record in fleet.kafka.records(fleet.topic("out")):
        event = json.loads(record.value)
        found[event["subject"]].append(event["data"]["text"])
    return found


def parked(fleet: Fleet, role: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    cursor: list[str] = []
    while True:
        page = fleet.json(
            *("deadletters", "list", fleet.domain, "--role", role, "--limit", "1000", *cursor)
        )
        found |= {each["aggregate_id"]: each for each in page["dead_letters"]}
        if page["next"] is None:
            return found
        cursor = ["--from", page["next"]]


def waiting(fleet: Fleet, role: str) -> bool:
    return bool(fleet.kafka.waiting(fleet.group(role), fleet.topic(READERS[role])))


def assert_others_flow(fleet: Fleet, load: Load, *roles: str) -> None:
    came = relayed(fleet)
    for aggregate_id, texts in load.texts.items():
        end = load.poisoned.get(aggregate_id, len(texts))
        assert came.get(aggregate_id, []) == texts[:end], aggregate_id
    for role in roles or ROLES:
        listed = parked(fleet, role)
        first = {key: n + 1 for key, n in load.poisoned.items()}
        assert {key: each["first"] for key, each in listed.items()} == first, role


def numbers(**defaults: int) -> list[int]:
    """The numbers that the environment gives, or these."""
    return [int(os.environ.get(name, default)) for name, default in defaults.items()]


def audited(fleet: Fleet) -> None:
    report = fleet.json("audit", fleet.domain)
    assert (report["violations"], report["problems"]) == ([], [])


def all_redriven(fleet: Fleet, *roles: str) -> bool:
    fleet.run("deadletters", "redrive", fleet.domain, "--all")
    return not any(parked(fleet, role) for role in roles or ROLES)


def assert_all_came_in_order(fleet: Fleet, load: Load) -> None:
    came = relayed(fleet)
    for aggregate_id, texts in load.texts.items():
        assert came[aggregate_id] == texts, aggregate_id


def kill_one(
    supervisor: FleetSupervisor, chance: random.Random, *, within: float = MAX_PAUSE_SECONDS
) -> None:
    """Kill a worker at a random moment, and start another in its place."""
    time.sleep(chance.uniform(0.0, within))
    place = chance.choice([*supervisor.workers])
    supervisor.workers[place].kill()
    supervisor.start(place)


def seconds_in(fleet: Fleet, role: str, load: Load) -> float:
    """Let a role work off a load, and return the seconds from its first chunk to its last."""
    events = sum(map(len, load.texts.values()))
    [worker] = fleet.begin(role)
    begun = 0.0
    deadline = time.monotonic() + MAX_LOAD_SECONDS
    while (passed := worker.metric("chunk_records_sum", role=role)) < events:
        assert time.monotonic() < deadline, f"only {passed:,.0f} events passed {role}"
        assert worker.process.poll() is None, f"{role} has ended"
        begun = begun or (time.monotonic() if passed else 0.0)
        time.sleep(0.05)
    seconds = time.monotonic() - begun
    wait_until_listed(fleet, load, role)
    assert worker.stop() == 0
    return seconds


def wait_until_listed(fleet: Fleet, load: Load, role: str) -> None:
    """Wait for the list of what is parked, which may be a second behind a running role."""
    wait_for(lambda: len(parked(fleet, role)) == len(load.poisoned), f"what {role} parks")


def measure_speed(
    new_fleet: NewFleet,
    module: str,
    seconds_of: Callable[[Fleet, Load], float],
    check: Callable[[Fleet, Load], None],
) -> float:
    """Return the speed with poison events, as a part of that without.

    Runs come in turns, and each with topics and collections of its own: what is large or warm by
    then is no one's advantage. The first warms up the servers.
    """
    events, poison = numbers(EVENTS=100_000, POISON=1_000)
    runs: dict[str, float] = defaultdict(float)
    for number, kind in enumerate(("warm", "clean", "poison", "clean", "poison")):
        with new_fleet(module) as fleet:
            bad = poison if kind == "poison" else 0
            load = Load(fleet, events // 4 if kind == "warm" else events, bad, number, kind)
            seconds = seconds_of(fleet, load)
            print(f"\n{kind}: {seconds:.1f} s", end="", flush=True)
            runs[kind] += seconds
            check(fleet, load)
    speed = runs["clean"] / runs["poison"]
    print(f"\n{events:,} events, {poison:,} of them poison; {speed:.2f} of the speed without")
    return speed
