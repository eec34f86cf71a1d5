"""Views on a fleet of real processes and servers: projected, queried, rebuilt."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from eventfleet.domains.bank import AccountRow, Deposit, Freeze, Open, Withdraw
from eventfleet.runtime.event_services import event_service
from eventfleet.service.event_service import EventService
from eventfleet.states.view_reader import ViewNotBuilt
from eventfleet.stores.contracts import Stage
from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import ROOT
from tests.acceptance.fleet_kinds import KINDS, open_command_fleet
from tests.acceptance.kafka_by_hand import wait_for

GUIDE = ROOT / "docs" / "guides" / "views.md"


@pytest.fixture(params=KINDS)
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CommandFleet]:
    with open_command_fleet(request, tmp_path, "eventfleet.domains.bank") as fleet:
        yield fleet


def bank_of(fleet: CommandFleet) -> Any:
    from eventfleet.runtime import connections

    return connections.select_domains(fleet.settings, [fleet.domain])[fleet.domain]


async def opened(service: EventService[Any], name: str, owner: str, cents: int) -> None:
    await service.send(name, Open(owner=owner, currency="EUR"))
    waited = await service.send(name, Deposit(amount=cents), wait=Stage.PROJECTED, patience=30)
    assert waited.stage is Stage.PROJECTED


async def a_day_at_the_bank(fleet: CommandFleet) -> None:
    async with event_service(fleet.settings, bank_of(fleet)) as service:
        await asyncio.gather(
            *(opened(service, f"a-{n}", "ann" if n % 2 else "bob", 100 * n) for n in range(1, 9))
        )
        # A query sees what was waited for.
        row = await service.row("accounts", "a-8")
        assert isinstance(row, AccountRow)
        assert (row.owner, row.balance, row.status) == ("bob", 800, "open")
        await service.send("a-8", Freeze(reason="lost card"), wait=Stage.PROJECTED, patience=30)
        await service.send("a-7", Withdraw(amount=100), wait=Stage.PROJECTED, patience=30)

        found = await service.rows(
            "accounts", {"owner": "ann", "balance.gte": 300}, order_by="-balance", limit=2
        )
        assert [(each.aggregate_id, each.row.balance) for each in found.rows] == [  # type: ignore[attr-defined]
            ("a-7", 600),
            ("a-5", 500),
        ]
        found = await service.rows(
            "accounts",
            {"owner": "ann", "balance.gte": 300},
            order_by="-balance",
            cursor=found.next or "",
        )
        assert [each.aggregate_id for each in found.rows] == ["a-3"]
        assert found.next is None


def test_views_are_projected_queried_and_rebuilt(fleet: CommandFleet) -> None:
    fleet.start("append project")
    asyncio.run(a_day_at_the_bank(fleet))
    frozen = {"currency": "EUR", "status": "frozen", "accounts": 1, "balance": 800}
    totals = [frozen, frozen | {"status": "open", "accounts": 7, "balance": 2700}]

    page = fleet.json("view", fleet.domain, "deposits", "currency=EUR", "--order", "status")
    assert [each["row"] for each in page["rows"]] == totals
    [row] = fleet.json("view", fleet.domain, "accounts", "status=frozen")["rows"]
    assert (row["aggregate_id"], row["row"]["owner"]) == ("a-8", "bob")
    assert "a-8" in fleet.run("view", fleet.domain, "accounts", "status.in=frozen,closed")

    built = fleet.json("rebuild", fleet.domain, "accounts")
    assert built["build"] == 2
    page = fleet.json("view", fleet.domain, "deposits", "--order", "status")
    assert [each["row"] for each in page["rows"]] == totals

    with fleet.serving() as service, service.client() as client:
        over_http(client, fleet.domain, totals)


def over_http(client: httpx.Client, domain: str, totals: list[dict[str, Any]]) -> None:
    answer = client.get(f"/views/{domain}/accounts", params={"status": "frozen"})
    assert (answer.status_code, answer.json()["rows"][0]["aggregate_id"]) == (200, "a-8")
    answer = client.get(f"/views/{domain}/deposits", params={"order": "status", "limit": 1})
    assert [each["row"] for each in answer.json()["rows"]] == totals[:1]
    answer = client.get(
        f"/views/{domain}/deposits", params={"order": "status", "from": answer.json()["next"]}
    )
    assert answer.json() == {"rows": [{"row": totals[1]}], "next": None}
    for wrong, field in (
        ({"colour": "red"}, "colour"),
        ({"balance.gte": "much"}, "balance.gte"),
        ({"balance.gte": str(2**63)}, "balance.gte"),
        ({"balance.near": "1"}, "balance.near"),
        ({"order": "colour"}, "order"),
        ({"order": ""}, "order"),
        ({"from": "x"}, "from"),
    ):
        answer = client.get(f"/views/{domain}/accounts", params=wrong)
        assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert client.get(f"/views/{domain}/unheard").status_code == 404
    paths = client.get("/openapi.json").json()["paths"]
    described = paths[f"/views/{domain}/accounts"]["get"]
    assert {"owner", "balance.gte", "order", "from"} <= {p["name"] for p in described["parameters"]}


def test_a_view_that_nobody_has_built_says_so(fleet: CommandFleet) -> None:
    async def ask() -> None:
        async with event_service(fleet.settings, bank_of(fleet)) as service:
            with pytest.raises(ViewNotBuilt, match="no worker of the role project has built it"):
                await service.rows("accounts")

    asyncio.run(ask())
    fleet.start("append project")
    wait_for(lambda: _is_built(fleet), "the view to be built")


def test_the_guide_s_domain_can_be_declared() -> None:
    [block] = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block, GUIDE.name, "exec"), names)
    assert [table.name for view in names["savings"].views for table in view.tables] == [
        "accounts",
        "accounts_by_owner",
    ]


def _is_built(fleet: CommandFleet) -> bool:
    async def ask() -> bool:
        async with event_service(fleet.settings, bank_of(fleet)) as service:
            try:
                return (await service.rows("accounts")).rows == []
            except ViewNotBuilt:
                return False

    return asyncio.run(ask())
