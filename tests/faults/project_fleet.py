"""Workers of the project role."""

import asyncio
import os
import random
import subprocess
import time
from typing import Any

from msgspec.structs import replace

from eventfleet.domains.orders import OrderRow, order_rows, orders, orders_by_day
from eventfleet.model.folded_view import FoldedView
from eventfleet.model.view_functions import row_id
from eventfleet.model.views import Row
from eventfleet.queries import Querier, Settings, ViewNotBuilt, querier
from eventfleet.runtime.settings import PREFIX
from tests.acceptance.fleet import TIMEOUT_SECONDS
from tests.acceptance.kafka_by_hand import wait_for
from tests.faults.fleet_oracle import settle
from tests.faults.fleet_supervisor import FleetSupervisor, OrderFleet
from tests.program import COMMAND

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
