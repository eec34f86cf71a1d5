"""What relay makes of stored events."""

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from eventfleet.model.declaration import Route
from eventfleet.model.domain import Domain
from eventfleet.model.views import ProjectedEvent
from eventfleet.roles.logged_parking import COPY_INTERVAL, LoggedParking
from eventfleet.roles.parking import TooManyParked
from eventfleet.roles.parking_warnings import MAX_NAMED
from eventfleet.roles.redrive_schedule import COMPARE_INTERVAL
from eventfleet.roles.relay import RelayRole
from eventfleet.stores.contracts.dead_letters import ParkedQuery
from eventfleet.stores.errors import ServerUnavailable, TopicRefused
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import MemoryPlainWriter, MemoryReader, MemoryTransactionalWriter
from eventfleet.stores.parked_log import TopicParkedLog
from eventfleet.topics.codec import encode
from eventfleet.topics.event import EventKey, EventRecord
from eventfleet.topics.parked import Discard, ParkedAggregate
from eventfleet.topics.topic_specs import TopicSpec
from tests.simulation.in_memory_servers import InMemoryServers, take
from tests.simulation.recording_domain import Counted, Tally
from tests.unit.relay_fixture import Closed, Team, a_domain, a_parking_relay, ask, opened, parked_at


def is_loud(event: ProjectedEvent) -> bool:
    return bool(event.data.loud)


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
        (b'{"n":"x"}', b'{"n":"\xff"}', b"value: is not UTF-8: byte "),
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
async def test_an_event_that_is_not_declared_parks_its_aggregate(named: dict[str, Any]) -> None:
    memory = InMemoryServers(a_domain(Route("all")))
    relay = await opened(memory)
    await take(relay, await memory.append("1", **named))
    [parked] = await memory.dead_letters.find(ParkedQuery(), 10)
    assert (parked.aggregate_id, parked.first) == ("a", 1)
    assert parked.reason.startswith("NewerSchema: ")


async def test_a_relay_looks_for_the_topics_of_its_routes_before_it_takes_over() -> None:
    memory = InMemoryServers(a_domain(Route("all")))
    domain = a_domain(Route("all"), Route("nowhere"))
    role = RelayRole(
        *(domain, 0, memory.events, memory.writer("relay"), memory.logged_parking("relay")),
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
async def test_what_raises_parks_its_aggregate(domain: Domain[Tally]) -> None:
    memory = InMemoryServers(domain)
    relay = await opened(memory)
    report = await take(relay, await memory.append("1"))
    assert (memory.seen("all"), memory.offset("relay")) == ([], 1)
    assert (report.parked, report.emitted, report.dead_letters) == (1, 0, 0)
    [parked] = await memory.dead_letters.find(ParkedQuery(), 10)
    assert (parked.role, parked.event_id, parked.attempts) == ("relay", "1", 1)
    assert parked.reason == "LookupError: nowhere"
    assert f'File "{__file__}", line ' in parked.details
    [letter] = memory.records(memory.topics.dead_letters)
    headers = dict(letter.headers)
    assert headers["eventfleet-kind"] == b"parked"
    assert headers["eventfleet-reason"] == b"LookupError: nowhere"
    assert b'raise LookupError("nowhere")' in headers["eventfleet-traceback"]
    assert letter.value == memory.records(memory.topics.stored)[0].value


# Parked aggregates


async def test_others_flow_while_an_aggregate_is_parked_and_its_events_wait_in_order() -> None:
    team, memory, relay = await a_parking_relay("2")
    assert [event.id for event in memory.seen("all")] == ["1", "3", "5"]
    assert await parked_at(memory) == [("a", 2, 3, 1)]
    team.poison.clear()
    await ask(memory)
    report = await relay.tick()
    assert [event.id for event in memory.seen("all")] == ["1", "3", "5", "2", "4"]
    assert (report.redriven, await parked_at(memory)) == (2, [])
    await take(relay, await memory.append("6"))
    assert [event.id for event in memory.seen("all")][-1] == "6"


async def test_without_a_request_nothing_is_redriven() -> None:
    team, memory, relay = await a_parking_relay("2")
    team.poison.clear()
    await relay.tick()
    assert await parked_at(memory) == [("a", 2, 3, 1)]


async def test_what_fails_again_stays_parked_and_its_attempts_are_counted() -> None:
    _, memory, relay = await a_parking_relay("2")
    await ask(memory)
    await relay.tick()
    await relay.tick()  # the request is done with
    assert await parked_at(memory) == [("a", 2, 3, 2)]


async def test_a_redrive_goes_as_far_as_the_next_event_that_fails() -> None:
    team, memory, relay = await a_parking_relay("2", "4")
    team.poison.remove("2")
    await ask(memory)
    await relay.tick()
    assert [event.id for event in memory.seen("all")] == ["1", "3", "5", "2"]
    assert await parked_at(memory) == [("a", 3, 3, 1)]


async def test_a_discard_passes_over_the_first_event_only_and_leaves_a_tombstone() -> None:
    _, memory, relay = await a_parking_relay("2")
    await ask(memory, discard=True)
    report = await relay.tick()
    assert [event.id for event in memory.seen("all")] == ["1", "3", "5", "4"]
    assert (report.discarded, report.redriven, await parked_at(memory)) == (1, 1, [])
    [tombstone] = await memory.dead_letters.discarded("relay", ["a"])
    assert (tombstone.event_id, tombstone.version) == ("2", 2)
    assert (tombstone.discard.why, tombstone.discard.by) == ("a mistake", "ann")


async def test_a_discard_of_an_event_that_is_no_longer_the_first_discards_nothing() -> None:
    team, memory, relay = await a_parking_relay("2", "4")
    await ask(memory, discard=True)
    team.poison.remove("2")
    [parked] = relay._parking.aggregates.values()
    relay._parking.park_at("a", 3, LookupError("nowhere"), "4")
    relay._parking.aggregates["a"] = replace(parked, first=3, event_id="4")
    await relay.tick()
    assert await memory.dead_letters.discarded("relay", ["a"]) == []
    assert await parked_at(memory) == [("a", 3, 3, 2)]


async def test_a_new_owner_knows_what_is_parked_and_mends_the_copy() -> None:
    team, memory, _ = await a_parking_relay("2")
    await memory.dead_letters.unpark("relay", ["a"])
    await memory.dead_letters.park(
        [ParkedAggregate("relay", 0, "gone", 1, 1, "x", "T", "r", "", 1, memory.clock.now())]
    )
    relay = await opened(memory)
    assert await parked_at(memory) == [("a", 2, 3, 1)]
    await take(relay, await memory.append("6"))
    memory.clock.time += COMPARE_INTERVAL
    await relay.tick()
    assert await parked_at(memory) == [("a", 2, 4, 1)]
    team.poison.clear()
    await ask(memory)
    await relay.tick()
    assert [event.id for event in memory.seen("all")] == ["1", "3", "5", "2", "4", "6"]


async def test_more_events_behind_a_parked_one_are_written_without_its_reason() -> None:
    team, memory, relay = await a_parking_relay("2")
    for n in ("6", "7"):
        await take(relay, await memory.append(n))
    first, *behind = memory.records(memory.topics.parked)
    assert b"LookupError" in first.value
    assert [(each.key, each.value) for each in behind] == [
        (b"behind/relay/a", b'{"role":"relay","aggregate_id":"a","last":4}'),
        (b"behind/relay/a", b'{"role":"relay","aggregate_id":"a","last":5}'),
    ]
    relay = await opened(memory)
    assert await parked_at(memory) == [("a", 2, 5, 1)]
    team.poison.clear()
    await ask(memory)
    await relay.tick()
    assert [event.id for event in memory.seen("all")][-4:] == ["2", "4", "6", "7"]

    # Nothing of it is left for the next time that the aggregate is parked.
    team.poison.add("8")
    await take(relay, await memory.append("8"))
    await opened(memory)
    assert await parked_at(memory) == [("a", 6, 6, 1)]


async def test_the_log_names_some_aggregates_of_a_reason_and_counts_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events = [str(n) for n in range(1, MAX_NAMED + 6)]
    memory = InMemoryServers(Team(*events).domain)
    relay = await opened(memory)
    for n in events:
        await memory.append(n, f"a-{n}")
    records = memory.records(memory.topics.stored)
    await take(relay, records[: MAX_NAMED + 2])
    await take(relay, records[MAX_NAMED + 2 :])
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == MAX_NAMED + 2
    assert [line.count("Traceback") for line in lines] == [1] + [0] * (MAX_NAMED + 1)
    told = "relay of tally, partition 0 parks %d more aggregates: LookupError: nowhere"
    assert [lines[-2], lines[-1]] == [told % 2, told % 3]


async def test_a_copy_that_an_earlier_owner_wrote_late_is_corrected_in_time() -> None:
    _, memory, relay = await a_parking_relay("2")
    await memory.dead_letters.unpark("relay", ["a"])
    memory.clock.time += COMPARE_INTERVAL
    await relay.tick()
    assert await parked_at(memory) == [("a", 2, 3, 1)]


async def test_while_much_is_parked_it_is_listed_once_a_second() -> None:
    team = Team(*"1234")
    memory = InMemoryServers(team.domain)
    relay = await opened(memory)
    listed = []
    for n in "123":
        await take(relay, await memory.append(n, n))
        listed.append(len(await parked_at(memory)))
    await relay.tick()
    listed.append(len(await parked_at(memory)))
    memory.clock.time += COPY_INTERVAL
    await take(relay, await memory.append("4", "4"))
    listed.append(len(await parked_at(memory)))
    assert listed == [1, 1, 1, 3, 4]
    # A new owner lists what the one before it has not.
    await memory.dead_letters.unpark("relay", ["2", "3"])
    await opened(memory)
    assert len(await parked_at(memory)) == 4


async def test_with_too_many_parked_aggregates_the_partition_stands_still() -> None:
    team = Team("1", "2")
    memory = InMemoryServers(team.domain)
    log = TopicParkedLog(memory.topics, MemoryReader(memory.log))
    parking = LoggedParking(
        memory.topics, "relay", 0, memory.dead_letters, memory.clock, log, most=1
    )
    relay = RelayRole(team.domain, 0, memory.events, memory.writer("relay"), parking)
    await relay.open()
    await memory.append("1", "a")
    await memory.append("2", "b")
    expected = (
        r"relay can't go on: it parks 1 aggregates of this partition of tally already, and 'b' "
        r"version 1 would be another: LookupError: nowhere"
    )
    with pytest.raises(TooManyParked, match=expected):
        await take(relay, memory.records(memory.topics.stored))
    assert (memory.offset("relay"), memory.seen("all")) == (0, [])


async def test_a_reason_of_any_length_and_kind_can_be_kept() -> None:
    def wants(event: EventRecord) -> bool:
        raise LookupError("\ud800" + "x" * 100_000)

    memory = InMemoryServers(a_domain(Route("all", when=wants), upcasters={}))
    await take(await opened(memory), await memory.append("1"))
    [parked] = await memory.dead_letters.find(ParkedQuery(), 10)
    assert (len(parked.reason), len(parked.details)) == (1_000, 10_000)
    parked.reason.encode()


async def test_without_transactions_nothing_is_lost_that_came_before_the_poison() -> None:
    class Cut(MemoryPlainWriter):
        """A writer whose process dies before it moves the offset."""

        async def move(self, generation: int, next_offset: int) -> None:
            raise ServerUnavailable("killed")

    team = Team("2")
    memory = InMemoryServers(team.domain)
    source = memory.writer("relay").source
    for n in ("1", "2", "4"):
        await memory.append(n)
    for kind in (Cut, MemoryPlainWriter):
        parking = memory.logged_parking("relay")
        relay = RelayRole(team.domain, 0, memory.events, kind(memory.log, *source), parking)
        memory.log.offsets[source] = 0
        await relay.open()
        with suppress(ServerUnavailable):
            await take(relay, memory.records(memory.topics.stored))
    assert [event.id for event in memory.seen("all")] == ["1", "1"]
    assert await parked_at(memory) == [("a", 2, 3, 1)]


async def test_a_redrive_of_events_that_the_store_has_lost_ends_its_request() -> None:
    team, memory, relay = await a_parking_relay("2")
    team.poison.clear()
    await ask(memory)
    relay._events = MemoryEvents()
    await relay.tick()
    assert await parked_at(memory) == [("a", 2, 3, 1)]
    assert await memory.dead_letters.requests("relay", 0, 10) == []


async def test_redrives_leave_time_for_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventfleet.roles.redrive_schedule.REDRIVE_TIME", timedelta())
    monkeypatch.setattr("eventfleet.roles.relay.REDRIVE_PAGE_EVENTS", 1)
    team, memory, relay = await a_parking_relay("1", "3")
    team.poison.clear()
    await ask(memory)
    seen = []
    while await parked_at(memory):
        await relay.tick()
        seen.append(len(memory.seen("all")))
    assert seen == [1, 2, 3, 4, 5]


async def test_many_aggregates_are_redriven_in_few_transactions() -> None:
    keys = [f"k{n}" for n in range(30)]
    team = Team(*keys)
    memory = InMemoryServers(team.domain)
    relay = await opened(memory)
    for key in keys:
        await memory.append(key, key)
        await memory.append(f"{key} later", key)
    await take(relay, memory.records(memory.topics.stored))
    team.poison = {"k3", "k7 later"}
    del memory.events._streams["k5"][1]
    await ask(memory, limit=100)
    commits, commit = 0, relay._writer.commit

    async def counted(*about: Any, **named: Any) -> None:
        nonlocal commits
        commits += 1
        await commit(*about, **named)

    relay._writer.commit = counted  # type: ignore[method-assign]
    report = await relay.tick()
    assert (commits, report.redriven) == (1, 2 * 30 - 2 - 1 - 2)
    assert [each[:3] for each in await parked_at(memory)] == [
        ("k3", 1, 2),
        ("k5", 1, 2),
        ("k7", 2, 2),
    ]
    assert await memory.dead_letters.requests("relay", 0, 10) == []
    seen = [event.id for event in memory.seen("all")]
    wanted = [n for key in keys for n in (key, f"{key} later")]
    through = [n for n in wanted if n.split()[0] not in ("k3", "k5") and n != "k7 later"]
    assert sorted(seen) == sorted(through)
    assert all(seen.index(f"{key} later") > seen.index(key) for key in ("k1", "k2", "k29"))


async def test_what_a_discard_has_marked_is_passed_on_without_the_mark() -> None:
    team, memory, relay = await a_parking_relay("2")
    await memory.events.mark_discarded(EventKey("a", "2"))
    team.poison.clear()
    await ask(memory)
    await relay.tick()
    assert not any(event.discarded for event in memory.seen("all"))


async def test_an_error_whose_text_raises_parks_as_well() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    def wants(event: EventRecord) -> bool:
        raise Mute

    memory = InMemoryServers(a_domain(Route("all", when=wants), upcasters={}))
    await take(await opened(memory), await memory.append("1"))
    [parked] = await memory.dead_letters.find(ParkedQuery(), 10)
    assert parked.reason == "Mute, whose text raises ValueError"


async def test_a_long_redrive_goes_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventfleet.roles.relay.REDRIVE_PAGE_EVENTS", 1)
    team, memory, relay = await a_parking_relay("1")
    team.poison.clear()
    await ask(memory)
    await relay.tick()
    assert [event.id for event in memory.seen("all")] == ["3", "5", "1", "2", "4"]
    assert await parked_at(memory) == []


async def test_a_relay_whose_list_has_no_topic_does_not_begin() -> None:
    memory = InMemoryServers(a_domain(Route("all")))
    del memory.log.specs[memory.topics.parked]
    with pytest.raises(TopicRefused, match=r"topic tally\.parked does not exist"):
        await opened(memory)


# Records that a topic refuses for their size


def limit_topic(memory: InMemoryServers, size: int | None) -> None:
    config = {"max.message.bytes": str(size)} if size else {}
    memory.log.specs["all"] = TopicSpec("all", 1, 1, config)


LARGE = {"n": "x" * 1000}


async def a_refused_relay(
    team: Team, writer: type[MemoryTransactionalWriter] = MemoryTransactionalWriter
) -> tuple[InMemoryServers, RelayRole]:
    """A relay that has taken six events, of which two are too large for their topic."""
    memory = InMemoryServers(team.domain)
    limit_topic(memory, 600)
    own = writer(memory.log, "relay", memory.topics.stored, 0)
    relay = RelayRole(team.domain, 0, memory.events, own, memory.logged_parking("relay"))
    await relay.open()
    for n, key in (("1", "a"), ("2", "b"), ("3", "a"), ("4", "c"), ("5", "a"), ("6", "b")):
        await memory.append(n, key, **({"data": LARGE} if n in ("3", "4") else {}))
    report = await take(relay, memory.records(memory.topics.stored))
    assert (report.emitted, report.parked) == (3, 3)
    return memory, relay


def seen_once(memory: InMemoryServers) -> list[str]:
    return list(dict.fromkeys(event.id for event in memory.seen("all")))


@pytest.mark.parametrize("writer", [MemoryTransactionalWriter, MemoryPlainWriter])
async def test_a_record_that_is_too_large_for_its_topic_parks_its_aggregate(
    writer: type[MemoryTransactionalWriter],
) -> None:
    memory, relay = await a_refused_relay(Team(), writer)
    assert seen_once(memory) == ["1", "2", "6"]
    assert await parked_at(memory) == [("a", 2, 3, 1), ("c", 1, 1, 1)]
    reasons = {each.reason for each in await memory.dead_letters.find(ParkedQuery(), 10)}
    assert {each[:42] for each in reasons} == {"RecordsTooLarge: topic all: a record has 1"}
    assert memory.offset("relay") == memory.records(memory.topics.stored)[-1].offset + 1
    assert len(memory.records(memory.topics.dead_letters)) == 2

    # What fits flows, also of an aggregate whose large event was discarded.
    await take(relay, await memory.append("7", "b"))
    [_, c] = await memory.dead_letters.find(ParkedQuery(), 10)
    await memory.dead_letters.request(c, Discard("too large", "ann", memory.clock.now()))
    await relay.tick()
    await take(relay, await memory.append("8", "c"))
    assert seen_once(memory)[3:] == ["7", "8"]


async def test_a_record_that_is_refused_again_stays_parked_until_its_topic_takes_it() -> None:
    memory, relay = await a_refused_relay(Team())
    await ask(memory)
    await relay.tick()
    assert await parked_at(memory) == [("a", 2, 3, 2), ("c", 1, 1, 2)]
    assert await memory.dead_letters.requests("relay", 0, 10) == []
    limit_topic(memory, None)
    await ask(memory)
    report = await relay.tick()
    assert seen_once(memory) == ["1", "2", "6", "3", "5", "4"]
    assert (report.redriven, await parked_at(memory)) == (3, [])


async def test_a_redrive_goes_as_far_as_the_record_that_is_refused() -> None:
    team = Team("1")
    memory = InMemoryServers(team.domain)
    limit_topic(memory, 600)
    relay = await opened(memory)
    for n in ("1", "2", "3", "4"):
        await memory.append(n, **({"data": LARGE} if n == "3" else {}))
    await take(relay, memory.records(memory.topics.stored))
    assert await parked_at(memory) == [("a", 1, 4, 1)]
    team.poison.clear()
    await ask(memory)
    report = await relay.tick()
    assert seen_once(memory) == ["1", "2"]
    assert (report.redriven, await parked_at(memory)) == (2, [("a", 3, 4, 1)])


async def test_a_topic_of_the_domains_own_that_refuses_a_record_parks_nothing() -> None:
    team = Team("1")
    memory = InMemoryServers(team.domain)
    letters = memory.topics.dead_letters
    memory.log.specs[letters] = TopicSpec(letters, 1, 1, {"max.message.bytes": "10"})
    relay = await opened(memory)
    with pytest.raises(TopicRefused, match=r"topic tally\.dead-letters: a record has"):
        await take(relay, await memory.append("1"))
    assert memory.offset("relay") == 0


async def test_a_chunk_that_is_done_again_tells_those_who_wait() -> None:
    told: list[str] = []

    class Notifier:
        def notify(self, stage: Any, events: Any, disposition: Any = None) -> None:
            told.extend(
                f"{event.id} {disposition.kind if disposition else stage}" for event in events
            )

    team = Team()
    memory = InMemoryServers(team.domain)
    limit_topic(memory, 600)
    relay = await opened(memory)
    relay._notifier = Notifier()
    await memory.append("1", reply_to="r")
    await memory.append("2", "b", data=LARGE, reply_to="r")
    await take(relay, memory.records(memory.topics.stored))
    assert told == ["1 relayed", "2 parked"]


async def test_another_owner_that_goes_on_meanwhile_is_not_passed_over() -> None:
    team = Team()
    memory = InMemoryServers(team.domain)
    limit_topic(memory, 600)
    relay = await opened(memory)
    records = await memory.append("1", data=LARGE)
    open_again = relay._writer.open

    async def late() -> int | None:
        relay._writer.open = open_again  # type: ignore[method-assign]
        await take(await opened(memory), records)
        return await open_again()

    relay._writer.open = late  # type: ignore[method-assign]
    with pytest.raises(ServerUnavailable, match="tally: another owner went on from 0"):
        await take(relay, records)
    assert await parked_at(memory) == [("a", 1, 1, 1)]


async def test_what_append_has_discarded_is_passed_over() -> None:
    memory = InMemoryServers(a_domain(Route("all")))
    relay = await opened(memory)
    await memory.append("1")
    discarded = await memory.store("2", discarded=True)
    await memory.put(memory.topics.stored, ("a", encode(discarded)))
    await memory.append("3")
    report = await take(relay, memory.records(memory.topics.stored))
    assert [event.id for event in memory.seen("all")] == ["1", "3"]
    assert (report.parked, memory.offset("relay")) == (0, 3)
