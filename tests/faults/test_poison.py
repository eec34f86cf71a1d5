"""Poison events among many, in snapshot and relay: the rest flows, and all is redriven in order.

EVENTS (100,000), POISON (1,000) and KILLS (50) are environment variables.
"""

import json
import os
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventfleet.stores.clock import SystemClock
from eventfleet.stores.ids import Uuid7Generator
from eventfleet.topics.codec import EVENT_HEADERS, encode
from eventfleet.topics.event import EventRecord
from eventfleet.topics.names import Topics
from eventfleet.topics.partitioner import partition_of
from eventfleet.topics.record import LogRecord
from tests.acceptance.fleet import ROOT, Fleet
from tests.acceptance.kafka_by_hand import wait_for
from tests.acceptance.poisoned import OUT, POISON
from tests.faults.fleet_oracle import settle
from tests.faults.fleet_supervisor import PARTITIONS, FleetSupervisor

ROLES = ("snapshot", "relay")
PER_AGGREGATE = 20
MAX_LOAD_SECONDS = 600.0
READERS = {"snapshot": "stored", "relay": "stored"}


@pytest.fixture
def fleet(kafka: str, mongo_url: str, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(kafka, mongo_url, tmp_path, "tests.acceptance.poisoned")
    fleet.environment["PYTHONPATH"] = str(ROOT)
    with fleet:
        yield fleet


class Load:
    """Events of many aggregates in turns, some of them poison: one at most in an aggregate."""

    def __init__(self, fleet: Fleet, events: int, poison: int, seed: int, name: str) -> None:
        self._fleet, chance = fleet, random.Random(seed)
        aggregates = [f"{name}-{n}" for n in range(events // PER_AGGREGATE)]
        self.poisoned = {
            aggregate_id: chance.randrange(PER_AGGREGATE)
            for aggregate_id in chance.sample(aggregates, poison)
        }
        self.texts = {
            aggregate_id: [
                f"{POISON} {n}" if self.poisoned.get(aggregate_id) == n else str(n)
                for n in range(PER_AGGREGATE)
            ]
            for aggregate_id in aggregates
        }

    def produce(self) -> None:
        ids, clock = Uuid7Generator(), SystemClock()
        topic = Topics.of("poisoned").events
        records = []
        for n in range(PER_AGGREGATE):
            for aggregate_id, texts in self.texts.items():
                event = EventRecord(
                    id=ids.new(),
                    type="Noted",
                    domain="poisoned",
                    aggregate_id=aggregate_id,
                    time=clock.now(),
                    data={"text": texts[n]},
                )
                partition = partition_of(aggregate_id, PARTITIONS)
                key, value = aggregate_id.encode(), encode(event)
                records.append(LogRecord(topic, partition, 0, key, value, EVENT_HEADERS))
        self._fleet.kafka.produce(records)


def relayed(fleet: Fleet) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for record in fleet.kafka.records(OUT):
        event = json.loads(record.value)
        found[event["subject"]].append(event["data"]["text"])
    return found


def parked(fleet: Fleet, role: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    cursor: list[str] = []
    while True:
        page = fleet.json(
            *("deadletters", "list", "poisoned", "--role", role, "--limit", "1000", *cursor)
        )
        found |= {each["aggregate_id"]: each for each in page["dead_letters"]}
        if page["next"] is None:
            return found
        cursor = ["--from", page["next"]]


def seconds_of(fleet: Fleet, load: Load) -> float:
    """Let append store the load, then snapshot and relay work it off side by side.

    Returns the seconds of the latter: from the first chunk of either, so that no start counts, to
    the last of both. The workers' own counters tell, since reading the topics would take from them
    the processors that they need.
    """
    [append] = fleet.start("append", CHUNK_RECORDS="2000")
    load.produce()
    settle(fleet, {"append": "events"})
    assert append.stop() == 0
    events = sum(map(len, load.texts.values()))
    readers = fleet.begin(*ROLES)
    begun: dict[str, float] = {}
    ended: dict[str, float] = {}
    deadline = time.monotonic() + MAX_LOAD_SECONDS
    while len(ended) < len(readers):
        assert time.monotonic() < deadline, f"only {[*ended]} passed all"
        time.sleep(0.05)
        for worker in readers:
            [role] = worker.roles
            assert worker.process.poll() is None, f"{role} has ended"
            passed, now = worker.metric("chunk_records_sum", role=role), time.monotonic()
            if passed:
                begun.setdefault(role, now)
            if passed >= events:
                ended.setdefault(role, now)
    settle(fleet, READERS)
    for worker in readers:
        assert worker.stop() == 0
    for role in ROLES:
        print(f"  {role}: {ended[role] - begun[role]:.1f} s")
    return max(ended.values()) - min(begun.values())


def assert_others_flow(fleet: Fleet, load: Load) -> None:
    came = relayed(fleet)
    for aggregate_id, texts in load.texts.items():
        end = load.poisoned.get(aggregate_id, len(texts))
        assert came.get(aggregate_id, []) == texts[:end], aggregate_id
    for role in ROLES:
        listed = parked(fleet, role)
        first = {key: n + 1 for key, n in load.poisoned.items()}
        assert {key: each["first"] for key, each in listed.items()} == first, role


@pytest.mark.faults
def test_poison_is_parked_and_redriven_in_order_under_kills(fleet: Fleet) -> None:
    events, poison, kills = (
        int(os.environ.get(name, default))
        for name, default in (("EVENTS", "100000"), ("POISON", "1000"), ("KILLS", "50"))
    )
    load = Load(fleet, events, poison, 2, "poisoned")
    print()
    seconds_of(fleet, Load(fleet, events // 4, 0, 1, "warm"))
    clean = [seconds_of(fleet, Load(fleet, events, 0, 1, "clean"))]
    with_poison = seconds_of(fleet, load)
    # Before and after, so that what the first two make warm, or large, is no one's advantage.
    clean.append(seconds_of(fleet, Load(fleet, events, 0, 1, "again")))
    print(f"{events:,} events in {clean[0]:.1f} s and {clean[1]:.1f} s,", end=" ")
    print(f"with {poison:,} poison ones {with_poison:.1f} s:")
    speed = sum(clean) / len(clean) / with_poison
    print(f"{speed:.2f} of the clean speed")
    assert_others_flow(fleet, load)

    # The mend is deployed, and workers are killed at random moments while all is redriven.
    fleet.environment["MENDED"] = "1"
    supervisor = FleetSupervisor(fleet, "snapshot-1", "relay-1", "relay-2")
    chance, killed = random.Random(3), 0
    while killed < kills:
        fleet.run("deadletters", "redrive", "poisoned", "--all")
        time.sleep(chance.uniform(0.0, 2.0))
        place = chance.choice([*supervisor.workers])
        supervisor.workers[place].kill()
        supervisor.start(place)
        killed += 1
    supervisor.wait_until_owned()

    def all_redriven() -> bool:
        fleet.run("deadletters", "redrive", "poisoned", "--all")
        return not any(parked(fleet, role) for role in ROLES)

    wait_for(all_redriven, "all to be redriven")
    came = relayed(fleet)
    for aggregate_id, texts in load.texts.items():
        assert came[aggregate_id] == texts, aggregate_id
    report = fleet.json("audit", "poisoned")
    assert (report["violations"], report["problems"]) == ([], [])
    print(f"{killed} kills; all {poison:,} redriven, each event once and in order")
