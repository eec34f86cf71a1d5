"""The guide to personal data: a person goes through a fleet, and is found where the page says."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import ROOT
from tests.acceptance.kafka_by_hand import NewRecord, wait_for

GUIDE = (ROOT / "docs" / "guides" / "personal-data.md").read_text()
PERSON = {"aggregate id": "person-7", "payload": "Ann Smith", "actor": "clerk-9"}
RAISES = "Raising Road"
EXPECTED = {"yes": True, "errors": True, "no": False}
MODULE = """
from msgspec.structs import replace

from eventfleet import START, Command, Domain, Emits, Event, Route, Row, State, View, every


class Placed(Event):
    customer: str


class Moved(Event):
    to: str


class Place(Command):
    customer: str


class Move(Command):
    to: str


class Order(State):
    customer: str = ""
    to: str = ""


def lives_at(customer: str, to: str) -> str:
    if to == "Raising Road":
        raise LookupError(f"{customer} does not live there")
    return to


def evolve(order, event):
    match event:
        case Placed(customer=customer):
            return replace(order, customer=customer)
        case Moved(to=to):
            return replace(order, to=lives_at(order.customer, to))


class OrderRow(Row):
    customer: str
    to: str = ""


def project(row, event):
    match event.data:
        case Placed(customer=customer):
            return OrderRow(customer=customer)
        case Moved(to=to):
            return replace(row, to=lives_at(row.customer, to))


orders = Domain(
    "orders",
    state=Order,
    evolve=evolve,
    events=[Placed, Moved],
    commands=[Emits(Place, Placed, after={START}), Emits(Move, Moved, after={Placed})],
    snapshot=every(1),
    routes=[Route("orders.out")],
    views=[View("customers", row=OrderRow, project=project)],
)
"""


def table() -> dict[str, dict[str, str]]:
    """What a place has, by the kind of data: the first words of the page's cells."""
    rows = re.findall(r"^\| (.*) \|$", GUIDE.split("## Where it lies")[1], re.MULTILINE)
    head, *others = [row.split(" | ") for row in rows[: rows.index("data in | today")]]
    return {cells[0]: dict(zip(head[1:4], cells[1:4], strict=True)) for cells in others}


def command(number: int, name: str, data: dict[str, str]) -> NewRecord:
    """A record of a command; without `data` of its class it is a dead letter."""
    value = {
        "specversion": "1.0",
        "id": f"c-{number}",
        "type": name,
        "source": "orders",
        "subject": PERSON["aggregate id"],
        "time": "2026-01-01T09:00:00Z",
        "data": data,
        "actor": PERSON["actor"],
        "replyto": "test",
    }
    key = PERSON["aggregate id"].encode()
    return NewRecord("orders.commands", key, json.dumps(value).encode(), 0)


class Traces:
    """Looks for the person in all that the servers of a fleet hold."""

    def __init__(self, fleet: CommandFleet) -> None:
        self._fleet = fleet

    def places(self) -> dict[str, str]:
        """The contents of each place, as text, by the name that the page has for it."""
        return {**self._topics(), **self._collections(), **self._keys(), **self._logs()}

    def _topics(self) -> dict[str, str]:
        kafka, found = self._fleet.kafka, dict[str, str]()
        for topic in kafka.topics():
            if topic.startswith("orders."):
                name = "topics of your routes" if topic == "orders.out" else f"topic `{topic}`"
                records = kafka.records(topic)
                found[name] = repr([(each.key, each.value, each.headers) for each in records])
        return found

    def _collections(self) -> dict[str, str]:
        database, found = self._fleet.database, dict[str, str]()
        for name in database.list_collection_names():
            place = re.sub(r"^orders\.view\..*", "orders.view.*", name)
            place = "domains`, `leases" if name in ("domains", "leases") else place
            text = found.get(f"MongoDB `{place}`", "")
            found[f"MongoDB `{place}`"] = text + repr([*database[name].find()])
        return found

    def _keys(self) -> dict[str, str]:
        found = dict[str, str]()
        keys: Any = self._fleet.redis.keys("*:orders:*")
        for key in keys:
            kind = key.partition(":")[0]
            value: Any = self._fleet.redis.hgetall(key) if kind == "marker" else key
            name = f"Redis `{kind}:orders:*`"
            found[name] = found.get(name, "") + repr((key, value))
        return found

    def _logs(self) -> dict[str, str]:
        return {"logs of workers and services": "".join(w.output() for w in self._fleet.workers)}


@pytest.fixture
def fleet(kafka: str, mongo_url: str, redis_url: str, tmp_path: Path) -> Iterator[CommandFleet]:
    (tmp_path / "orders.py").write_text(MODULE)
    with CommandFleet((kafka, mongo_url, redis_url), tmp_path, "orders") as fleet:
        yield fleet


def parked(fleet: CommandFleet) -> set[str]:
    letters = fleet.database["orders.dead_letters"].find()
    return {each["role"] for each in letters}


def wrong(found: Mapping[str, str]) -> list[str]:
    """The cells of the page that differ from what was found."""
    differences = []
    for place, cells in table().items():
        for kind, cell in cells.items():
            seen, expected = PERSON[kind] in found.get(place, ""), EXPECTED.get(cell)
            if expected not in (None, seen):
                differences.append(f"{place}: {kind} is {'' if seen else 'not '}there")
    return differences


def test_a_person_is_found_where_the_page_says_and_nowhere_else(fleet: CommandFleet) -> None:
    fleet.start("command append snapshot relay project")
    payloads = [("Place", {"customer": PERSON["payload"]}), ("Move", {"to": RAISES})]
    records = [command(number, *each) for number, each in enumerate(payloads)]
    fleet.kafka.produce([*records, command(9, "Place", {"customers": PERSON["payload"]})])
    wait_for(lambda: parked(fleet) >= {"snapshot", "project"}, "the person's order to be parked")
    fleet.settle("append", "snapshot", "relay", "project")
    wait_for(lambda: len(fleet.replies()) == 3, "the replies")

    found = Traces(fleet).places()
    assert {*found} == {*table()}
    assert "\n".join(wrong(found)) == ""
