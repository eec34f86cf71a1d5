"""Poison events among many in project, whose view raises on them."""

import random
from typing import Any

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
    audited,
    kill_one,
    measure_speed,
    numbers,
    parked,
    seconds_in,
)


def rows_of(fleet: Fleet, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: list[str] = []
    while True:
        page = fleet.json("view", fleet.domain, table, "--limit", "1000", *cursor)
        found += page["rows"]
        if page["next"] is None:
            return found
        cursor = ["--from", page["next"]]


def assert_view_has(fleet: Fleet, texts: dict[str, list[str]]) -> None:
    """Check that rows have these texts, in order, and totals what follows from them."""
    rows = {each["aggregate_id"]: each["row"]["texts"] for each in rows_of(fleet, "notes")}
    assert rows == {key: found for key, found in texts.items() if found}
    [total] = [each["row"] for each in rows_of(fleet, "sizes")]
    assert (total["aggregates"], total["texts"]) == (len(rows), sum(map(len, rows.values())))


def texts_before_poison(load: Load) -> dict[str, list[str]]:
    return {key: texts[: load.poisoned.get(key, len(texts))] for key, texts in load.texts.items()}


def store(fleet: Fleet, load: Load) -> None:
    [append] = fleet.start("append")
    load.produce()
    settle(fleet, {"append": "events"})
    assert append.stop() == 0


def seconds_of(fleet: Fleet, load: Load) -> float:
    # The builds exist, and are live, before there is an event.
    [project] = fleet.start("project")
    wait_for(lambda: fleet.invoke("view", fleet.domain, "notes").exit_code == 0, "the view")
    assert project.stop() == 0
    store(fleet, load)
    return seconds_in(fleet, "project", load)


def check(fleet: Fleet, load: Load) -> None:
    assert_view_has(fleet, texts_before_poison(load))
    listed = parked(fleet, "project")
    assert {key: each["first"] - 1 for key, each in listed.items()} == load.poisoned


@pytest.mark.faults
def test_poison_costs_little_of_the_speed_of_project(new_fleet: NewFleet) -> None:
    assert measure_speed(new_fleet, "poisoned", seconds_of, check) >= LEAST_SPEED


@pytest.mark.faults
def test_poison_in_project_is_redriven_in_order_under_kills(new_fleet: NewFleet) -> None:
    events, poison, kills = numbers(EVENTS=100_000, POISON=1_000, KILLS=50)
    with new_fleet() as fleet:
        load = Load(fleet, events, poison, 10, "projected")
        seconds_of(fleet, load)
        check(fleet, load)

        fleet.environment["MENDED"] = "1"
        supervisor = FleetSupervisor(fleet, "project-1", "project-2")
        chance = random.Random(11)
        for _ in range(kills):
            fleet.run("deadletters", "redrive", fleet.domain, "--all")
            kill_one(supervisor, chance)
        supervisor.wait_until_owned()
        wait_for(lambda: all_redriven(fleet, "project"), "all to be redriven")

        def is_whole() -> bool:
            [total] = [each["row"] for each in rows_of(fleet, "sizes")]
            return bool(total["texts"] == sum(map(len, load.texts.values())))

        # Totals are built anew.
        wait_for(is_whole, "the new build to be live")
        assert_view_has(fleet, load.texts)
        audited(fleet)
        print(f"\n{kills} kills; all {poison:,} redriven, rows and totals are those of all events")
