"""Poison events among many in append, whose upcaster raises on them."""

import random

import pytest

from tests.acceptance.fleet import Fleet
from tests.acceptance.kafka_by_hand import wait_for
from tests.faults.fleet_oracle import settle
from tests.faults.fleet_supervisor import FleetSupervisor
from tests.faults.poison import (
    LEAST_SPEED,
    Load,
    NewFleet,
    all_redriven,
    assert_all_came_in_order,
    assert_others_flow,
    audited,
    kill_one,
    measure_speed,
    numbers,
    seconds_in,
)

SOURCES = {"append": "events", "relay": "stored"}


def seconds_of(fleet: Fleet, load: Load) -> float:
    load.produce()
    return seconds_in(fleet, "append", load)


def check(fleet: Fleet, load: Load) -> None:
    stored = fleet.events.count_documents({"offset": {"$exists": True}})
    behind = sum(len(load.turns) - at for at in load.poisoned.values())
    assert stored == sum(map(len, load.texts.values())) - behind


@pytest.mark.faults
def test_poison_costs_little_of_the_speed_of_append(new_fleet: NewFleet) -> None:
    assert measure_speed(new_fleet, "unliftable", seconds_of, check) >= LEAST_SPEED


@pytest.mark.faults
def test_poison_in_append_is_redriven_in_order_under_kills(new_fleet: NewFleet) -> None:
    events, poison, kills = numbers(EVENTS=100_000, POISON=1_000, KILLS=50)
    with new_fleet("unliftable") as fleet:
        load = Load(fleet, events, poison, 8, "unliftable")
        fleet.start("append relay")
        load.produce()
        settle(fleet, SOURCES)
        assert_others_flow(fleet, load, "append")
        for worker in fleet.workers:
            assert worker.stop() == 0

        fleet.environment["MENDED"] = "1"
        supervisor = FleetSupervisor(fleet, "append-1", "append-2", "relay-1")
        chance = random.Random(9)
        for _ in range(kills):
            fleet.run("deadletters", "redrive", fleet.domain, "--all")
            kill_one(supervisor, chance)
        supervisor.wait_until_owned()
        wait_for(lambda: all_redriven(fleet, "append"), "all to be redriven")
        settle(fleet, SOURCES)
        assert_all_came_in_order(fleet, load)
        audited(fleet)
        print(f"\n{kills} kills; all {poison:,} redriven, each event once and in order")
