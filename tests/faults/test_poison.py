"""Poison events among many, in snapshot and relay: the rest flows, and all is redriven in order."""

import random
import time
from collections.abc import Iterator

import pytest

from tests.acceptance.fleet import Fleet
from tests.acceptance.kafka_by_hand import wait_for
from tests.acceptance.poisoned import POISON
from tests.faults.fleet_oracle import settle
from tests.faults.fleet_supervisor import FleetSupervisor
from tests.faults.poison import (
    LEAST_SPEED,
    MAX_LOAD_SECONDS,
    MAX_PAUSE_SECONDS,
    READERS,
    ROLES,
    Load,
    NewFleet,
    all_redriven,
    assert_all_came_in_order,
    assert_others_flow,
    audited,
    kill_one,
    numbers,
    parked,
    relayed,
    wait_until_listed,
    waiting,
)

STANDS_SECONDS = 5.0
SOURCES = {role: READERS[role] for role in ROLES}


@pytest.fixture
def fleet(new_fleet: NewFleet) -> Iterator[Fleet]:
    with new_fleet() as fleet:
        yield fleet


def seconds_of(fleet: Fleet, load: Load) -> dict[str, float]:
    """Let append store the load, then snapshot and relay work it off side by side.

    Returns the seconds of each, and of both: from the first chunk, so that no start counts, to the
    last. The workers' own counters tell, since reading the topics would take from them the
    processors that they need.
    """
    [append] = fleet.start("append", CHUNK_RECORDS="2000")
    load.produce()
    settle(fleet, {"append": "events"})
    assert append.stop() == 0
    events = sum(map(len, load.texts.values()))
    readers = fleet.begin(*ROLES)
    begun: dict[str, float] = {}
    ended: dict[str, float] = {}
    moved: dict[str, tuple[float, float]] = {}
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
            if passed != moved.get(role, (0.0, 0.0))[0]:
                moved[role] = passed, now
            # A chunk is not counted where a server did not answer after its commit.
            stands = role in moved and now - moved[role][1] > STANDS_SECONDS
            if passed >= events or (stands and not waiting(fleet, role)):
                ended.setdefault(role, moved[role][1])
    settle(fleet, SOURCES)
    for role in ROLES:
        wait_until_listed(fleet, load, role)
    for worker in readers:
        assert worker.stop() == 0
    both = max(ended.values()) - min(begun.values())
    return {role: ended[role] - begun[role] for role in ROLES} | {"both": both}


@pytest.mark.faults
def test_poison_costs_little_of_the_speed(new_fleet: NewFleet) -> None:
    events, poison = numbers(EVENTS=100_000, POISON=1_000)
    runs: dict[str, list[dict[str, float]]] = {"clean": [], "poison": []}
    # In turns, and each with topics and collections of its own: what is large or warm by then is no
    # one's advantage. The first warms up the servers.
    for number, kind in enumerate(("warm", "clean", "poison", "clean", "poison")):
        with new_fleet() as fleet:
            bad = poison if kind == "poison" else 0
            load = Load(fleet, events // 4 if kind == "warm" else events, bad, number, kind)
            seconds = seconds_of(fleet, load)
            told = ", ".join(f"{role} {each:.1f} s" for role, each in seconds.items())
            print(f"\n{kind}: {told}", end="", flush=True)
            if bad:
                assert_others_flow(fleet, load)
        runs.setdefault(kind, []).append(seconds)

    clean, with_poison = (
        {role: sum(run[role] for run in runs[kind]) for role in (*ROLES, "both")}
        for kind in ("clean", "poison")
    )
    speed = {role: clean[role] / with_poison[role] for role in clean}
    print(f"\n{events:,} events, {poison:,} of them poison; of the speed without them:", end=" ")
    print(*(f"{role} {part:.2f}" for role, part in speed.items()))
    assert speed["both"] >= LEAST_SPEED


@pytest.mark.faults
def test_poison_is_parked_and_redriven_in_order_under_kills(fleet: Fleet) -> None:
    events, poison, kills = numbers(EVENTS=100_000, POISON=1_000, KILLS=50)
    load = Load(fleet, events, poison, 2, "poisoned")
    seconds_of(fleet, load)
    assert_others_flow(fleet, load)

    # The mend is deployed, and workers are killed at random moments while all is redriven.
    fleet.environment["MENDED"] = "1"
    supervisor = FleetSupervisor(fleet, "snapshot-1", "relay-1", "relay-2")
    chance = random.Random(3)
    for _ in range(kills):
        fleet.run("deadletters", "redrive", "poisoned", "--all")
        kill_one(supervisor, chance)
    supervisor.wait_until_owned()
    wait_for(lambda: all_redriven(fleet), "all to be redriven")
    assert_all_came_in_order(fleet, load)
    audited(fleet)
    print(f"{kills} kills; all {poison:,} redriven, each event once and in order")


@pytest.mark.faults
def test_poison_is_discarded_under_kills(fleet: Fleet) -> None:
    [kills] = numbers(KILLS=50)
    poison = 5 * max(kills, 10)
    load = Load(fleet, 40 * poison, poison, 4, "discarded")
    seconds_of(fleet, load)
    assert_others_flow(fleet, load)

    supervisor = FleetSupervisor(fleet, "snapshot-1", "relay-1", "relay-2")
    chance = random.Random(5)
    left = [(role, key) for role in ROLES for key in load.poisoned]
    chance.shuffle(left)

    def discard(role: str, aggregate_id: str) -> None:
        version = str(load.poisoned[aggregate_id] + 1)
        asked = ("deadletters", "discard", "poisoned", role, aggregate_id, "--version", version)
        done = fleet.invoke(*asked, "--why", "a mistake", "--by", "ann")
        assert done.exit_code == 0, done.output

    for _ in range(kills):
        for _ in range(min(10, len(left))):
            discard(*left.pop())
        kill_one(supervisor, chance, within=2 * MAX_PAUSE_SECONDS)
    supervisor.wait_until_owned()
    for each in left:
        discard(*each)
    wait_for(lambda: not any(parked(fleet, role) for role in ROLES), "all to be discarded")

    # Each is passed over, and nothing else, by readers of the route and of the state.
    came = relayed(fleet)
    for aggregate_id, texts in load.texts.items():
        assert came[aggregate_id] == [text for text in texts if not text.startswith(POISON)]
    fleet.environment["MENDED"] = "1"
    discarded = {event["aggregate_id"] for event in fleet.events.find({"discarded": True})}
    assert discarded == {*load.poisoned}
    audited(fleet)
    print(f"\n{kills} kills; all {poison:,} discarded, the others each once and in order")


@pytest.mark.faults
def test_a_mended_deployment_under_kills_while_events_flow(fleet: Fleet) -> None:
    events, poison, kills = numbers(EVENTS=100_000, POISON=1_000, KILLS=50)
    load = Load(fleet, events // 4, poison // 4, 6, "deployed")
    append, *_ = fleet.start("append")
    supervisor = FleetSupervisor(fleet, "snapshot-1", "relay-1", "relay-2")
    chance, turns = random.Random(7), [*load.turns]
    # Some workers are of the old code and some of the mended one, and at last all of the latter;
    # both are asked for redrives all the time.
    for kill in range(kills):
        if len(turns) > len(load.turns) * (kills - kill - 1) / kills:
            load.produce([turns.pop(0)])
        if kill % 2:
            fleet.run("deadletters", "redrive", "poisoned", "--all")
        supervisor.environment["MENDED"] = "1" if chance.random() < 2 * kill / kills else ""
        kill_one(supervisor, chance, within=2 * MAX_PAUSE_SECONDS)
    load.produce(turns)
    supervisor.environment["MENDED"] = "1"
    for place, worker in [*supervisor.workers.items()]:
        worker.kill()
        supervisor.start(place)
    supervisor.wait_until_owned()
    settle(fleet, {"append": "events", **SOURCES})
    assert append.process.poll() is None
    fleet.environment["MENDED"] = "1"
    wait_for(lambda: all_redriven(fleet), "all to be redriven")
    assert_all_came_in_order(fleet, load)
    assert fleet.events.count_documents({}) == sum(map(len, load.texts.values()))
    audited(fleet)
    print(f"\n{kills} kills between two deployments; each event once and in order")


@pytest.mark.faults
def test_very_many_parked_aggregates_are_redriven(fleet: Fleet) -> None:
    [count] = numbers(PARKED=10_000)
    load = Load(fleet, 3 * count, count, 8, "parked", per_aggregate=3)
    seconds_of(fleet, load)
    assert_others_flow(fleet, load)
    fleet.environment["MENDED"] = "1"
    workers = fleet.start(*ROLES)

    def left() -> float:
        return sum(worker.metric("parked_aggregates") for worker in workers)

    wait_for(lambda: left() == 2 * count, "the roles to know what they park")
    began = time.monotonic()
    asked = fleet.json("deadletters", "redrive", "poisoned", "--reason", "LookupError")
    requested = time.monotonic() - began
    assert asked["requested"] == 2 * count
    wait_for(lambda: not left(), "all to be redriven")
    print(f"\n{count:,} aggregates of each role are redriven in {time.monotonic() - began:.1f} s")
    print(f"of which {requested:.1f} s are for the request")
    assert not any(parked(fleet, role) for role in ROLES)
    assert_all_came_in_order(fleet, load)
    audited(fleet)
