"""Views whose workers are killed (-9), and that are rebuilt meanwhile, equal a plain fold."""

import asyncio
import os
import random
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from eventfleet.domains.orders import OrderRow, order_rows, orders, orders_by_day
from eventfleet.model.folded_view import FoldedView
from eventfleet.model.view_functions import row_id
from eventfleet.model.views import Row
from eventfleet.queries import Querier, Settings, ViewNotBuilt, querier
from eventfleet.runtime.settings import PREFIX
from tests.acceptance.fleet import COMMAND, TIMEOUT_SECONDS
from tests.acceptance.kafka_by_hand import wait_for
from tests.faults.fleet_oracle import settle
from tests.faults.fleet_supervisor import FleetSupervisor, OrderFleet
from tests.faults.load import EventLoad

PLACES = ("append-1", "project-1", "project-2", "project-3")
RANKS = {
    **{"placed": 0, "paid": 1, "packed": 2, "shipped": 3, "delivered": 4},
    **{"cancelled": 5, "returned": 5},
}
PAGE = 1_000
LONGEST_PAUSE_SECONDS = 4.0
WATCHED_ORDERS = 20


class ProjectFleet:
    """Workers of the project role under a load of orders, some of them killed."""

    def __init__(self, fleet: OrderFleet, seed: int) -> None:
        self._fleet, self._chance = fleet, random.Random(seed)
        self.supervisor = FleetSupervisor(fleet, *PLACES)
        self.kills = self.rebuilds = self.looks = 0
        self._ranks: dict[str, int] = {}

    @property
    def settings(self) -> Settings:
        values = {k.removeprefix(PREFIX).lower(): v for k, v in self._fleet.environment.items()}
        return Settings(**{k: v for k, v in values.items() if k in Settings.model_fields})  # type: ignore[arg-type]

    def kill(self) -> None:
        """Kill a worker at a random moment, and start another in its place."""
        time.sleep(self._chance.uniform(0.0, LONGEST_PAUSE_SECONDS))
        place = self._chance.choice(self.supervisor.places_of("project"))
        self.supervisor.workers[place].kill()
        self.supervisor.start(place)
        self.kills += 1

    def rebuild(self, to_the_end: bool) -> None:
        """Begin a rebuild; unless it goes on to its end, it is killed at a random moment."""
        command = [*COMMAND, "rebuild", "orders", "orders"]
        environment = os.environ | self._fleet.environment
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            if not to_the_end:
                time.sleep(self._chance.uniform(0.5, 3.0))
                process.kill()
                return
            assert process.wait(TIMEOUT_SECONDS) == 0
        self.rebuilds += 1

    def look(self) -> None:
        """No order may be further back than it was seen before."""
        asyncio.run(self._look())

    async def _look(self) -> None:
        async with querier(self.settings, orders) as queries:
            try:
                page = await queries.views.find("orders", order_by="status", limit=WATCHED_ORDERS)
            except ViewNotBuilt:
                assert not self._ranks, "a view that was built is not"
                return
            self._ranks |= {each.aggregate_id or "": 0 for each in page.rows} | self._ranks
            for name in random.sample(sorted(self._ranks), min(len(self._ranks), WATCHED_ORDERS)):
                row = await queries.views.get("orders", name)
                assert isinstance(row, OrderRow), f"{name} has no row any more"
                assert RANKS[row.status] >= self._ranks[name], f"{name} is {row.status} again"
                self._ranks[name] = RANKS[row.status]
                self.looks += 1

    def check(self) -> tuple[int, int]:
        """Wait until all is projected, and compare; the numbers of events and rows."""
        settle(self._fleet, {"append": "events", "project": "stored"})
        wait_for(self._is_built, "the view to be built")
        return asyncio.run(self._check())

    def _is_built(self) -> bool:
        async def ask() -> bool:
            async with querier(self.settings, orders) as queries:
                try:
                    await queries.views.find("orders", limit=1)
                except ViewNotBuilt:
                    return False
                return True

        return asyncio.run(ask())

    async def _check(self) -> tuple[int, int]:
        folded, events, cursor = FoldedView(order_rows), 0, ""
        async with querier(self.settings, orders) as queries:
            while (page := await queries.feed(cursor, PAGE)).items:
                for event in page.items:
                    folded.apply(replace(event, data=orders.payload(event)))
                events, cursor = events + len(page.items), page.cursor
            found = await _all_rows(queries, "orders")
            assert {row_id(name or "", ""): row for name, row in found} == folded.rows
            counted = [row for _, row in await _all_rows(queries, "orders_by_day")]
        present = [row for row in counted if row.orders]  # type: ignore[attr-defined]
        assert _sorted(present) == _sorted(folded.totals(orders_by_day))
        return events, len(found)


async def _all_rows(queries: Querier[Any], view: str) -> list[tuple[str | None, Row]]:
    rows: list[tuple[str | None, Row]] = []
    cursor = ""
    while True:
        page = await queries.views.find(view, limit=PAGE, cursor=cursor)
        rows += [(each.aggregate_id, each.row) for each in page.rows]
        if page.next is None:
            return rows
        cursor = page.next


def _sorted(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=repr)


def disturbed(
    fleet: OrderFleet, seed: int, events: int, kills: int, rate: int, rebuilding: bool
) -> None:
    disturbances = ProjectFleet(fleet, seed)
    with EventLoad(fleet.kafka.address, rate, events) as load:
        while disturbances.kills < kills or len(load.sent) < events:
            if disturbances.kills < kills:
                disturbances.kill()
            else:
                time.sleep(0.1)
            if rebuilding:
                disturbances.rebuild(to_the_end=False)
                disturbances.look()
        load.stop()
    disturbances.supervisor.wait_until_owned()
    if rebuilding:
        disturbances.rebuild(to_the_end=True)
    numbers = disturbances.check()
    print(
        f"\nviews: {disturbances.kills} kills in {numbers[0]:,} events, {numbers[1]:,} rows; "
        f"{disturbances.looks} looks"
    )


@pytest.mark.parametrize(
    ("kills", "events", "rate"),
    [(2, 1_500, 300), pytest.param(50, 200_000, 1_000, marks=pytest.mark.faults)],
)
def test_a_view_whose_workers_are_killed_equals_an_undisturbed_one(
    kafka: str, mongo_url: str, tmp_path: Path, kills: int, events: int, rate: int
) -> None:
    with OrderFleet(kafka, mongo_url, tmp_path) as fleet:
        disturbed(fleet, 1, events, kills, rate, rebuilding=False)


@pytest.mark.parametrize(
    ("kills", "events", "rate"),
    [(2, 1_500, 300), pytest.param(20, 40_000, 300, marks=pytest.mark.faults)],
)
def test_a_view_that_is_rebuilt_under_kills_loses_and_doubles_nothing(
    kafka: str, mongo_url: str, tmp_path: Path, kills: int, events: int, rate: int
) -> None:
    with OrderFleet(kafka, mongo_url, tmp_path) as fleet:
        disturbed(fleet, 2, events, kills, rate, rebuilding=True)
