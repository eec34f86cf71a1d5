"""What relay makes of stored events."""

from typing import Any

import pytest

from domains.declaration import Domain, Event, Route
from protocols.relay import Relay
from protocols.role import Poison
from stores.system import NothingParked
from tests.simulation.tally import Counted, Tally, evolve
from tests.simulation.twins import Twins, take
from topics.event import EventRecord


class Closed(Event):
    n: str


def lifted(data: dict[str, Any]) -> dict[str, Any]:
    return data | {"loud": True}


def is_loud(event: EventRecord) -> bool:
    return bool(event.data.get("loud"))


def a_domain(*routes: Route, **named: Any) -> Domain[Tally]:
    wanted: dict[str, Any] = {"state": Tally, "evolve": evolve, "events": [Counted, Closed]}
    wanted["upcasters"] = {Counted: [lifted]}
    return Domain("tally", routes=routes, **(wanted | named))


async def opened(twins: Twins) -> Relay:
    relay = Relay(twins.domain, 0, twins.writer("relay"), NothingParked())
    await relay.open()
    return relay


async def test_each_route_gets_what_it_asks_for_in_order() -> None:
    twins = Twins(a_domain(Route("all"), Route("closed", types=frozenset({Closed}))))
    relay = await opened(twins)
    await twins.append("1")
    await twins.append("2", "b", type="Closed")
    await twins.append("3")
    report = await take(relay, twins.records(twins.topics.stored))
    assert [event.id for event in twins.seen("all")] == ["1", "2", "3"]
    assert [event.id for event in twins.seen("closed")] == ["2"]
    assert (report.emitted, twins.offset("relay")) == (4, 3)
    assert [record.key for record in twins.records("all")] == [b"a", b"b", b"a"]


async def test_routes_see_and_pass_on_the_newest_schema_only() -> None:
    twins = Twins(a_domain(Route("loud", types=frozenset({"Counted"}), when=is_loud)))
    relay = await opened(twins)
    await twins.append("old")
    await twins.append("quiet", schema_version=2, data={"n": "quiet", "loud": False})
    await take(relay, twins.records(twins.topics.stored))
    [event] = twins.seen("loud")
    assert (event.id, event.schema_version, event.data) == ("old", 2, {"n": "old", "loud": True})
    assert (await twins.history())[0].data == {"n": "old"}


async def test_the_offset_moves_also_when_nothing_is_routed() -> None:
    twins = Twins(a_domain())
    relay = await opened(twins)
    report = await take(relay, await twins.append("1"))
    assert (report.emitted, twins.offset("relay")) == (0, 1)
    assert await relay.open() == 1


async def test_the_rest_of_a_chunk_goes_on_past_an_unreadable_record() -> None:
    twins = Twins(a_domain(Route("all")))
    relay = await opened(twins)
    await twins.append("1")
    await twins.put(twins.topics.stored, ("a", b"?"))
    await twins.append("2")
    report = await take(relay, twins.records(twins.topics.stored))
    assert [event.id for event in twins.seen("all")] == ["1", "2"]
    [letter] = twins.records(twins.topics.dead_letters)
    headers = dict(letter.headers)
    assert (headers["eventfleet-source"], letter.value) == (b"tally.stored/0/1", b"?")
    assert (headers["eventfleet-role"], report.dead_letters) == (b"relay", 1)


def failing(*_: Any) -> Any:
    raise LookupError("nowhere")


@pytest.mark.parametrize(
    "domain",
    [
        a_domain(Route("all", when=failing)),
        a_domain(Route("all"), upcasters={Counted: [failing]}),
    ],
    ids=["route", "upcaster"],
)
async def test_what_raises_stops_the_role(domain: Domain[Tally]) -> None:
    twins = Twins(domain)
    relay = await opened(twins)
    await twins.emit(twins.topics.stored)
    records = await twins.append("1")
    with pytest.raises(Poison, match=r"^relay can't go on: tally 'a' version 1 at offset 0: Look"):
        await take(relay, records)
    assert (twins.seen("all"), twins.offset("relay")) == ([], None)
