"""The example domains: what each gains by its events, and its guide's blocks as they stand.

The tests are named for the rows of the study's table of domains. One fleet runs all five; its game
is of a faulty build, in which a potion heals beyond the full health.
"""

import os
import re
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from eventfleet import EventRecord
from eventfleet.cli import main
from eventfleet.commands import Accepted, event_service
from eventfleet.domains.cart import Cart, CartItem, cart
from eventfleet.domains.game import FULL_HEALTH, DrinkPotion, game
from eventfleet.domains.orders import orders
from eventfleet.domains.trading import Sell, trading
from eventfleet.queries import querier
from eventfleet.testing import given
from eventfleet.topics.codec import convert
from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.example_runs import run_example
from tests.acceptance.fleet import ROOT, TIMEOUT_SECONDS
from tests.acceptance.http_service import serving
from tests.acceptance.kafka_by_hand import wait_for

GUIDE = (ROOT / "docs" / "guides" / "example-domains.md").read_text()
REQUIREMENTS = (ROOT / "docs" / "requirements.md").read_text()
SERVICE = "http://127.0.0.1:8080"
NAMES = ("bank", "orders", "trading", "cart", "game", "chat")
FAULTY_GAME = '''
"""The game, with a bug."""

from dataclasses import replace

from eventfleet.domains import game as mended


def decide(adventure, command):
    if isinstance(command, mended.DrinkPotion):
        return mended.PotionDrunk(healed=mended.POTION_HEALTH)
    return mended.decide(adventure, command)


faulty = replace(mended.game, decide=decide)
'''


class SampleFleet(CommandFleet):
    """A fleet of the example domains, whose topics are removed at the end."""

    def _remove(self) -> None:
        self.kafka.delete(t for t in self.kafka.topics() if t.partition(".")[0] in NAMES)


@pytest.fixture(scope="module")
def fleet(
    kafka: str, mongo_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SampleFleet]:
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "faulty_game.py").write_text(FAULTY_GAME)
    modules = [f"eventfleet.domains.{name}" for name in NAMES if name not in ("game", "chat")]
    domains = ",".join([*modules, "examples.chat", "faulty_game"])
    settings = {"DOMAINS": domains, "HTTP_OPERATIONS": "examples.chat.rooms"}
    servers = (kafka, mongo_url, redis_url)
    with SampleFleet(servers, folder, "eventfleet.domains.orders", **settings) as fleet:
        paths = [str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")]
        fleet.environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        fleet.start("append command snapshot project")
        yield fleet


@pytest.fixture(scope="module")
def client(fleet: SampleFleet) -> Iterator[httpx.Client]:
    with serving(fleet.environment, fleet.folder) as service, service.client() as client:
        yield client


def send(client: httpx.Client, path: str, *commands: tuple[str, dict[str, Any]]) -> None:
    """Send commands to an aggregate, `domain/id`, one after the other; each is stored."""
    for name, body in commands:
        found = client.post(f"/domains/{path}/commands/{name}?wait=appended", json=body)
        assert found.status_code < 300, found.text


def rejects(client: httpx.Client, path: str, command: str, body: dict[str, Any]) -> bool:
    found = client.post(f"/domains/{path}/commands/{command}", json=body)
    return found.status_code == 409 and found.json()["type"].endswith(":rejected")


def get(client: httpx.Client, path: str) -> Any:
    found = client.get(f"/domains/{path}")
    assert found.status_code == 200, found.text
    return found.json()


def last_position(client: httpx.Client, path: str) -> str | None:
    """The position of an aggregate's last event; None until append has passed it."""
    position: str | None = get(client, f"{path}/events")["events"][-1].get("position")
    return position


# Bank account

STATEMENT = """time,account,command,owner,currency,amount,fee
2023-05-01T08:00:00Z,acc-9,Open,Ann,EUR,,
2023-05-31T10:00:00Z,acc-9,Deposit,,,50000,
2023-06-10T10:00:00Z,acc-9,Withdraw,,,20000,150
2023-06-30T10:00:00Z,acc-9,Deposit,,,70000,
"""
BALANCES = {
    "2023-05-30T23:59:59Z": 0,
    "2023-05-31T10:00:00Z": 50000,
    "2023-06-10T09:59:59.999Z": 50000,
    "2023-06-10T10:00:00Z": 29850,
    "2023-06-29T00:00:00Z": 29850,
    "2099-12-31T00:00:00Z": 99850,
}


@pytest.fixture(scope="module")
def statement(fleet: SampleFleet) -> None:
    path = fleet.folder / "statement.csv"
    path.write_text(STATEMENT)
    columns = ("--case", "account", "--activity", "command", "--time", "time")
    report = fleet.json("load", str(path), "--domain", "bank", "--via", "commands", *columns)
    assert (report["accepted"], report["rejected"], report["refused"]) == (4, 0, 0)


@pytest.mark.usefixtures("statement")
def test_the_bank_records_every_deposit_and_withdrawal(client: httpx.Client) -> None:
    kinds = "types=Deposited&types=Withdrawn&types=FeeCharged"
    events = get(client, f"bank/acc-9/events?{kinds}")["events"]
    assert [(each["time"][:10], each["type"], each["data"]["amount"]) for each in events] == [
        ("2023-05-31", "Deposited", 50000),
        ("2023-06-10", "Withdrawn", 20000),
        ("2023-06-10", "FeeCharged", 150),
        ("2023-06-30", "Deposited", 70000),
    ]


@pytest.mark.usefixtures("statement")
def test_the_balance_at_a_past_date_is_answered_over_http(client: httpx.Client) -> None:
    found = {at: get(client, f"bank/acc-9/state?at={at}")["state"]["balance"] for at in BALANCES}
    assert found == BALANCES
    before = client.get("/domains/bank/acc-9/state?at=2023-04-30T00:00:00Z")
    assert before.status_code == 404
    assert before.json()["type"].endswith(":unknown-version")


# Orders and delivery

LIFE: list[tuple[str, dict[str, Any]]] = [
    ("Place", {"customer": "ann", "total": 1999, "currency": "EUR"}),
    ("Pay", {"amount": 1999}),
    ("Pack", {"parcels": 1}),
    ("Ship", {"carrier": "post"}),
    ("Deliver", {}),
    ("Return", {"refund": 1999}),
]


def test_an_orders_status_history_is_kept_from_placing_to_return(client: httpx.Client) -> None:
    send(client, "orders/o-9", *LIFE)
    events = get(client, "orders/o-9/events")["events"]
    kinds = [each["type"] for each in events]
    assert kinds == ["Placed", "Paid", "Packed", "Shipped", "Delivered", "Returned"]
    times = [each["time"] for each in events]
    assert times == sorted(times)
    past = [get(client, f"orders/o-9/state?version={n}")["state"] for n in range(1, 7)]
    assert [each["status"] for each in past] == [kind.lower() for kind in kinds]
    assert get(client, "orders/o-9/state")["state"]["status"] == "returned"


# Game log

STORY: list[tuple[str, dict[str, Any]]] = [
    ("Enter", {"hero": "ann"}),
    ("TakeItem", {"item": "potion"}),
    ("Walk", {"to": "north"}),
    ("MeetFoe", {"name": "goblin", "health": 6, "strength": 4}),
    ("Attack", {"die": 2}),
    ("Attack", {"die": 6}),
    ("DrinkPotion", {}),
    ("Walk", {"to": "north"}),
    ("TakeItem", {"item": "treasure"}),
]
BUG_VERSION = 9
"""Of the event of DrinkPotion: each Attack before made two events."""


async def test_a_past_game_state_reproduces_a_reported_bug(
    fleet: SampleFleet, client: httpx.Client
) -> None:
    send(client, "game/g-9", *STORY)
    reported = get(client, "game/g-9/state")["state"]
    assert reported["health"] == 26 > FULL_HEALTH

    found = run_example(fleet, "find_game_bug.py", "g-9").splitlines()
    assert found[0] == f"g-9 went wrong at version {BUG_VERSION}: PotionDrunk {{'healed': 10}}"
    assert "  replace /health: 26" in found
    assert found[-1].startswith("the state before, to reproduce it: Adventure(")
    before = get(client, f"game/g-9/state?version={BUG_VERSION - 1}")["state"]
    assert (before["health"], before["pack"]) == (16, {"potion": 1})
    span = f"first={BUG_VERSION - 1}&second={BUG_VERSION}"
    patch = get(client, f"game/g-9/diff?{span}")["patch"]
    assert {"op": "replace", "path": "/health", "value": 26} in patch

    page = get(client, f"game/g-9/events?limit={BUG_VERSION - 1}")
    past = convert(page["events"], list[EventRecord], "events")
    reproduced = given(game, *past)
    reproduced.state(health=16)
    reproduced.when(DrinkPotion()).state(health=FULL_HEALTH)


def test_a_game_that_is_right_is_said_to_be(fleet: SampleFleet, client: httpx.Client) -> None:
    send(client, "game/g-8", *STORY[:3])
    assert complaint(fleet, "find_game_bug.py", "g-8") == "g-8 is right at version 3\n"


# Stock trading


async def test_every_trade_is_recorded_for_a_regulators_audit(
    fleet: SampleFleet, client: httpx.Client
) -> None:
    trade = {"symbol": "ACME", "quantity": 10, "price": 4200, "fee": 99}
    deposit = ("DepositCash", {"amount": 100000})
    mark = ("MarkPrice", {"symbol": "ACME", "price": 4400})
    send(client, "trading/t-9", deposit, ("Buy", trade), mark)
    assert rejects(client, "trading/t-9", "Buy", trade | {"price": 99_000})
    async with event_service(fleet.settings, trading) as service:
        sell = Sell(symbol="ACME", quantity=4, price=4500, fee=99)
        assert isinstance(await service.send("t-9", sell, actor="trader-7"), Accepted)
    said = run_example(fleet, "audit_trading.py", "t-9").splitlines()
    assert [re.sub(r"^(\d+) \S+T\S+ ", r"\1 ", line) for line in said] == [
        "1 unknown CashDeposited: amount 100000; cash 100,000",
        "2 unknown Bought: symbol ACME, quantity 10, price 4200, fee 99; cash 57,901, held 10",
        "3 unknown PriceMarked: symbol ACME, price 4400; cash 57,901, held 10",
        "4 trader-7 Sold: symbol ACME, quantity 4, price 4500, fee 99; cash 75,802, held 6",
        "t-9: 4 events, none is missing",
        "ACME: bought 10 for 42,000, sold 4 for 18,000, profit 1,200",
        "cash in 100,000, out 0, fees 198",
        "profit after fees 1,002, cash 75,802, value 102,802",
        "the kept state agrees with the events",
    ]


def test_a_trade_that_was_taken_out_of_the_store_is_found_by_the_audit(
    fleet: SampleFleet, client: httpx.Client
) -> None:
    account, stored = "t-8", fleet.database["trading.events"]
    trade = {"symbol": "ACME", "quantity": 1, "price": 100}
    deposit = ("DepositCash", {"amount": 1000})
    send(client, f"trading/{account}", deposit, ("Buy", trade), ("Sell", trade))
    wait_for(lambda: last_position(client, f"trading/{account}"), "append to pass the events")
    get(client, f"trading/{account}/state")
    saved = {"aggregate_id": account, "version": 3}
    wait_for(lambda: fleet.database["trading.snapshots"].find_one(saved), "the state to be saved")
    event = stored.find_one_and_delete({"aggregate_id": account, "version": 3})
    assert event
    try:
        said = complaint(fleet, "audit_trading.py", account)
        assert said == "t-8: of 3 events only 2 are stored\n"
    finally:
        stored.insert_one(event)


# Shopping cart

FILLING: list[tuple[str, dict[str, Any]]] = [
    ("OpenCart", {"session": "s-1"}),
    ("AddItem", {"sku": "tea", "quantity": 2, "price": 450}),
    ("AddItem", {"sku": "cup", "quantity": 1, "price": 900}),
    ("ChangeQuantity", {"sku": "tea", "quantity": 3}),
    ("RemoveItem", {"sku": "cup"}),
]
ITEMS = {"tea": CartItem(quantity=3, price=450)}


async def test_a_lost_sessions_cart_is_restored_from_its_events(
    fleet: SampleFleet, client: httpx.Client
) -> None:
    """Who asks has nothing but the store, and that has nothing but the cart's events."""
    send(client, "cart/c-9", *FILLING)
    fleet.database["cart.snapshots"].delete_many({"aggregate_id": "c-9"})
    async with querier(fleet.settings, cart) as queries:
        restored = await queries.latest("c-9")
        assert restored
        assert restored.state == Cart(status="open", session="s-1", items=ITEMS)
        send(client, "cart/c-9", ("ResumeCart", {"session": "s-2"}))
        resumed = await queries.latest("c-9")
        assert resumed
        assert resumed.state == Cart(status="open", session="s-2", items=ITEMS)


async def test_an_abandoned_cart_is_resumed_as_it_was_left(
    fleet: SampleFleet, client: httpx.Client
) -> None:
    send(client, "cart/c-8", *FILLING, ("AbandonCart", {"idle_minutes": 45}))
    assert rejects(client, "cart/c-8", *FILLING[1])
    order = {"order": "o-8", "items": {"tea": 3}, "total": 1350}
    send(client, "cart/c-8", ("ResumeCart", {"session": "s-2"}), ("CheckOut", order))
    async with querier(fleet.settings, cart) as queries:
        left = await queries.at("c-8", len(FILLING) + 1)
        assert left
        assert left.state == Cart(status="abandoned", session="s-1", items=ITEMS)
        latest = await queries.latest("c-8")
        assert latest
        assert latest.state.status == "checked out"
        assert latest.state.items == ITEMS


# The guide and the examples

SHOWN = {
    "Bank account": [
        '"balance":90000',
        '"balance": 210000',
        *("Deposited", "Withdrawn", "Deposited", "Withdrawn"),
    ],
    "Orders and delivery": ["Placed", "Paid", "Packed", "Shipped", "Delivered", "Returned"],
    "Game log": ['"health": 20', '"name": "goblin"', "version 2 to 4", "/health  16"],
    "Stock trading": ["mine: 3 events, none is missing", "agrees with the events", "clean"],
    "Shopping cart": ['"status": "open"', '"session": "s-2"', '"quantity": 2'],
    "Chat": ["accepted", "accepted", '"content": "hi"', '"content":"hi all"'],
    "Their views": ["ben", "500", "placed", "placed", "500"],
}


def terminal(fleet: SampleFleet) -> dict[str, str]:
    paths = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    return fleet.environment | {"PATH": paths}


def complaint(fleet: SampleFleet, *arguments: str) -> str:
    """What an example says that ends with status 1."""
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / arguments[0], *arguments[1:]],
        env=terminal(fleet),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stderr


def views_are_built(client: httpx.Client) -> bool:
    views = ("orders/orders", "game/adventures", "cart/carts")
    return all(client.get(f"/views/{view}").is_success for view in views)


def section(heading: str) -> str:
    (text,) = re.findall(rf"^## {heading}.*\n([^#]*)", GUIDE, re.MULTILINE)
    return str(text)


def run_line(line: str, environment: dict[str, str]) -> str:
    """The output of a line of a block; ours runs in this process, as starting one takes longer."""
    words = shlex.split(line)
    if words[0] == "eventfleet":
        called = CliRunner(env=environment).invoke(main, words[1:])
        assert called.exit_code == 0, called.output
        return called.output
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("heading", SHOWN)
def test_the_guides_blocks_show_what_the_guide_says(
    fleet: SampleFleet, client: httpx.Client, heading: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(fleet.folder)
    monkeypatch.chdir(ROOT)
    variable, shown_url = re.findall(r"^export (\w+)=(\S+)$", GUIDE, re.MULTILINE)[0]
    assert shown_url == SERVICE
    wait_for(lambda: views_are_built(client), "the views to be built")
    environment = terminal(fleet) | {variable: str(client.base_url).rstrip("/")}
    (block,) = re.findall(r"```sh\n(.*?)```", section(heading), re.DOTALL)
    lines = block.replace("\\\n", " ").splitlines()
    said = "".join(run_line(line, environment) for line in lines)
    assert re.search(".*".join(map(re.escape, SHOWN[heading])), said, re.DOTALL), said


def test_the_studys_names_are_events_and_commands_of_orders() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| `(\w+)` \|$", REQUIREMENTS, re.MULTILINE)
    names = [name for name, *_ in rows]
    assert (names[0], names[3]) == ("ORDER_PLACED", "SHIPPED")
    assert [name.removeprefix("ORDER_") for name in names] == [kind.upper() for _, kind, _ in rows]
    by_command = {command: kind for _, kind, command in rows}
    assert by_command == {rule.name: rule.type for rule in orders.commands}  # type: ignore[union-attr]
    assert len(rows) == len(orders.events)


def test_each_section_of_the_guide_is_short() -> None:
    for heading in SHOWN:
        lines = [line for line in section(heading).splitlines() if line.strip()]
        assert len(lines) <= 12, heading
