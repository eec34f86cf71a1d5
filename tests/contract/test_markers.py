"""What all markers promise: Redis, and the in-memory one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from eventfleet.stores.contracts import (
    CurrentMarker,
    Incarnation,
    Markers,
    MarkOwner,
    MarkRequest,
    MarkResult,
    MarkStatus,
    Note,
    StoredHead,
)
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.marker_timeouts import MarkerTimeouts
from eventfleet.stores.memory.markers import MemoryMarkers, MemoryRedis
from eventfleet.stores.redis import RedisMarkers
from eventfleet.topics.event import EventKey
from tests.conftest import running
from tests.servers.redis import Redis

TIMEOUT = 10.0
PATIENCE = 300  # looks, of a twentieth of a second each
LONG = MarkerTimeouts(expiry=86_400, lease=600, memory=86_400)
SHORT_LEASE = LONG._replace(lease=0.05)
SHORT_EXPIRY = MarkerTimeouts(expiry=1.0, lease=600, memory=1.0)
SHORT_MARKER = SHORT_EXPIRY._replace(memory=600)
YOUTH = LONG._replace(expiry=3.0)
NOTHING = StoredHead("", "")
PLACED = StoredHead("Placed", "e0")


class InMemoryServer(MemoryRedis):
    """A server in memory whose clock stands still but for the tests' waiting."""

    def __init__(self) -> None:
        self.time = 1_700_000_000.0
        super().__init__(lambda: self.time)

    async def wait(self) -> None:
        self.time += 0.05

    def client(self, domain: str, terms: MarkerTimeouts) -> Markers:
        return MemoryMarkers(self, domain, terms)


class RedisMarkerServer:
    """A Redis; `own` is the process, where the test has one for itself."""

    def __init__(self, url: str, own: Redis | None = None) -> None:
        self.url, self.own = url, own

    async def wait(self) -> None:
        await asyncio.sleep(0.05)

    def client(self, domain: str, terms: MarkerTimeouts) -> Markers:
        return RedisMarkers(self.url, domain, terms, timeout=TIMEOUT)

    def flush(self) -> None:
        assert self.own
        assert self.own.execute("FLUSHALL") == "+OK"

    def dump(self) -> bytes:
        assert self.own
        return self.own.dump()

    def restart(self, dump: bytes | None = None) -> None:
        assert self.own
        self.own.restart(dump)


@dataclass
class MarkerServer:
    """Clients of one server, and what tests do with them."""

    server: Any
    domain: str

    def __post_init__(self) -> None:
        self.clients: list[Markers] = []

    def client(self, terms: MarkerTimeouts = LONG, domain: str | None = None) -> Markers:
        made: Markers = self.server.client(domain or self.domain, terms)
        self.clients.append(made)
        return made

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        for _ in range(PATIENCE):
            if await condition():
                return
            await self.server.wait()
        raise AssertionError("it has not come to pass")


@pytest.fixture(params=["memory", "redis"])
async def desk(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[MarkerServer]:
    memory = request.param == "memory"
    made = MarkerServer(
        InMemoryServer() if memory else RedisMarkerServer(request.getfixturevalue("redis_url")),
        prefix,
    )
    yield made
    for client in made.clients:
        await client.close()


@pytest.fixture(params=["memory", "redis"])
async def lone(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[MarkerServer]:
    """A desk whose server is the test's own, to be restarted and flushed."""
    with ExitStack() as stack:
        if request.param == "memory":
            made = MarkerServer(InMemoryServer(), prefix)
        else:
            own = stack.enter_context(running(Redis))
            assert isinstance(own, Redis)
            made = MarkerServer(RedisMarkerServer(own.url, own), prefix)
        yield made
        for client in made.clients:
            await client.close()


def mark(event_id: str, incarnation: Incarnation, kind: str = "Paid", **named: Any) -> MarkRequest:
    wanted = {"aggregate_id": "a", "value": f"{event_id}!".encode(), "allowed": None}
    return MarkRequest(event_id=event_id, type=kind, incarnation=incarnation, **(wanted | named))


async def decide(client: Markers, event_id: str, kind: str = "Paid", **named: Any) -> MarkResult:
    """What a mark by a fresh look comes to; looked again for as long as that is asked for."""
    for _ in range(PATIENCE):
        (marked,) = await client.mark([mark(event_id, await client.incarnation(), kind, **named)])
        if marked.status is not MarkStatus.AGAIN:
            return marked
    raise AssertionError("no look is fresh enough")


async def let_in(client: Markers, event_id: str) -> MarkResult:
    """Marked when no other's note is in the way."""
    for _ in range(10_000):
        marked = await decide(client, event_id, basis=NOTHING)
        if marked.status is not MarkStatus.BUSY:
            return marked
        await asyncio.sleep(0)
    raise AssertionError("the others never end")


async def settle(client: Markers, marked: MarkResult, aggregate_id: str = "a") -> bool:
    note = Note(aggregate_id, marked.event_id, marked.prev)
    (known,) = await client.confirm([note], await client.incarnation())
    return known


async def handled(client: Markers, event_id: str, kind: str = "Paid", **named: Any) -> MarkResult:
    """Marked and confirmed."""
    marked = await decide(client, event_id, kind, **named)
    assert marked.status is MarkStatus.OK
    assert await settle(client, marked, named.get("aggregate_id", "a"))
    return marked


async def verdict(client: Markers, event_id: str, kind: str = "Paid", **named: Any) -> MarkStatus:
    return (await decide(client, event_id, kind, **named)).status


# A look that is too old


async def test_a_mark_of_another_life_looks_again(desk: MarkerServer) -> None:
    client = desk.client()
    incarnation = await client.incarnation()
    (marked,) = await client.mark([mark("e1", incarnation._replace(id="another"), basis=NOTHING)])
    assert marked == MarkResult(MarkStatus.AGAIN)
    assert await verdict(client, "e1") is MarkStatus.MISSING


async def test_a_look_older_than_half_the_expiry_looks_again(desk: MarkerServer) -> None:
    client = desk.client()
    incarnation = await client.incarnation()
    old = incarnation._replace(now=incarnation.now - LONG.expiry / 2)
    (marked,) = await client.mark([mark("e1", old, basis=NOTHING)])
    assert marked == MarkResult(MarkStatus.AGAIN)
    assert await verdict(client, "e1") is MarkStatus.MISSING
    nearly = incarnation._replace(now=incarnation.now - LONG.expiry / 2 + TIMEOUT)
    (marked,) = await client.mark([mark("e1", nearly, basis=NOTHING)])
    assert marked.status is MarkStatus.OK


async def test_a_look_from_before_the_clock_stepped_back_looks_again(desk: MarkerServer) -> None:
    client = desk.client()
    incarnation = await client.incarnation()
    ahead = incarnation._replace(now=incarnation.now + TIMEOUT)
    (marked,) = await client.mark([mark("e1", ahead, basis=NOTHING)])
    assert marked == MarkResult(MarkStatus.AGAIN)


async def test_a_look_from_before_the_markers_birth_looks_again(desk: MarkerServer) -> None:
    slow, quick = desk.client(), desk.client()
    seen = await slow.incarnation()
    await handled(quick, "e1", basis=NOTHING)
    (marked,) = await slow.mark([mark("e2", seen, basis=NOTHING)])
    assert marked == MarkResult(MarkStatus.AGAIN)
    assert (await decide(slow, "e2")).prev == "e1"


async def test_past_its_deadline_nothing_is_noted(desk: MarkerServer) -> None:
    client = desk.client()
    incarnation = await client.incarnation()
    late = mark("e1", incarnation, basis=NOTHING)._replace(deadline=incarnation.now)
    assert await client.mark([late]) == [MarkResult(MarkStatus.LATE)]
    assert await client.read(["a"]) == {}
    in_time = late._replace(deadline=incarnation.now + TIMEOUT)
    (marked,) = await client.mark([in_time])
    assert marked.status is MarkStatus.OK
    follower = mark("e2", await client.incarnation())._replace(deadline=incarnation.now)
    assert await client.mark([follower]) == [MarkResult(MarkStatus.LATE)]
    assert (await client.read(["a"]))["a"].event_id == "e1"


# Owners


async def test_nothing_is_noted_for_an_owner_once_another_is_noted(desk: MarkerServer) -> None:
    client, other = desk.client(SHORT_LEASE), desk.client(SHORT_LEASE)
    former, latest = MarkOwner(0, "former"), MarkOwner(0, "latest")
    assert await verdict(client, "e1", owner=former) is MarkStatus.DISOWNED
    await client.note_owner(former, await client.incarnation())
    noted = await decide(client, "e1", basis=PLACED, owner=former)
    assert noted.status is MarkStatus.OK
    await other.note_owner(latest, await other.incarnation())
    refused = MarkResult(MarkStatus.DISOWNED)
    assert await decide(client, "e1", owner=former) == refused
    assert await decide(client, "e2", owner=former) == refused
    assert await decide(client, "b1", aggregate_id="b", basis=PLACED, owner=former) == refused
    assert set(await client.read(["a", "b"])) == {"a"}
    assert await settle(other, noted)
    assert await decide(client, "e2", owner=former, allowed=frozenset()) == refused
    assert await verdict(other, "e2", owner=latest) is MarkStatus.OK


async def test_who_has_no_owner_marks_whoever_is_noted(desk: MarkerServer) -> None:
    client = desk.client()
    await client.note_owner(MarkOwner(0, "one"), await client.incarnation())
    assert await verdict(client, "e1", basis=PLACED) is MarkStatus.OK


async def test_partitions_and_domains_have_owners_of_their_own(desk: MarkerServer) -> None:
    client, other = desk.client(), desk.client(domain=f"{desk.domain}2")
    owner = MarkOwner(1, "one")
    await client.note_owner(owner, await client.incarnation())
    await client.note_owner(MarkOwner(11, "another"), await client.incarnation())
    await other.note_owner(MarkOwner(1, "another"), await other.incarnation())
    assert await verdict(client, "e1", basis=PLACED, owner=owner) is MarkStatus.OK


@pytest.mark.parametrize("from_dump", [False, True])
async def test_in_another_life_an_owner_is_noted_anew(lone: MarkerServer, from_dump: bool) -> None:
    client, owner = lone.client(), MarkOwner(0, "one")
    await client.note_owner(owner, await client.incarnation())
    lone.server.restart(lone.server.dump() if from_dump else None)
    incarnation = await revived(client)
    assert await verdict(client, "e1", basis=PLACED, owner=owner) is MarkStatus.DISOWNED
    await client.note_owner(owner, incarnation)
    assert await verdict(client, "e1", basis=PLACED, owner=owner) is MarkStatus.OK


# Without a marker


async def test_without_a_marker_a_basis_is_asked_for(desk: MarkerServer) -> None:
    client = desk.client()
    assert await decide(client, "e1") == MarkResult(MarkStatus.MISSING)
    assert await decide(client, "e1") == MarkResult(MarkStatus.MISSING)


async def test_a_basis_is_what_the_rule_is_judged_by(desk: MarkerServer) -> None:
    client = desk.client()
    marked = await decide(client, "e1", basis=PLACED, allowed=frozenset({"Placed"}))
    assert marked == MarkResult(MarkStatus.OK, "e1", "e0", b"e1!", tentative=True)


async def test_a_basis_stays_when_the_rule_fails(desk: MarkerServer) -> None:
    client = desk.client()
    ruled = {"allowed": frozenset({"Paid", "Sent"})}
    marked = await decide(client, "e1", basis=PLACED, **ruled)
    rejected = MarkResult(MarkStatus.REJECTED, "e0", tentative=True, type="Placed")
    assert marked == rejected
    assert await decide(client, "e2", **ruled) == rejected
    assert (await decide(client, "e3")).prev == "e0"


async def test_the_first_event_of_an_aggregate_follows_none(desk: MarkerServer) -> None:
    client = desk.client()
    first = frozenset({""})
    assert await decide(client, "e1", basis=PLACED, allowed=first) == MarkResult(
        MarkStatus.REJECTED, "e0", tentative=True, type="Placed"
    )
    marked = await decide(client, "e1", aggregate_id="b", basis=NOTHING, allowed=first)
    assert marked == MarkResult(MarkStatus.OK, "e1", "", b"e1!", tentative=True)


async def test_a_marker_is_dropped_where_its_latest_event_is_the_one_named(
    desk: MarkerServer,
) -> None:
    client = desk.client()
    await decide(client, "e1", basis=PLACED, allowed=frozenset({"Paid"}))
    incarnation = await client.incarnation()
    await client.drop([EventKey("a", "e1"), EventKey("b", "e0")], incarnation)
    assert await verdict(client, "e2", allowed=frozenset()) is MarkStatus.REJECTED
    await client.drop([EventKey("a", "e0")], incarnation._replace(id="another"))
    assert await verdict(client, "e2", allowed=frozenset()) is MarkStatus.REJECTED
    await client.drop([EventKey("a", "e0")], incarnation)
    assert await verdict(client, "e2") is MarkStatus.MISSING


async def test_a_marker_with_a_note_is_not_dropped(desk: MarkerServer) -> None:
    client = desk.client()
    await decide(client, "e1", basis=PLACED)
    await client.drop([EventKey("a", "e1")], await client.incarnation())
    assert await verdict(client, "e1") is MarkStatus.MINE


async def test_a_basis_beside_a_marker_is_not_used(desk: MarkerServer) -> None:
    client = desk.client()
    await handled(client, "e1", basis=NOTHING)
    assert (await decide(client, "e2", basis=PLACED)).prev == "e1"


# Rules


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (None, MarkStatus.OK),
        ({"Paid"}, MarkStatus.OK),
        ({"Placed", "Sent", "Paid"}, MarkStatus.OK),
        ({"Pai", "Paid ", "paid", ""}, MarkStatus.REJECTED),
        (set(), MarkStatus.REJECTED),
    ],
)
async def test_a_rule_names_the_types_that_may_come_before(
    desk: MarkerServer, allowed: set[str] | None, expected: MarkStatus
) -> None:
    client = desk.client()
    await handled(client, "e1", "Paid", basis=NOTHING)
    ruled = None if allowed is None else frozenset(allowed)
    marked = await decide(client, "e2", "Sent", allowed=ruled)
    assert marked.status is expected
    assert marked.type == ("Paid" if expected is MarkStatus.REJECTED else "")


async def test_a_rejection_leaves_no_note_and_no_memory(desk: MarkerServer) -> None:
    client = desk.client()
    await handled(client, "e1", "Paid", basis=NOTHING)
    assert await verdict(client, "e2", allowed=frozenset({"Sent"})) is MarkStatus.REJECTED
    await handled(client, "e3", "Sent")
    assert (await decide(client, "e2", allowed=frozenset({"Sent"}))).prev == "e3"


async def test_each_event_follows_the_one_before(desk: MarkerServer) -> None:
    client = desk.client()
    prevs = [(await handled(client, f"e{n}", basis=PLACED)).prev for n in range(1, 5)]
    assert prevs == ["e0", "e1", "e2", "e3"]


# Notes


async def test_ones_own_note_is_answered_as_it_was_written(desk: MarkerServer) -> None:
    client, after_a_crash = desk.client(), desk.client()
    written = await decide(client, "e1", basis=PLACED)
    again = await decide(after_a_crash, "e1", value=b"other bytes", allowed=frozenset())
    assert again == written._replace(status=MarkStatus.MINE)


async def test_anothers_young_note_is_waited_for(desk: MarkerServer) -> None:
    client = desk.client()
    await decide(client, "e1", basis=NOTHING)
    assert await decide(client, "e2") == MarkResult(MarkStatus.BUSY)
    assert await decide(client, "e3", allowed=frozenset()) == MarkResult(MarkStatus.BUSY)


async def test_anothers_old_note_is_finished_by_whoever_comes(desk: MarkerServer) -> None:
    gone, helper = desk.client(SHORT_LEASE), desk.client(SHORT_LEASE)
    written = await decide(gone, "e1", basis=PLACED)

    async def stale() -> bool:
        return await verdict(helper, "e2") is MarkStatus.STALE

    await desk.until(stale)
    found = await decide(helper, "e2")
    assert found == written._replace(status=MarkStatus.STALE)
    assert await settle(helper, found)
    assert (await decide(helper, "e2")).prev == "e1"
    assert await settle(gone, written)


# Repeats


async def test_a_repeat_is_recognised_before_it_is_judged(desk: MarkerServer) -> None:
    client = desk.client()
    await handled(client, "e1", "Paid", basis=NOTHING)
    await handled(client, "e2", "Sent")
    assert await decide(client, "e1", "Paid", allowed=frozenset()) == MarkResult(MarkStatus.DONE)
    assert (await decide(client, "e3", allowed=frozenset({"Sent"}))).prev == "e2"


async def test_a_repeat_is_recognised_beside_anothers_note(desk: MarkerServer) -> None:
    client = desk.client()
    await handled(client, "e1", basis=NOTHING)
    await decide(client, "e2")
    assert await decide(client, "e1") == MarkResult(MarkStatus.DONE)
    assert await verdict(client, "e2") is MarkStatus.MINE


# Confirm


async def test_a_confirmed_note_makes_room(desk: MarkerServer) -> None:
    client = desk.client()
    marked = await decide(client, "e1", basis=NOTHING)
    assert await settle(client, marked)
    assert await settle(client, marked)
    assert await verdict(client, "e2") is MarkStatus.OK


async def test_a_slow_owners_confirm_leaves_a_later_note(desk: MarkerServer) -> None:
    client = desk.client()
    first = await handled(client, "e1", basis=NOTHING)
    await decide(client, "e2")
    assert await settle(client, first)
    assert await verdict(client, "e3") is MarkStatus.BUSY


async def test_a_note_after_another_event_is_not_the_one_confirmed(desk: MarkerServer) -> None:
    client = desk.client()
    marked = await decide(client, "e1", basis=PLACED)
    assert await settle(client, marked._replace(prev="e00"))
    assert await verdict(client, "e2") is MarkStatus.BUSY


async def test_an_unknown_event_is_lost(desk: MarkerServer) -> None:
    client = desk.client()
    marked = await decide(client, "e1", basis=PLACED)
    assert not await settle(client, marked._replace(event_id="e2"))
    assert await verdict(client, "e3") is MarkStatus.BUSY


async def test_nothing_is_confirmed_by_another_life(desk: MarkerServer) -> None:
    client = desk.client()
    await decide(client, "e1", basis=PLACED)
    incarnation = (await client.incarnation())._replace(id="another")
    assert await client.confirm([Note("a", "e1", "e0")], incarnation) == [False]
    await client.withdraw([Note("a", "e1", "e0")], incarnation)
    assert await verdict(client, "e2") is MarkStatus.BUSY


# Withdraw


async def test_a_withdrawn_note_is_forgotten_with_its_marker(desk: MarkerServer) -> None:
    client = desk.client()
    await decide(client, "e1", basis=PLACED)
    await client.withdraw([Note("a", "e1", "e0")], await client.incarnation())
    assert await verdict(client, "e1") is MarkStatus.MISSING
    assert (await decide(client, "e1", basis=StoredHead("Sent", "e5"))).prev == "e5"


@pytest.mark.parametrize("note", [Note("a", "e1", "e00"), Note("a", "e2", "e0")])
async def test_only_the_very_note_is_withdrawn(desk: MarkerServer, note: Note) -> None:
    client = desk.client()
    await decide(client, "e1", basis=PLACED)
    await client.withdraw([note], await client.incarnation())
    assert await verdict(client, "e1") is MarkStatus.MINE


async def test_what_was_confirmed_is_not_withdrawn(desk: MarkerServer) -> None:
    client = desk.client()
    await handled(client, "e1", basis=PLACED)
    await client.withdraw([Note("a", "e1", "e0")], await client.incarnation())
    assert await verdict(client, "e1") is MarkStatus.DONE


# Tentative notes


async def test_in_a_young_life_the_first_note_on_a_basis_is_tentative(desk: MarkerServer) -> None:
    client = desk.client()
    assert (await decide(client, "e1", basis=PLACED, allowed=frozenset())).type == "Placed"
    marked = await decide(client, "e1")
    assert marked.tentative
    assert (await decide(client, "e1")).tentative
    await settle(client, marked)
    assert not (await decide(client, "e2")).tentative


async def test_in_the_domains_first_life_no_note_is_tentative(desk: MarkerServer) -> None:
    client = desk.client()
    first = (await client.incarnation())._replace(is_first=True)
    requests = [
        mark("e1", first, aggregate_id="a", basis=NOTHING),
        mark("e2", first, aggregate_id="b", basis=PLACED, allowed=frozenset()),
    ]
    noted, rejected = await client.mark(requests)
    assert (noted.status, noted.tentative) == (MarkStatus.OK, False)
    assert (rejected.status, rejected.tentative) == (MarkStatus.REJECTED, False)


async def test_in_an_old_life_no_note_is_tentative(lone: MarkerServer) -> None:
    client, number = lone.client(YOUTH), 0

    async def settled() -> bool:
        nonlocal number
        number += 1
        aggregate = f"a{number}"
        marked = await decide(client, f"e{number}", aggregate_id=aggregate, basis=PLACED)
        assert marked.status is MarkStatus.OK
        return not marked.tentative

    await client.incarnation()
    assert (await decide(client, "e0", basis=PLACED)).tentative
    await lone.until(settled)
    assert (await decide(client, "e0")).tentative


# Expiry


async def test_a_marker_without_a_note_expires(desk: MarkerServer) -> None:
    client = desk.client(SHORT_MARKER)
    await handled(client, "e1", basis=PLACED)
    await decide(client, "e1", aggregate_id="b", basis=PLACED, allowed=frozenset())

    async def gone() -> bool:
        verdicts = [await verdict(client, "e2", aggregate_id=a, allowed=frozenset()) for a in "ab"]
        return verdicts == [MarkStatus.MISSING] * 2

    await desk.until(gone)


async def test_a_note_keeps_its_marker(desk: MarkerServer) -> None:
    client = desk.client(SHORT_EXPIRY)
    written = await decide(client, "e1", basis=PLACED)
    await handled(client, "e9", aggregate_id="later", basis=PLACED)

    async def gone() -> bool:
        later = await verdict(client, "e8", aggregate_id="later", allowed=frozenset())
        return later is MarkStatus.MISSING

    await desk.until(gone)
    assert await decide(client, "e1") == written._replace(status=MarkStatus.MINE)
    assert await settle(client, written)


async def test_a_note_on_a_marker_that_would_expire_keeps_it(desk: MarkerServer) -> None:
    client = desk.client(SHORT_EXPIRY)
    await handled(client, "e1", basis=PLACED)
    written = await decide(client, "e2", basis=PLACED)
    await handled(client, "e9", aggregate_id="later", basis=PLACED)

    async def gone() -> bool:
        later = await verdict(client, "e8", aggregate_id="later", allowed=frozenset())
        return later is MarkStatus.MISSING

    await desk.until(gone)
    assert await decide(client, "e2") == written._replace(status=MarkStatus.MINE)


async def test_an_id_is_remembered_beyond_its_marker(desk: MarkerServer) -> None:
    client = desk.client(SHORT_MARKER)
    await handled(client, "e1", basis=PLACED)

    async def gone() -> bool:
        return await verdict(client, "e2", allowed=frozenset()) is MarkStatus.MISSING

    await desk.until(gone)
    assert await verdict(client, "e1", basis=StoredHead("Paid", "e1")) is MarkStatus.DONE


async def test_an_id_is_forgotten_in_the_end(desk: MarkerServer) -> None:
    client = desk.client(SHORT_EXPIRY)
    await handled(client, "e1", basis=PLACED)

    async def forgotten() -> bool:
        return await verdict(client, "e1", basis=PLACED, allowed=frozenset()) is MarkStatus.REJECTED

    await desk.until(forgotten)


async def test_an_id_is_remembered_anew_from_its_confirmation_on(desk: MarkerServer) -> None:
    client, brief = desk.client(), desk.client(SHORT_EXPIRY)
    written = await decide(brief, "e1", basis=PLACED)
    await handled(brief, "e1x", aggregate_id="later", basis=PLACED)

    async def forgotten() -> bool:
        named = {"aggregate_id": "later", "basis": PLACED, "allowed": frozenset()}
        return await verdict(brief, "e1x", **named) is MarkStatus.REJECTED

    await desk.until(forgotten)
    assert await settle(client, written)
    assert await verdict(client, "e1") is MarkStatus.DONE


# Lives


async def test_all_clients_see_one_life(desk: MarkerServer) -> None:
    one, other = desk.client(), desk.client(domain=f"{desk.domain}2")
    lives = [await client.incarnation() for client in (one, other, one)]
    assert len({incarnation.id for incarnation in lives}) == 1
    assert len({incarnation.began for incarnation in lives}) == 1
    times = [lives[0].began, *(incarnation.now for incarnation in lives)]
    assert times == sorted(times)


async def again_or_unavailable(client: Markers, old: MarkRequest) -> bool:
    try:
        return await client.mark([old]) == [MarkResult(MarkStatus.AGAIN)]
    except ServerUnavailable:
        return True


async def lost_or_unavailable(client: Markers, note: Note, incarnation: Incarnation) -> bool:
    try:
        return await client.confirm([note], incarnation) == [False]
    except ServerUnavailable:
        return True


async def test_a_flush_begins_another_life(lone: MarkerServer) -> None:
    client = lone.client()
    await handled(client, "e1", basis=PLACED)
    note = await decide(client, "e2")
    before = await client.incarnation()
    lone.server.flush()
    assert await client.mark([mark("e3", before, basis=PLACED)]) == [MarkResult(MarkStatus.AGAIN)]
    assert await client.confirm([Note("a", "e2", "e1")], before) == [False]
    after = await client.incarnation()
    assert after.id != before.id
    assert before.now < after.began <= after.now
    assert await client.mark([mark("e3", before, basis=PLACED)]) == [MarkResult(MarkStatus.AGAIN)]
    assert not await settle(client, note)
    assert await verdict(client, "e1") is MarkStatus.MISSING
    assert (await decide(client, "e1", basis=PLACED)).tentative


@pytest.mark.parametrize("seen", ["at once", "after a look"])
@pytest.mark.parametrize("from_dump", [False, True])
async def test_a_restart_begins_another_life(
    lone: MarkerServer, seen: str, from_dump: bool
) -> None:
    client, other = lone.client(), lone.client()
    done = await handled(client, "e1", basis=PLACED)
    noted = await decide(client, "e2")
    before = await client.incarnation()
    await other.incarnation()
    dump = lone.server.dump()
    lone.server.restart(dump if from_dump else None)
    if seen == "after a look":
        await revived(client)
    for each in (client, other, client, other):
        assert await again_or_unavailable(each, mark("e3", before, basis=PLACED))
        assert await again_or_unavailable(each, mark("e2", before))
        assert await lost_or_unavailable(each, Note("a", "e2", "e1"), before)
        assert await lost_or_unavailable(each, Note("a", "e1", "e0"), before)
    after = await revived(client)
    assert after.id != before.id
    assert after.began > before.now
    assert not await settle(client, noted)
    assert not await settle(client, done)
    await client.withdraw([Note("a", "e2", "e1")], after)
    assert await verdict(client, "e1") is MarkStatus.MISSING
    assert await verdict(client, "e3", basis=PLACED, allowed=frozenset()) is MarkStatus.REJECTED
    marked = await decide(client, "e1")
    assert marked == MarkResult(MarkStatus.OK, "e1", "e0", b"e1!", tentative=True)
    assert await settle(client, marked)


async def test_each_restart_on_one_dump_is_a_life_of_its_own(lone: MarkerServer) -> None:
    client = lone.client()
    lives = [await client.incarnation()]
    await decide(client, "e1", basis=PLACED)
    dump = lone.server.dump()
    for _ in range(2):
        lone.server.restart(dump)
        lives.append(await revived(client))
        assert await verdict(client, "e1") is MarkStatus.MISSING
        assert (await client.incarnation()).id == lives[-1].id
    assert len({incarnation.id for incarnation in lives}) == 3
    began = [incarnation.began for incarnation in lives]
    assert began == sorted(set(began))


async def revived(client: Markers) -> Incarnation:
    """The life, when the client has noticed that the server is another."""
    for _ in range(PATIENCE):
        try:
            return await client.incarnation()
        except ServerUnavailable:
            await asyncio.sleep(0.05)
    raise AssertionError("the client does not recover")


# Many at once


async def test_marks_of_one_call_are_decided_in_order(desk: MarkerServer) -> None:
    client = desk.client()
    incarnation = await client.incarnation()
    marks = [
        mark("e1", incarnation, basis=PLACED),
        mark("e2", incarnation),
        mark("e1", incarnation),
    ]
    marked = await client.mark(marks)
    assert [m.status for m in marked] == [MarkStatus.OK, MarkStatus.AGAIN, MarkStatus.AGAIN]
    incarnation = await client.incarnation()
    marked = await client.mark(
        [mark("e2", incarnation), mark("e1", incarnation), mark("e2", incarnation)]
    )
    assert [m.status for m in marked] == [MarkStatus.BUSY, MarkStatus.MINE, MarkStatus.BUSY]
    notes = [Note("a", "e2", "e1"), Note("a", "e1", "e0"), Note("a", "e1", "e0")]
    assert await client.confirm(notes, incarnation) == [False, True, True]


async def test_no_marks_are_no_call(desk: MarkerServer) -> None:
    client = desk.client()
    assert await client.mark([]) == []
    assert await client.confirm([], await client.incarnation()) == []
    await client.withdraw([], await client.incarnation())


async def test_a_long_call_answers_each_in_its_place(desk: MarkerServer) -> None:
    client, names = desk.client(), [f"a{n}" for n in range(2000)]
    incarnation = await client.incarnation()
    marked = await client.mark(
        [
            mark(f"{a}.1", incarnation, aggregate_id=a, basis=StoredHead("Placed", f"{a}.0"))
            for a in names
        ]
    )
    assert [(m.event_id, m.prev) for m in marked] == [(f"{a}.1", f"{a}.0") for a in names]
    notes = [Note(a, f"{a}.1", f"{a}.0") for a in names]
    assert await client.confirm(notes, incarnation) == [True] * len(names)


async def test_of_many_tasks_of_two_clients_one_at_a_time_gets_in(desk: MarkerServer) -> None:
    clients = [desk.client(), desk.client()]
    followed: list[tuple[str, str]] = []

    async def work(number: int) -> None:
        client = clients[number % 2]
        for turn in range(5):
            event_id = f"{number}.{turn}"
            marked = await let_in(client, event_id)
            assert marked.status is MarkStatus.OK
            followed.append((marked.prev, event_id))
            assert await settle(client, marked)

    await asyncio.gather(*(work(number) for number in range(10)))
    events = [event for _, event in followed]
    assert [prev for prev, _ in followed] == ["", *events[:-1]]
    assert len(set(events)) == 50


async def test_domains_have_markers_of_their_own(desk: MarkerServer) -> None:
    one, other = desk.client(), desk.client(domain=f"{desk.domain}2")
    await handled(one, "e1", basis=PLACED)
    assert await verdict(other, "e1") is MarkStatus.MISSING
    assert (await decide(other, "e1", basis=StoredHead("Sent", "e9"))).prev == "e9"


# What goes in comes out


@pytest.mark.parametrize("value", [b"", bytes(range(256)), b"\r\n$-1\r\n", b"x" * 300_000])
async def test_bytes_come_back_as_they_were(desk: MarkerServer, value: bytes) -> None:
    client = desk.client(SHORT_LEASE)
    assert (await decide(client, "e1", basis=PLACED, value=value)).value == value
    assert (await decide(client, "e1")).value == value

    async def stale() -> bool:
        return (await decide(client, "e2"))[:4] == (MarkStatus.STALE, "e1", "e0", value)

    await desk.until(stale)


@pytest.mark.parametrize(
    "name",
    [
        "Bezahlt-große-Straße",
        "주문",
        "🧾",
        "a:b:c",
        "{a}",
        "line\nbreak",
        "N" * 3000,
        " ",
        "*",
        "%d %b%%",
    ],
)
async def test_any_name_will_do(desk: MarkerServer, name: str) -> None:
    client = desk.client()
    named = {"aggregate_id": name, "basis": StoredHead(name, f"{name}0")}
    first = await decide(client, f"{name}1", name, **named, allowed=frozenset({"no", name}))
    assert first == MarkResult(MarkStatus.OK, f"{name}1", f"{name}0", f"{name}1!".encode(), True)
    assert (await decide(client, f"{name}1", **named)).event_id == f"{name}1"
    assert await settle(client, first, name)
    rejected = await decide(client, f"{name}2", **named, allowed=frozenset({f"{name}."}))
    assert rejected == MarkResult(MarkStatus.REJECTED, f"{name}1", type=name)
    assert (await decide(client, f"{name}3", **named)).prev == f"{name}1"


# What an audit reads


async def test_markers_can_be_read_as_they_stand(desk: MarkerServer) -> None:
    client = desk.client()
    assert await client.read(["a", "b"]) == {}
    first = await decide(client, "e1", "Paid", basis=PLACED)
    assert await client.read(["b", "a"]) == {"a": CurrentMarker("Paid", "e1", True, "e0")}
    assert await settle(client, first)
    assert await client.read(["a"]) == {"a": CurrentMarker("Paid", "e1", False, "")}
    assert await client.read([]) == {}


async def test_a_marker_of_an_earlier_incarnation_is_not_read(lone: MarkerServer) -> None:
    client = lone.client()
    await decide(client, "e1", basis=PLACED)
    before = lone.server.dump()
    lone.server.restart(before)
    another = lone.client()
    assert await another.read(["a"]) == {}
    await another.incarnation()
    assert await another.read(["a"]) == {}


# A server that answers reads and refuses writes


@pytest.mark.parametrize(
    ("refusal", "end"),
    [
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
    ],
    ids=["out of memory", "read only"],
)
async def test_a_check_of_writes_fails_where_a_mark_does(
    lone: MarkerServer, refusal: str, end: str
) -> None:
    client = lone.client()
    await client.incarnation()
    await client.check_writable()
    if isinstance(lone.server, InMemoryServer):
        return
    assert lone.server.own.execute(refusal) == "+OK"
    incarnation = await client.incarnation()
    with pytest.raises(ServerUnavailable):
        await client.mark([mark("e1", incarnation, basis=NOTHING)])
    with pytest.raises(ServerUnavailable):
        await client.check_writable()
    assert lone.server.own.execute(end) == "+OK"
    await client.check_writable()
    assert await client.read(["readiness"]) == {}
