"""What the project role does with parked aggregates: redrives, discards, and builds anew."""

from dataclasses import replace as with_changes
from typing import Any

import pytest
from msgspec.structs import replace

from eventfleet.model.views import View
from eventfleet.roles import event_applier
from eventfleet.roles.parking import TooManyParked
from eventfleet.roles.project import ProjectRole
from eventfleet.stores.contracts import Stage
from eventfleet.stores.contracts.dead_letters import ParkedQuery
from eventfleet.stores.errors import Fenced, ServerUnavailable
from eventfleet.topics.codec import decode_stored, encode
from eventfleet.topics.event import EventKey
from eventfleet.topics.parked import Discard, parked_record
from eventfleet.topics.partitioner import partition_of
from tests.simulation.in_memory_servers import START
from tests.unit.view_fixture import (
    ACCOUNTS,
    NOTES,
    TICK,
    Account,
    Closed,
    Deposited,
    Moved,
    Note,
    Noted,
    Opened,
    OwnerTotal,
    Servers,
    in_version,
    made_live,
    project_account,
    project_note,
    till,
)

DISCARD = Discard("a mistake", "ann", START)
BAD = Deposited(cents=13)
TWO = in_version(ACCOUNTS, 2)


class Code:
    """Accounts and notes whose functions raise on BAD and on notes "bad", until it is mended."""

    def __init__(self) -> None:
        self.mended = False
        self.accounts = with_changes(ACCOUNTS, project=self._project)
        self.in_version_two = with_changes(TWO, project=self._project_two)
        self.notes = with_changes(NOTES, project=self._note)

    def _check(self, bad: bool) -> None:
        if bad and not self.mended:
            raise LookupError("thirteen")

    def _project(self, row: Account | None, event: Any) -> Account | None:
        self._check(event.data == BAD)
        return project_account(row, event)

    def _project_two(self, row: Account | None, event: Any) -> Account | None:
        self._check(event.data == BAD)
        return TWO.project(row, event)

    def _note(self, row: Note | None, event: Any) -> Note | None:
        self._check(event.data.text == "bad")
        return project_note(row, event)


@pytest.fixture
def code() -> Code:
    return Code()


async def opened(servers: Servers, *views: View[Any]) -> ProjectRole:
    role = servers.role(0, till(*views))
    await role.open()
    return role


async def following(servers: Servers, *views: View[Any]) -> ProjectRole:
    role = await opened(servers, *views)
    await made_live(servers, role)
    return role


def name_in(partition: int) -> str:
    """The id of an aggregate in one of two partitions."""
    return next(name for name in "abcdef" if partition_of(name, 2) == partition)


def numbers(servers: Servers, view: View[Any] = ACCOUNTS) -> tuple[int, int | None]:
    live, following, _ = servers.views._builds[view.name]
    assert live
    return live.number, following.number if following else None


async def test_others_go_on_and_later_events_wait(code: Code) -> None:
    servers = Servers(till())
    role = await following(servers, code.accounts, code.notes)
    await servers.append("a", Opened(owner="ann"), BAD)
    await servers.append("b", Opened(owner="bob"))
    await servers.append("a", Moved(owner="cid"), Noted(label="x", text="one"))
    await servers.take(role, limit=3)
    report = await servers.take(role)
    assert (report.parked, servers.offset()) == (2, 5)
    [parked] = servers.parked()
    assert (parked.aggregate_id, parked.first, parked.last) == ("a", 2, 4)
    assert servers.rows(ACCOUNTS) == {
        ("a", ""): Account(owner="ann"),
        ("b", ""): Account(owner="bob"),
    }
    assert servers.rows(NOTES) == {("a", "x"): Note(text="one")}
    [letter] = servers.records(servers.topics.dead_letters)
    assert dict(letter.headers)["eventfleet-reason"] == b"LookupError: thirteen"


async def test_a_redrive_corrects_rows_at_once_and_builds_totals_anew(code: Code) -> None:
    servers = Servers(till())
    role = await following(servers, code.accounts, code.notes)
    await servers.append("a", Opened(owner="ann"), BAD, Noted(label="x", text="one"), Closed())
    await servers.append("a", Opened(owner="bob"), Deposited(cents=7))
    await servers.take(role)
    code.mended = True
    await servers.request()
    report = await role.tick()
    assert (report.redriven, servers.parked()) == (5, [])
    assert servers.rows(ACCOUNTS) == {("a", ""): Account(owner="bob", cents=7)}
    assert servers.rows(NOTES) == {("a", "x"): Note(text="one")}
    await servers.append("a", Deposited(cents=1))
    await servers.take(role)
    await made_live(servers, role)
    assert (numbers(servers), numbers(servers, NOTES)) == ((2, None), (1, None))
    for view in (ACCOUNTS, NOTES):
        servers.check(view)


async def test_what_fails_again_stays_parked_up_to_where_it_fails(code: Code) -> None:
    servers = Servers(till())
    role = await following(servers, code.accounts, code.notes)
    await servers.append("a", Opened(owner="ann"), BAD, Noted(label="x", text="bad"))
    await servers.take(role)
    await servers.redrive(role)
    [parked] = servers.parked()
    assert (parked.first, parked.attempts, numbers(servers)) == (2, 2, (1, None))
    role = await opened(servers, ACCOUNTS, code.notes)
    await servers.redrive(role)
    [parked] = servers.parked()
    assert (parked.first, parked.last, parked.attempts) == (3, 3, 1)
    assert servers.rows(ACCOUNTS) == {("a", ""): Account(owner="ann", cents=13)}
    assert await servers.letters.requests("project", 0, 9) == []


async def test_a_discarded_event_is_passed_over_by_all_builds_also_later_ones(code: Code) -> None:
    servers = Servers(till())
    role = await following(servers, code.accounts, code.notes)
    await servers.append("a", Opened(owner="ann"), BAD, Deposited(cents=5))
    await servers.take(role)
    await servers.redrive(role, discard=DISCARD)
    assert servers.parked() == []
    assert servers.rows(ACCOUNTS) == {("a", ""): Account(owner="ann", cents=5)}
    total = OwnerTotal(owner="ann", accounts=1, cents=5)
    assert [*servers.totals(ACCOUNTS, ACCOUNTS.totals[0]).values()] == [total]
    assert (numbers(servers), numbers(servers, NOTES)) == ((2, None), (2, None))
    role = await following(servers, TWO, code.notes)
    assert servers.rows(TWO) == {("a", ""): Account(owner="ann", cents=7)}
    [discarded] = await servers.letters.discarded("project", ["a"])
    assert (discarded.version, discarded.event_id) == (2, "e1")


async def test_an_event_that_snapshot_has_discarded_is_passed_over_by_later_builds() -> None:
    servers = Servers(till())
    await servers.append("a", Opened(owner="ann"), BAD)
    await servers.events.mark_discarded(EventKey("a", "e1"))
    await following(servers)
    assert servers.rows(ACCOUNTS) == {("a", ""): Account(owner="ann")}


async def test_a_build_that_is_brought_up_to_date_goes_past_parked_events(code: Code) -> None:
    servers = Servers(till())
    await servers.append("a", Opened(owner="ann"), BAD, Deposited(cents=1))
    await servers.append("b", Opened(owner="bob"))
    role = await following(servers, code.accounts, code.notes)
    assert servers.build(ACCOUNTS.name).progress(0).ready
    [parked] = servers.parked()
    assert (parked.first, parked.last) == (2, 3)
    [letter] = servers.records(servers.topics.dead_letters)
    headers = dict(letter.headers)
    assert headers["eventfleet-reason"] == b"LookupError: thirteen"
    assert headers["eventfleet-source"] == b"till.events/0/1"
    assert (letter.key, decode_stored(letter.value).version) == (b"a", 2)
    await servers.take(role)
    code.mended = True
    await servers.redrive(role)
    servers.check(ACCOUNTS)


async def test_a_build_parks_for_itself_and_its_owner_redrives_it(code: Code) -> None:
    servers = Servers(till())
    await following(servers)
    role = await following(servers, code.in_version_two, NOTES)
    await servers.append("a", Opened(owner="ann"), BAD, Noted(label="x", text="one"))
    await servers.take(role)
    [parked] = servers.parked()
    assert parked.builds == {"accounts/2": 2}
    older = await opened(servers, ACCOUNTS, NOTES)
    await made_live(servers, older)
    servers.check(ACCOUNTS)
    servers.check(NOTES)
    code.mended = True
    role = await opened(servers, code.in_version_two, NOTES)
    await made_live(servers, role)
    assert servers.parked() == []
    for view in (TWO, NOTES):
        servers.check(view)


async def test_what_a_view_parks_that_is_declared_no_longer_ends_with_a_redrive(code: Code) -> None:
    servers = Servers(till())
    role = await following(servers, ACCOUNTS, code.notes)
    await servers.append("a", Opened(owner="ann"), Noted(label="x", text="bad"))
    await servers.take(role)
    without = await opened(servers, ACCOUNTS)
    await servers.redrive(without)
    assert servers.parked() == []
    assert servers.views._builds["notes"].live.stale  # type: ignore[union-attr]
    await following(servers, ACCOUNTS, NOTES)
    servers.check(NOTES)


async def test_a_next_build_that_parks_what_the_live_one_has_is_held(
    code: Code, caplog: pytest.LogCaptureFixture
) -> None:
    servers = Servers(till())
    await following(servers)
    for name in "ab":
        await servers.append(name, Opened(owner="ann"), *([BAD] if name == "a" else []))
    await servers.take(await opened(servers, ACCOUNTS, NOTES))
    before = servers.rows(ACCOUNTS)
    role = await following(servers, code.in_version_two, code.notes)
    assert numbers(servers) == (1, 2)
    assert servers.rows(ACCOUNTS) == before
    held = servers.build("accounts", 2).progress(0)
    assert not held.ready
    reason = "parks 1 aggregates that the live build has, among them 'a' at version 2: LookupError"
    assert reason in held.held
    assert (
        f"view accounts of till, partition 0: build 2 is not made live: it {reason}" in caplog.text
    )
    await servers.append("b", Deposited(cents=1))
    await servers.take(role)
    assert numbers(servers) == (1, 2)
    code.mended = True
    await servers.redrive(role)
    assert numbers(servers) == (3, None)
    servers.check(TWO)


async def test_a_build_that_parks_no_more_than_the_live_one_is_not_held(code: Code) -> None:
    servers = Servers(till())
    role = await following(servers, code.accounts, NOTES)
    await servers.append("a", Opened(owner="ann"), BAD)
    await servers.take(role)
    await following(servers, code.in_version_two, NOTES)
    assert numbers(servers) == (2, None)
    [parked] = servers.parked()
    assert parked.builds == {"accounts/2": 2}


async def test_a_ready_build_is_held_before_what_it_parks_is_committed(code: Code) -> None:
    servers = Servers(till(), partitions=2)
    roles = [servers.role(each, till(ACCOUNTS)) for each in (0, 1)]
    for role in roles:
        await role.open()
    await made_live(servers, *roles)
    newer = servers.role(0, till(code.in_version_two))
    await newer.open()
    await made_live(servers, newer)
    assert servers.build("accounts", 2).progress(0).ready
    await servers.append(name_in(0), Opened(owner="ann"), BAD)
    await servers.take(newer)
    assert "parks 1 aggregates" in servers.build("accounts", 2).progress(0).held


async def test_a_mistake_in_a_next_version_parks_nothing_and_needs_no_repair(code: Code) -> None:
    servers = Servers(till())
    await following(servers)
    for name in "abc":
        await servers.append(name, Opened(owner="ann"), BAD)
    await servers.take(await opened(servers, ACCOUNTS, NOTES))
    role = servers.role(0, till(code.in_version_two, NOTES))
    role._parking._most = 2
    await role.open()
    await made_live(servers, role)
    assert servers.build("accounts", 2).progress(0).held.startswith("parks 2 aggregates, and is")
    await servers.append("d", Opened(owner="ann"), Noted(label="x", text="one"))
    await servers.take(role)
    assert (servers.offset(), len(servers.parked())) == (8, 2)
    servers.check(NOTES)
    older = await following(servers, ACCOUNTS, NOTES)
    await servers.append("e", Opened(owner="ann"))
    await servers.take(older)
    assert (numbers(servers)[0], servers.parked()) == (1, [])
    servers.check(ACCOUNTS)


async def test_entries_that_name_no_builds_are_for_all(code: Code) -> None:
    servers = Servers(till())
    role = await following(servers, code.accounts, code.notes)
    await servers.append("a", Opened(owner="ann"), BAD)
    await servers.take(role)
    [parked] = servers.parked()
    before = parked_record("till.parked", "project", 0, "a", replace(parked, builds={}))
    await role._commit([before], 2)
    role = await opened(servers, code.accounts, code.notes)
    await servers.append("a", Deposited(cents=1))
    await servers.take(role)
    [parked] = servers.parked()
    assert (parked.last, parked.builds) == (3, {"accounts/1": 2, "notes/1": 2})
    code.mended = True
    await servers.redrive(role)
    assert servers.parked() == []
    servers.check(ACCOUNTS)


async def test_a_new_process_redrives_once_what_others_have_parked(code: Code) -> None:
    servers = Servers(till())
    role = await following(servers, code.accounts, code.notes)
    await servers.append("a", Opened(owner="ann"), BAD)
    await servers.take(role)
    tried: set[tuple[str, int]] = set()
    for attempts in (2, 2):
        parking = servers.parking(tried=tried)
        role = servers.role(0, till(code.accounts, code.notes), parking=parking)
        await role.open()
        await made_live(servers, role)
        await made_live(servers, role)
        [parked] = servers.parked()
        assert parked.attempts == attempts
    code.mended = True
    role = servers.role(0, till(code.accounts, code.notes), parking=servers.parking(tried=set()))
    await role.open()
    await made_live(servers, role)
    await made_live(servers, role)
    assert servers.parked() == []
    servers.check(ACCOUNTS)


async def test_who_waits_for_parked_events_is_told_so(code: Code) -> None:
    told: list[str] = []

    class Notes:
        def notify(self, stage: Stage, events: Any, disposition: Any = None) -> None:
            told.extend(
                f"{event.id} {disposition.kind if disposition else stage}" for event in events
            )

    servers = Servers(till())
    role = servers.role(0, till(code.accounts, code.notes), notifier=Notes())
    await role.open()
    await made_live(servers, role)
    await servers.append("a", Opened(owner="ann"), BAD, Deposited(cents=1), reply_to="here")
    await servers.append("b", Opened(owner="bob"), reply_to="here")
    await servers.take(role)
    assert told == ["e0 projected", "e3 projected", "e1 parked", "e2 parked"]


async def test_of_two_parked_chunks_an_event_that_comes_again_is_applied_once(code: Code) -> None:
    servers = Servers(till())
    role = await following(servers, code.accounts, code.notes)
    await servers.append("a", Opened(owner="ann"), BAD)
    await servers.append("b", Opened(owner="bob"), Deposited(cents=1))
    await servers.take(role)
    code.mended = True
    await servers.redrive(role)
    await servers.take_from(0, role)
    await servers.take_from(0, await opened(servers, ACCOUNTS, NOTES))
    servers.check(ACCOUNTS)


async def test_more_parked_aggregates_than_allowed_stop_the_partition(code: Code) -> None:
    servers = Servers(till())
    role = servers.role(0, till(code.accounts, code.notes), parking=servers.parking(most=2))
    await role.open()
    await made_live(servers, role)
    for name in "abc":
        await servers.append(name, Opened(owner="ann"), BAD)
    await servers.append("d", Opened(owner="ann"))
    with pytest.raises(TooManyParked, match="'c' version 2 would be another"):
        await servers.take(role)
    assert (servers.offset(), servers.rows(ACCOUNTS), servers.parked()) == (0, {}, [])
    again = await opened(servers, ACCOUNTS, NOTES)
    await servers.take(again)
    servers.check(ACCOUNTS)


async def test_a_chunk_with_many_poison_events_is_planned_once(code: Code) -> None:
    servers = Servers(till())
    role = await following(servers, code.accounts, code.notes)
    loads: list[int] = []
    load = servers.views.rows("accounts", "accounts", 1).load

    async def counted(ids: Any) -> Any:
        loads.append(len(ids))
        return await load(ids)

    servers.views.rows("accounts", "accounts", 1).load = counted  # type: ignore[method-assign]
    await servers.append("old", Opened(owner="ann"))
    await servers.take(role)
    loads.clear()
    for n in range(300):
        await servers.append(f"a{n}", Opened(owner="ann"), *([BAD] if n % 3 == 0 else []))
    await servers.append("old", Deposited(cents=1))
    await servers.take(role)
    assert len(servers.parked()) == 100
    assert len(loads) <= 1
    assert len(servers.rows(ACCOUNTS)) == 301


async def test_a_fenced_owner_neither_redrives_nor_writes_to_a_build_begun_since(
    code: Code,
) -> None:
    servers = Servers(till())
    early = await following(servers, code.accounts, code.notes)
    await servers.append("a", Opened(owner="ann"), BAD)
    await servers.take(early)
    code.mended = True
    late = await opened(servers, ACCOUNTS, NOTES)
    await servers.request()
    with pytest.raises(Fenced):
        await early.tick()
    assert len(servers.parked()) == 1
    await servers.redrive(late)
    servers.check(ACCOUNTS)


async def test_an_event_that_the_store_lacks_is_not_redriven(
    code: Code, caplog: pytest.LogCaptureFixture
) -> None:
    servers = Servers(till())
    role = await following(servers, code.accounts, code.notes)
    await servers.append("a", Opened(owner="ann"), BAD)
    await servers.take(role)
    servers.events._streams["a"].pop(2)
    code.mended = True
    await servers.redrive(role)
    assert "project of till can't redrive 'a': version 2 is not in the event store" in caplog.text
    assert len(servers.parked()) == 1
    assert await servers.letters.find(ParkedQuery(), 9)


async def test_a_fenced_owner_writes_to_no_build_that_was_begun_since(code: Code) -> None:
    servers = Servers(till())
    early = await following(servers, code.accounts, code.notes)
    await servers.append("a", Opened(owner="ann"), BAD)
    await servers.take(early)
    code.mended = True
    late = await opened(servers, ACCOUNTS, NOTES)
    await servers.request()
    await late.tick()
    servers.clock.time += TICK
    await late.tick()
    assert numbers(servers) == (1, 2)
    await early._choice.look()
    with pytest.raises(Fenced):
        await early.tick()
    assert servers.table("accounts", "accounts", 2) == {}


async def test_no_point_is_noted_before_what_was_parked_on_the_way(
    code: Code, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_applier, "CATCH_UP_PAGE_EVENTS", 2)
    monkeypatch.setattr(event_applier, "CATCH_UP_PAGES", 1)
    servers = Servers(till())
    await servers.append("a", Opened(owner="ann"), BAD)
    await following(servers)
    await servers.append("a", Deposited(cents=1))
    role = await opened(servers, code.in_version_two, NOTES)
    await role.tick()
    point = servers.build("accounts", 2).progress(0).point
    commit, commits = role._commit, list[int]()

    async def failing(*args: Any) -> None:
        commits.append(1)
        if len(commits) == 2:
            raise ServerUnavailable("commit: no answer")
        await commit(*args)

    monkeypatch.setattr(role, "_commit", failing)
    with pytest.raises(ServerUnavailable):
        await role.tick()
    [parked] = servers.parked()
    assert parked.last == 2
    assert servers.build("accounts", 2).progress(0).point == point
    role = await opened(servers, code.in_version_two, NOTES)
    await made_live(servers, role)
    [parked] = servers.parked()
    assert parked.last == 3
    code.mended = True
    await servers.redrive(role)
    await made_live(servers, role)
    for view in (TWO, NOTES):
        servers.check(view)


async def test_what_append_has_discarded_is_passed_over(code: Code) -> None:
    servers = Servers(till())
    role = await following(servers, code.accounts)
    await servers.append("a", Opened(owner="ann"))
    await servers.append("b", Opened(owner="bob"))
    [first, *rest] = servers.records(servers.topics.stored)
    discarded = replace(decode_stored(first.value), type="Unreadable", discarded=True)
    report = await role.process([replace(first, value=encode(discarded)), *rest], 2)
    assert (report.parked, servers.parked()) == (0, [])
    assert servers.rows(ACCOUNTS) == {("b", ""): Account(owner="bob")}


async def test_a_build_that_parks_nothing_is_not_begun_again_for_a_redrive(code: Code) -> None:
    servers = Servers(till())
    role = await following(servers, code.accounts)
    for aggregate_id in ("a", "b", "c"):
        await servers.append(aggregate_id, Opened(owner="ann"), BAD)
    await servers.take(role)
    code.mended = True
    first, *others = await servers.letters.find(ParkedQuery(), 100)
    await servers.letters.request(first, None)
    assert (await role.tick()).redriven == 1
    servers.clock.time += TICK
    await role.tick()
    assert numbers(servers) == (1, 2)

    for each in others:
        await servers.letters.request(each, None)
    servers.clock.time += TICK
    assert (await role.tick()).redriven == 2
    assert numbers(servers) == (1, 2)
    await made_live(servers, role)
    assert numbers(servers) == (2, None)
    servers.check(ACCOUNTS)
