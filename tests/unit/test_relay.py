"""What relay makes of stored events."""

from typing import Any

import pytest
from msgspec.structs import replace

from eventfleet.model.domain import Domain, Route
from eventfleet.model.payloads import Event
from eventfleet.roles.relay import RelayRole
from eventfleet.roles.role import PoisonEvent
from eventfleet.stores.errors import TopicRefused
from eventfleet.stores.memory.log import MemoryReader
from eventfleet.stores.parked_aggregates import NoParkedAggregates
from eventfleet.topics.event import EventRecord
from eventfleet.topics.topic_specs import TopicSpec
from tests.simulation.in_memory_servers import InMemoryServers, take
from tests.simulation.recording_domain import Counted, Tally, evolve


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


async def opened(memory: InMemoryServers) -> RelayRole:
    relay = RelayRole(
        memory.domain, 0, memory.events.registry, memory.writer("relay"), NoParkedAggregates()
    )
    await relay.open()
    return relay


async def test_each_route_gets_what_it_asks_for_in_order() -> None:
    memory = InMemoryServers(a_domain(Route("all"), Route("closed", types=frozenset({Closed}))))
    relay = await opened(memory)
    await memory.append("1")
    await memory.append("2", "b", type="Closed")
    await memory.append("3")
    report = await take(relay, memory.records(memory.topics.stored))
    assert [event.id for event in memory.seen("all")] == ["1", "2", "3"]
    assert [event.id for event in memory.seen("closed")] == ["2"]
    assert (report.emitted, memory.offset("relay")) == (4, 3)
    assert [record.key for record in memory.records("all")] == [b"a", b"b", b"a"]


async def test_routes_see_and_pass_on_the_newest_schema_only() -> None:
    memory = InMemoryServers(a_domain(Route("loud", types=frozenset({"Counted"}), when=is_loud)))
    relay = await opened(memory)
    await memory.append("old")
    await memory.append("quiet", schema_version=2, data={"n": "quiet", "loud": False})
    await take(relay, memory.records(memory.topics.stored))
    [event] = memory.seen("loud")
    assert (event.id, event.schema_version, event.data) == ("old", 2, {"n": "old", "loud": True})
    assert (await memory.history())[0].data == {"n": "old"}


async def test_what_is_routed_keeps_its_timestamp() -> None:
    loud = Route("loud", types=frozenset({"Counted"}), when=is_loud)
    memory = InMemoryServers(a_domain(loud, Route("all")))
    relay = await opened(memory)
    await memory.append("1")
    await memory.append("2", type="Closed")
    records = memory.records(memory.topics.stored)
    await take(relay, [replace(record, timestamp=7 + record.offset) for record in records])
    assert [record.timestamp for record in memory.records("loud")] == [7]
    assert [record.timestamp for record in memory.records("all")] == [7, 8]


async def test_the_offset_moves_also_when_nothing_is_routed() -> None:
    memory = InMemoryServers(a_domain())
    relay = await opened(memory)
    report = await take(relay, await memory.append("1"))
    assert (report.emitted, memory.offset("relay")) == (0, 1)
    assert await relay.open() == 1


async def test_the_rest_of_a_chunk_goes_on_past_an_unreadable_record() -> None:
    memory = InMemoryServers(a_domain(Route("all")))
    relay = await opened(memory)
    await memory.append("1")
    await memory.put(memory.topics.stored, ("a", b"?"))
    await memory.append("2")
    report = await take(relay, memory.records(memory.topics.stored))
    assert [event.id for event in memory.seen("all")] == ["1", "2"]
    [letter] = memory.records(memory.topics.dead_letters)
    headers = dict(letter.headers)
    assert (headers["eventfleet-source"], letter.value) == (b"tally.stored/0/1", b"?")
    assert (headers["eventfleet-role"], report.dead_letters) == (b"relay", 1)


WRITTEN = (
    b'{"specversion":"1.0","id":"x","type":"Closed","source":"tally","subject":"a",'
    b'"time":"2025-01-01T00:00:00Z","data":{"n":"x"},"version":1,"position":"0-0-0"}'
)


@pytest.mark.parametrize("routes", [[], [Route("all")], [Route("loud", when=is_loud)]])
@pytest.mark.parametrize(
    ("good", "bad", "reason"),
    [
        (b'"id":"x",', b"", b"id: is missing"),
        (b'"1.0"', b'"2.0"', b"specversion: is '2.0', only '1.0' is read"),
        (b'"specversion":"1.0",', b"", b"specversion: is None, only '1.0' is read"),
        (b'{"n":"x"}', b"[1]", b"data: Expected `object`, got `array`"),
        (b'{"n":"x"}', b'{"n":"\xff"}', b"value: is not JSON: "),
        (b'{"n":"x"}', b'{"n":', b"value: is not JSON: "),
        (b"Z", b"", b"time: Expected `datetime` with a timezone component"),
    ],
)
async def test_what_append_can_not_have_written_is_a_dead_letter(
    routes: list[Route], good: bytes, bad: bytes, reason: bytes
) -> None:
    memory = InMemoryServers(a_domain(*routes))
    relay = await opened(memory)
    await memory.put(memory.topics.stored, ("a", WRITTEN.replace(good, bad)))
    report = await take(relay, memory.records(memory.topics.stored))
    [letter] = memory.records(memory.topics.dead_letters)
    assert dict(letter.headers)["eventfleet-reason"].startswith(reason)
    assert (report.dead_letters, report.emitted) == (1, 0)


async def test_events_of_the_newest_schema_go_on_byte_for_byte() -> None:
    memory = InMemoryServers(a_domain(Route("all"), Route("closed", types=frozenset({Closed}))))
    relay = await opened(memory)
    spelt_otherwise = WRITTEN.replace(b"Z", b"+00:00")
    await memory.put(memory.topics.stored, ("a", WRITTEN), ("a", spelt_otherwise))
    await take(relay, memory.records(memory.topics.stored))
    for topic in ("all", "closed"):
        assert [record.value for record in memory.records(topic)] == [WRITTEN, spelt_otherwise]


async def test_a_schema_free_domain_routes_by_name() -> None:
    routes = (Route("all"), Route("some", types=frozenset({"Counted"})))
    memory = InMemoryServers(a_domain(*routes, events=[], upcasters={}))
    relay = await opened(memory)
    await memory.append("1")
    await memory.append("2", type="anything")
    await take(relay, memory.records(memory.topics.stored))
    assert [event.id for event in memory.seen("all")] == ["1", "2"]
    assert [event.id for event in memory.seen("some")] == ["1"]


@pytest.mark.parametrize("named", [{"schema_version": 3}, {"type": "Unheard"}])
async def test_an_event_that_is_not_declared_stops_the_role(named: dict[str, Any]) -> None:
    memory = InMemoryServers(a_domain(Route("all")))
    relay = await opened(memory)
    records = await memory.append("1", **named)
    with pytest.raises(PoisonEvent):
        await take(relay, records)


async def test_a_relay_looks_for_the_topics_of_its_routes_before_it_takes_over() -> None:
    memory = InMemoryServers(a_domain(Route("all")))
    domain = a_domain(Route("all"), Route("nowhere"))
    role = RelayRole(
        *(domain, 0, memory.events.registry, memory.writer("relay"), NoParkedAggregates()),
        reader=MemoryReader(memory.log),
    )
    with pytest.raises(TopicRefused, match="topic nowhere, to which a route of tally leads"):
        await role.open()
    assert memory.offset("relay") is None
    memory.log.create(TopicSpec("nowhere", 1, 1))
    assert await role.open() == 0


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
    memory = InMemoryServers(domain)
    relay = await opened(memory)
    await memory.emit(memory.topics.stored)
    records = await memory.append("1")
    with pytest.raises(
        PoisonEvent, match=r"^relay can't go on: tally 'a' version 1, event 1 at offset 0: Look"
    ):
        await take(relay, records)
    assert (memory.seen("all"), memory.offset("relay")) == ([], 0)
