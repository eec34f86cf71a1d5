"""What the project role does to one chunk, and as time passes."""

from collections.abc import Sequence
from dataclasses import replace as with_changes
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from msgspec.structs import replace

from eventfleet.model.payloads import Event
from eventfleet.model.views import Row, Totals, View
from eventfleet.roles import project
from eventfleet.roles.build_choice import BUILDS_INTERVAL, ChangedView
from eventfleet.roles.project import ProjectRole
from eventfleet.stores.contracts import Stage
from eventfleet.stores.errors import Fenced, ServerUnavailable
from eventfleet.topics.partitioner import partition_of
from tests.unit.view_fixture import (
    ACCOUNTS,
    NOTES,
    TICK,
    Account,
    Closed,
    Deposited,
    Looked,
    Moved,
    Note,
    Noted,
    Opened,
    OwnerTotal,
    Servers,
    in_version,
    made_live,
    owner_totals,
    project_account,
    till,
)

OWNERS = ACCOUNTS.totals[0]


async def opened(servers: Servers, *args: Any, **named: Any) -> ProjectRole:
    role = servers.role(*args, **named)
    await role.open()
    return role


async def following(servers: Servers, **named: Any) -> ProjectRole:
    """A role whose builds are live."""
    role = await opened(servers, **named)
    await made_live(servers, role)
    return role


# One chunk


async def test_rows_are_what_the_events_give() -> None:
    servers = Servers(till())
    role = await following(servers)
    await servers.append("a", Opened(owner="ann"), Deposited(cents=5), Looked())
    await servers.append("b", Opened(owner="bob"), Deposited(cents=7), Moved(owner="ann"))
    await servers.take(role)
    assert servers.rows(ACCOUNTS) == {
        ("a", ""): Account(owner="ann", cents=5),
        ("b", ""): Account(owner="ann", cents=7),
    }
    assert servers.offset() == 6
    servers.check(ACCOUNTS)


async def test_a_row_has_the_point_of_the_last_event_that_changed_it() -> None:
    servers = Servers(till())
    role = await following(servers)
    await servers.append("a", Opened(owner="ann"), Deposited(cents=5), Looked())
    await servers.take(role)
    [row] = servers.table("accounts", "accounts", 1).values()
    assert (row.id, row.point) == ("a\0", (0, 0, 1, 2))


async def test_repeats_change_nothing() -> None:
    servers = Servers(till())
    role = await following(servers)
    await servers.append("a", Opened(owner="ann"), Deposited(cents=5), Noted(label="x", text="1"))
    await servers.take(role)
    await servers.emit(*servers.stored)
    await servers.append("a", Deposited(cents=1))
    await servers.emit(*servers.stored[1:], *servers.stored[1:])
    await servers.take(role)
    for view in (ACCOUNTS, NOTES):
        servers.check(view)


@pytest.mark.parametrize("cached", [0, 100])
@pytest.mark.parametrize("anew", [False, True])
async def test_a_repeat_of_a_first_event_begins_no_row_anew(cached: int, anew: bool) -> None:
    """A broker without transactions lets an earlier owner of append emit some events once more."""
    servers = Servers(till(ACCOUNTS))
    role = await following(servers, cached=cached)
    await servers.append("a", Opened(owner="ann"), Deposited(cents=5))
    await servers.take(role)
    if anew:  # before it is noted how far the build is
        role = await opened(servers, cached=cached)
    await servers.emit(servers.stored[0])
    await servers.append("a", Deposited(cents=1))
    await servers.take(role)
    servers.check(ACCOUNTS)


@pytest.mark.parametrize("cached", [0, 100])
async def test_a_repeat_may_stand_anywhere_in_a_chunk(cached: int) -> None:
    servers = Servers(till(ACCOUNTS))
    role = await following(servers, cached=cached)
    await servers.append("a", Opened(owner="ann"), Deposited(cents=5))
    await servers.take(role)
    await servers.append("b", Opened(owner="bob"))
    await servers.append("a", Deposited(cents=1))
    await servers.emit(*servers.stored)
    await servers.append("c", Opened(owner="bob"))
    await servers.emit(servers.stored[0])
    await servers.append("a", Deposited(cents=7))
    await servers.emit(servers.stored[0], servers.stored[2])
    await servers.take(role)
    await servers.append("a", Moved(owner="bob"))
    await servers.take(role)
    servers.check(ACCOUNTS)


@pytest.mark.parametrize("cached", [0, 1, 100])
async def test_a_row_is_deleted_and_created_again(cached: int) -> None:
    servers = Servers(till())
    role = await following(servers, cached=cached)
    for events in ([Opened(owner="ann"), Deposited(cents=5)], [Closed()], [Opened(owner="bob")]):
        await servers.append("a", *events)
        await servers.take(role)
        servers.check(ACCOUNTS)
    await servers.append("a", Closed(), Opened(owner="eve"), Closed())
    await servers.take(role)
    assert servers.rows(ACCOUNTS) == {}
    [tombstone] = servers.table("accounts", "accounts", 1).values()
    assert tombstone.fields is None


async def test_rows_of_a_key_are_apart_from_others_and_from_other_aggregates() -> None:
    servers = Servers(till())
    role = await following(servers)
    for name in "ab":
        await servers.append(name, Opened(owner="ann"), Noted(label="x", text=name))
    await servers.append("a", Noted(label="y", text="2"), Noted(label="", text="none"))
    await servers.append("a", Noted(label="x", text="3"), Noted(label="y"))
    await servers.take(role)
    assert servers.rows(NOTES) == {
        ("a", "x"): Note(text="3", changes=2),
        ("a", ""): Note(text="none"),
        ("b", "x"): Note(text="b"),
    }


async def test_without_a_record_of_the_group_nothing_is_read_or_lost() -> None:
    servers = Servers(till())
    await servers.append("a", Opened(owner="ann"), Deposited(cents=5))
    role = await following(servers)
    servers.check(ACCOUNTS)
    assert servers.offset() == 0
    await servers.take(role)
    servers.check(ACCOUNTS)


async def test_an_unreadable_record_is_a_dead_letter_and_the_rest_goes_on() -> None:
    servers = Servers(till())
    role = await following(servers)
    await servers.append("a", Opened(owner="ann"))
    await servers.put(("a", b"[]"))
    unplaced = replace(await servers.store("b", Opened(owner="bob")), position=None)
    await servers.emit(unplaced)
    await servers.append("a", Deposited(cents=5))
    report = await servers.take(role)
    assert (report.dead_letters, servers.offset()) == (2, 4)
    assert servers.rows(ACCOUNTS) == {("a", ""): Account(owner="ann", cents=5)}
    letters = [dict(each.headers) for each in servers.records(servers.topics.dead_letters)]
    assert [each["eventfleet-source"] for each in letters] == [
        b"till.stored/0/1",
        b"till.stored/0/2",
    ]
    assert letters[0]["eventfleet-role"] == b"project"
    assert letters[0]["eventfleet-reason"] == b"value: is not a JSON object"
    assert letters[1]["eventfleet-reason"] == b"position: is None, not one of append's"


# Totals


async def test_a_group_gains_and_loses_rows_and_what_is_in_them() -> None:
    servers = Servers(till())
    role = await following(servers)
    steps: list[tuple[Event, dict[str, tuple[int, int]]]] = [
        (Opened(owner="ann"), {"ann": (1, 0)}),
        (Deposited(cents=5), {"ann": (1, 5)}),
        (Looked(), {"ann": (1, 5)}),
        (Moved(owner="bob"), {"bob": (1, 5)}),
        (Moved(owner="nobody"), {}),
        (Deposited(cents=2), {}),
        (Moved(owner="ann"), {"ann": (1, 7)}),
        (Closed(), {}),
    ]
    for event, expected in steps:
        await servers.append("a", event)
        await servers.take(role)
        found = servers.totals(ACCOUNTS, OWNERS)
        assert {t.owner: (t.accounts, t.cents) for t in found.values()} == expected, event  # type: ignore[attr-defined]


async def test_an_empty_group_leaves_no_row() -> None:
    servers = Servers(till())
    role = await following(servers)
    await servers.append("a", Opened(owner="ann"), Deposited(cents=5), Moved(owner="bob"))
    await servers.take(role)
    parts = servers.table("accounts", "owners", 1)
    assert {id: each.fields is None for id, each in parts.items()} == {
        '{"owner":"ann","accounts":0,"cents":0}\0000': True,
        '{"owner":"bob","accounts":0,"cents":0}\0000': False,
    }


async def test_each_partition_has_a_part_of_its_own() -> None:
    servers = Servers(till(), partitions=3)
    roles = [await opened(servers, partition) for partition in range(3)]
    for n in range(12):
        await servers.append(f"a{n}", Opened(owner="ann"), Deposited(cents=n))
    await made_live(servers, *roles)
    parts = servers.table("accounts", "owners", 1)
    assert {each.point.partition for each in parts.values()} == {0, 1, 2}
    assert servers.totals(ACCOUNTS, OWNERS) == {
        OwnerTotal(owner="ann"): OwnerTotal(owner="ann", accounts=12, cents=66)
    }


async def test_a_view_may_have_several_totals() -> None:
    view = with_changes(ACCOUNTS, totals=[owner_totals("owners"), owner_totals("again")])
    servers = Servers(till(view))
    role = await following(servers)
    await servers.append("a", Opened(owner="ann"), Deposited(cents=5), Moved(owner="bob"))
    await servers.take(role)
    servers.check(view)


# Values


class Meeting(Row):
    at: datetime
    seen: tuple[datetime, ...] = ()


class Day(Row):
    day: str
    meetings: int = 0


SEOUL = timezone(timedelta(hours=9))


def meetings(moments: Sequence[datetime]) -> View[Meeting]:
    """Each event moves the meeting to the next moment."""

    def project(row: Meeting | None, event: Any) -> Meeting:
        return Meeting(at=moments[event.version - 1], seen=(*(row.seen if row else ()), moments[0]))

    days = Totals(
        "days",
        row=Day,
        by=["day"],
        group=lambda row: Day(day=f"{row.at:%d}"),
        add=lambda day, _: replace(day, meetings=day.meetings + 1),
        remove=lambda day, _: replace(day, meetings=day.meetings - 1),
        merge=lambda one, other: replace(one, meetings=one.meetings + other.meetings),
    )
    return View("meetings", row=Meeting, project=project, totals=[days])


@pytest.mark.parametrize("cached", [0, 100])
async def test_a_time_is_the_same_before_and_after_it_is_stored(cached: int) -> None:
    """Or a group would lose less than it has gained."""
    early = datetime(2025, 1, 2, 1, 0, 0, 123_456, SEOUL)  # on the first, in UTC
    view = meetings([early, early + timedelta(days=5)])
    servers = Servers(till(view))
    role = await following(servers, cached=cached)
    await servers.append("a", Opened(owner="ann"))
    await servers.take(role)
    [row] = servers.rows(view).values()
    assert isinstance(row, Meeting)
    assert (row.at, row.at.tzinfo, row.seen) == (early, UTC, (early,))
    await servers.append("a", Looked())
    await servers.take(role)
    found = servers.totals(view, view.totals[0])
    assert [each.day for each in found.values()] == ["06"]  # type: ignore[attr-defined]


# A function that raises or returns nonsense


def raising(*_: Any) -> Any:
    raise ZeroDivisionError("by nought")


def changed_totals(**named: Any) -> View[Account]:
    return with_changes(ACCOUNTS, totals=[with_changes(owner_totals(), **named)])


NAIVE = datetime(2025, 1, 1)
NOT_AN_ACCOUNT = "accounts: project returned 1, not a Account or None"
FAULTY: dict[str, tuple[View[Any], str]] = {
    "project raises": (with_changes(ACCOUNTS, project=raising), "ZeroDivisionError: by nought"),
    "key raises": (with_changes(ACCOUNTS, key=raising), "ZeroDivisionError: by nought"),
    "group raises": (changed_totals(group=raising), "ZeroDivisionError: by nought"),
    "add raises": (changed_totals(add=raising), "ZeroDivisionError: by nought"),
    "project returns no row": (
        with_changes(ACCOUNTS, project=lambda *_: 1),
        "TypeError: accounts: project returned 1, not a Account or None",
    ),
    "project returns another's row": (
        with_changes(ACCOUNTS, project=lambda *_: Note(text="")),
        "TypeError: accounts: project returned Note(text='', changes=1), not a Account or None",
    ),
    "project returns a row of other values": (
        with_changes(ACCOUNTS, project=lambda *_: Account(owner=3)),  # type: ignore[arg-type]
        "UnstorableRow: Account: Expected `str`, got `int` - at `$.owner`",
    ),
    "project returns what no store keeps": (
        with_changes(ACCOUNTS, project=lambda *_: Account(owner="", cents=2**63)),
        f"UnstorableRow: cents is {2**63}: beyond a 64-bit integer",
    ),
    "project returns half a character": (
        with_changes(ACCOUNTS, project=lambda *_: Account(owner="\ud83d")),
        r"UnstorableRow: owner is '\ud83d': half of a surrogate pair",
    ),
    "project returns a time of no zone": (
        meetings([NAIVE]),
        "UnstorableRow: at is 2025-01-01 00:00:00: a time without a time zone",
    ),
    "key returns a number": (
        with_changes(ACCOUNTS, key=lambda _: 1),  # type: ignore[arg-type, return-value]
        "TypeError: view accounts: the key is 1, not a str without NUL, or None",
    ),
    "key returns a NUL": (
        with_changes(ACCOUNTS, key=lambda _: "a\0b"),
        r"TypeError: view accounts: the key is 'a\x00b', not a str without NUL, or None",
    ),
    "key returns half a character": (
        with_changes(ACCOUNTS, key=lambda _: "\ud83d"),
        r"TypeError: view accounts: the key is '\ud83d', not a str without NUL, or None",
    ),
    "group returns a str": (
        changed_totals(group=lambda row: row.owner),
        "TypeError: owners: group returned 'ann', not a OwnerTotal or None",
    ),
    "add returns nothing": (
        changed_totals(add=lambda *_: None),
        "TypeError: owners: add returned None, not a OwnerTotal",
    ),
    "add returns what no store keeps": (
        changed_totals(add=lambda total, _: replace(total, cents=-(2**64))),
        f"UnstorableRow: cents is {-(2**64)}: beyond a 64-bit integer",
    ),
}


@pytest.mark.parametrize(("view", "reason"), FAULTY.values(), ids=FAULTY)
async def test_a_fault_of_the_view_parks_the_aggregate_and_nothing_is_lost(
    view: View[Any], reason: str
) -> None:
    servers = Servers(till(view, NOTES))
    role = await following(servers)
    await servers.append("a", Opened(owner="ann"), Noted(label="x", text="one"))
    report = await servers.take(role)
    assert (report.parked, servers.offset(), servers.rows(view)) == (2, 2, {})
    [parked] = servers.parked()
    assert (parked.aggregate_id, parked.first, parked.last, parked.event_id) == ("a", 1, 2, "e0")
    assert parked.reason == reason
    if "by nought" in reason:
        assert f'File "{__file__}", line ' in parked.details
        assert 'raise ZeroDivisionError("by nought")' in parked.details
    mended = ACCOUNTS if view.row is Account else None
    if mended:
        role = await opened(servers, 0, till(mended, NOTES))
        assert servers.rows(mended) == {}
        await servers.redrive(role)
        for each in (mended, NOTES):
            servers.check(each)


async def test_the_event_among_others_is_named_whose_row_can_not_be_stored() -> None:
    def unbounded(row: Account | None, event: Any) -> Account | None:
        if event.data == Deposited(cents=3):
            return Account(owner="ann", cents=2**63)
        return project_account(row, event)

    servers = Servers(till(with_changes(ACCOUNTS, project=unbounded)))
    role = await following(servers)
    await servers.append("b", Opened(owner="bob"), *[Deposited(cents=n) for n in (1, 3, 5)])
    await servers.append("a", Opened(owner="ann"))
    await servers.take(role)
    [parked] = servers.parked()
    assert (parked.aggregate_id, parked.first, parked.last) == ("b", 3, 4)
    assert servers.rows(ACCOUNTS) == {
        ("a", ""): Account(owner="ann"),
        ("b", ""): Account(owner="bob", cents=1),
    }


async def test_the_event_is_named_that_makes_a_total_which_can_not_be_stored() -> None:
    def add(total: OwnerTotal, row: Account) -> OwnerTotal:
        return replace(total, cents=total.cents + row.cents * 2**60)

    servers = Servers(till(changed_totals(add=add, remove=lambda total, _: total)))
    role = await following(servers)
    for name in "abc":
        await servers.append(name, Opened(owner="ann"))
    await servers.append("a", Deposited(cents=7))
    await servers.append("b", Deposited(cents=1))
    await servers.append("c", Looked())
    await servers.take(role)
    [parked] = servers.parked()
    assert (parked.aggregate_id, parked.first) == ("b", 2)


async def test_remove_that_returns_nothing_is_named() -> None:
    servers = Servers(till(changed_totals(remove=lambda *_: None)))
    role = await following(servers)
    await servers.append("a", Opened(owner="ann"), Closed())
    await servers.take(role)
    [parked] = servers.parked()
    assert parked.first == 2
    assert parked.reason == "TypeError: owners: remove returned None, not a OwnerTotal"


async def test_a_fault_in_the_build_that_is_to_follow_parks_too() -> None:
    servers = Servers(till())
    await following(servers)
    await servers.append("a", Opened(owner="ann"))
    broken = with_changes(in_version(ACCOUNTS, 2), project=raising)
    role = await opened(servers, 0, till(broken, NOTES))
    await made_live(servers, role)
    [parked] = servers.parked()
    assert (parked.aggregate_id, parked.first) == ("a", 1)
    assert servers.rows(broken) == {}


@pytest.mark.parametrize(
    "what",
    [{"type": "Unheard"}, {"schema_version": 2}, {"data": {"owner": 3}}],
    ids=lambda what: next(iter(what)),
)
async def test_an_event_that_the_domain_does_not_read_parks_its_aggregate(
    what: dict[str, Any],
) -> None:
    """An older process must not pass over what a newer one has stored."""
    servers = Servers(till())
    role = await following(servers)
    await servers.append("a", Opened(owner="ann"), **what)
    await servers.append("b", Opened(owner="bob"))
    await servers.take(role)
    [parked] = servers.parked()
    kind = "InvalidRecord" if "data" in what else "NewerSchema"
    assert (parked.aggregate_id, parked.first, parked.reason.partition(":")[0]) == ("a", 1, kind)
    again = await opened(servers, 0, till(in_version(ACCOUNTS, 2)))
    await made_live(servers, again)
    assert [key for key, _ in servers.rows(ACCOUNTS)] == ["b"]
    [parked] = servers.parked()
    assert parked.builds == {"accounts/2": 1, "notes/1": 1}


async def test_an_upcaster_that_raises_parks_its_aggregate() -> None:
    servers = Servers(till(upcasters={Opened: [raising]}))
    role = await following(servers)
    await servers.append("a", Opened(owner="ann"))
    await servers.take(role)
    [parked] = servers.parked()
    assert parked.reason == "ZeroDivisionError: by nought"
    assert f'File "{__file__}", line ' in parked.details
    role = await opened(servers, 0, till(upcasters={Opened: [lambda data: {"owner": "bob"}]}))
    await servers.redrive(role)
    assert servers.rows(ACCOUNTS) == {("a", ""): Account(owner="bob")}


async def test_older_events_are_upcast() -> None:
    servers = Servers(till(upcasters={Opened: [lambda data: {"owner": data["name"]}]}))
    role = await following(servers)
    await servers.append("a", Opened(owner="ann"), data={"name": "ann"})
    await servers.append("b", Opened(owner="bob"), schema_version=2)
    await servers.take(role)
    rows = servers.rows(ACCOUNTS)
    assert rows == {("a", ""): Account(owner="ann"), ("b", ""): Account(owner="bob")}


# Notices


class Notices:
    def __init__(self, servers: Servers) -> None:
        self.servers, self.heard = servers, list[tuple[Stage, list[str], int | None]]()

    def notify(self, stage: Stage, events: Sequence[Any], disposition: Any = None) -> None:
        self.heard.append((stage, [each.id for each in events], self.servers.offset()))


async def test_who_waits_is_told_once_the_offset_has_moved() -> None:
    servers = Servers(till())
    notices = Notices(servers)
    role = await following(servers, notifier=notices)
    await servers.append("a", Opened(owner="ann"))
    await servers.append("a", Deposited(cents=5), reply_to="here")
    await servers.take(role)
    assert notices.heard == [(Stage.PROJECTED, ["e1"], 2)]


async def test_nobody_is_told_before_queries_see_it() -> None:
    servers = Servers(till())
    notices = Notices(servers)
    role = await opened(servers, notifier=notices)
    await servers.append("a", Opened(owner="ann"), reply_to="here")
    await servers.take(role)
    assert notices.heard == []
    await made_live(servers, role)
    assert notices.heard == [(Stage.PROJECTED, ["e0"], 1)]


OF_PARTITION_1 = next(name for name in "abcdefghi" if partition_of(name, 2) == 1)


async def test_nobody_is_told_while_the_live_build_is_of_another_version() -> None:
    servers = Servers(till(ACCOUNTS), partitions=2)
    newer = till(in_version(ACCOUNTS, 2))
    await made_live(servers, *[await opened(servers, each) for each in (0, 1)])
    notices = Notices(servers)
    role = await opened(servers, 1, newer, notifier=notices)
    await servers.append(OF_PARTITION_1, Opened(owner="ann"), reply_to="here")
    await made_live(servers, role)
    await servers.take(role, 1)
    assert (notices.heard, servers.offset(1)) == ([], 1)
    await made_live(servers, await opened(servers, 0, newer), role)
    assert [ids for _, ids, _ in notices.heard] == [["e0"]]


async def test_nobody_is_told_when_the_commit_failed() -> None:
    servers = Servers(till())
    notices = Notices(servers)
    role = await following(servers, notifier=notices)
    await servers.append("a", Opened(owner="ann"), reply_to="here")
    await opened(servers)
    with pytest.raises(Fenced):
        await servers.take(role)
    assert notices.heard == []


# Tombstones


async def test_old_tombstones_go_once_no_owner_can_need_them() -> None:
    servers = Servers(till(ACCOUNTS))
    role = await following(servers)
    await servers.append("a", Opened(owner="ann"), Deposited(cents=1))
    await servers.take(role)
    await role.tick()
    noted = servers.build("accounts").progress(0).point
    await servers.append("a", Deposited(cents=1), Closed())
    await servers.take(role)  # and then it ends before it notes that
    servers.clock.time += project.TOMBSTONE_AGE * 2
    servers.log.offsets["project", servers.topics.stored, 0] = 2
    role = await opened(servers)
    assert servers.build("accounts").progress(0).point == noted
    role._purged_at = servers.clock.steady() - project.PURGE_INTERVAL
    role._kept.looked_at = servers.clock.steady()  # nothing was noted yet
    await role.tick()
    assert len(servers.table("accounts", "accounts", 1)) == 1
    await servers.take(role)  # without the tombstone the deposit would find no account
    servers.clock.time += project.PURGE_INTERVAL * 2
    await role.tick()
    servers.clock.time += project.PURGE_INTERVAL
    await role.tick()
    assert (servers.table("accounts", "accounts", 1), servers.rows(ACCOUNTS)) == ({}, {})
    await servers.append("a", Opened(owner="bob"))
    await servers.take(role)
    servers.check(ACCOUNTS)


@pytest.mark.parametrize("first", [0, 2])
async def test_events_before_a_purge_that_come_again_change_nothing(first: int) -> None:
    """An operator may set the offset back, also to the middle of an aggregate's history."""
    servers = Servers(till(ACCOUNTS))
    role = await following(servers)
    await servers.append("a", Opened(owner="ann"), Deposited(cents=1), Deposited(cents=2))
    await servers.append("a", Closed())
    await servers.take(role)
    await made_live(servers, role)
    servers.clock.time += project.TOMBSTONE_AGE + project.PURGE_INTERVAL
    await role.tick()
    assert servers.table("accounts", "accounts", 1) == {}
    servers.log.offsets["project", servers.topics.stored, 0] = first
    role = await opened(servers)
    while (servers.offset() or 0) < 4:
        await servers.take(role, limit=1)
        assert servers.rows(ACCOUNTS) == {}
        assert servers.totals(ACCOUNTS, OWNERS) == {}


async def test_a_repeat_from_before_a_purge_brings_no_row_back() -> None:
    servers = Servers(till(ACCOUNTS))
    role = await following(servers, cached=0)
    await servers.append("a", Opened(owner="ann"), Closed())
    await servers.take(role)
    await made_live(servers, role)
    servers.clock.time += project.TOMBSTONE_AGE + project.PURGE_INTERVAL
    await role.tick()
    assert servers.table("accounts", "accounts", 1) == {}
    await servers.append("b", Opened(owner="bob"))
    await servers.emit(servers.stored[0])
    await servers.take(role)
    servers.check(ACCOUNTS)


async def test_young_tombstones_stay() -> None:
    servers = Servers(till(ACCOUNTS))
    role = await following(servers)
    await servers.append("a", Opened(owner="ann"), Closed())
    await servers.take(role)
    for _ in range(3):
        servers.clock.time += project.PURGE_INTERVAL
        await role.tick()
    assert len(servers.table("accounts", "accounts", 1)) == 1


async def test_an_unavailable_store_is_tried_again_and_nothing_is_cached_wrongly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    servers = Servers(till(ACCOUNTS))
    role = await following(servers)
    await servers.append("a", Opened(owner="ann"))
    table = servers.views.rows("accounts", "accounts", 1)

    async def down(_: Any) -> None:
        raise ServerUnavailable("down")

    with monkeypatch.context() as patch:
        patch.setattr(table, "save", down)
        with pytest.raises(ServerUnavailable):
            await servers.take(role)
    await role.open()
    await servers.take(role)
    servers.check(ACCOUNTS)


async def test_a_changed_row_needs_a_higher_version() -> None:
    class Account2(Account):
        currency: str = "EUR"

    servers = Servers(till(ACCOUNTS))
    await following(servers)
    changed = View("accounts", row=Account2, project=lambda *_: None)
    with pytest.raises(ChangedView, match=r"view accounts of till .* raise its version"):
        await opened(servers, 0, till(changed))
    await opened(servers, 0, till(with_changes(changed, version=2)))


def test_the_pause_before_looking_is_shorter_than_the_tests() -> None:
    assert BUILDS_INTERVAL < TICK
