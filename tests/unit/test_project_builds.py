"""How the project role makes builds of its views, with owners that come and go."""

from dataclasses import replace as with_changes
from typing import Any

import pytest

from eventfleet.roles import event_applier
from eventfleet.roles.project import ProjectRole
from eventfleet.stores.contracts.views import BuildProgress
from eventfleet.stores.errors import Fenced, ServerUnavailable
from eventfleet.topics.partitioner import partition_of
from tests.unit.view_fixture import (
    ACCOUNTS,
    NOTES,
    TICK,
    Closed,
    Deposited,
    Opened,
    Servers,
    in_version,
    made_live,
    till,
)

TWO = in_version(ACCOUNTS, 2)
THREE = in_version(ACCOUNTS, 3)


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tick brings a build forward by two events."""
    monkeypatch.setattr(event_applier, "CATCH_UP_PAGE_EVENTS", 1)
    monkeypatch.setattr(event_applier, "CATCH_UP_PAGES", 2)


async def opened(servers: Servers, partition: int = 0, *views: Any) -> ProjectRole:
    role = servers.role(partition, till(*views) if views else None)
    await role.open()
    return role


async def tick(servers: Servers, *roles: ProjectRole, times: int = 1) -> None:
    for _ in range(times):
        servers.clock.time += TICK
        for role in roles:
            await role.tick()


def numbers(servers: Servers, view: str = "accounts") -> tuple[int | None, int | None]:
    """The numbers of the live build and of the next."""
    live, following, _ = servers.views._builds[view]
    return live.number if live else None, following.number if following else None


def progress(servers: Servers, number: int, partition: int = 0) -> BuildProgress:
    return servers.build("accounts", number).progress(partition)


async def many(servers: Servers, name: str = "a", count: int = 5) -> None:
    await servers.append(name, Opened(owner="ann"), *[Deposited(cents=n) for n in range(1, count)])


# The first build, and those after


async def test_a_first_build_answers_once_it_has_all_events() -> None:
    servers = Servers(till(ACCOUNTS))
    await many(servers)
    role = await opened(servers)
    await tick(servers, role, times=2)
    assert numbers(servers) == (None, 1)
    await tick(servers, role, times=2)
    assert numbers(servers) == (1, None)
    servers.check(ACCOUNTS)


async def test_a_rebuild_goes_on_beside_the_live_build_while_events_flow() -> None:
    servers = Servers(till(ACCOUNTS))
    role = await opened(servers)
    await many(servers)
    await servers.take(role)
    await tick(servers, role, times=4)
    assert await servers.views.begin("accounts", ["accounts", "owners"], ACCOUNTS.shape, 1)
    for turn in range(20):
        await servers.append("a", Deposited(cents=turn))
        await servers.take(role)
        servers.check(ACCOUNTS)  # the live one has it, whichever it is
        await tick(servers, role)
        if numbers(servers) == (2, None):
            break
    assert turn > 2
    servers.check(ACCOUNTS, 2)
    await servers.append("a", Closed())
    await servers.take(role)
    servers.check(ACCOUNTS, 2)


async def test_a_build_that_follows_has_each_chunk_before_the_live_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The owner of the other partition may make it live at any moment."""
    servers = Servers(till(ACCOUNTS), partitions=2)
    roles = [servers.role(partition) for partition in range(2)]
    for role in roles:
        await role.open()
    await made_live(servers, *roles)
    assert await servers.views.begin("accounts", ["accounts", "owners"], ACCOUNTS.shape, 1)
    await made_live(servers, roles[0])
    assert numbers(servers) == (1, 2)
    saved = list[int]()
    for number in (1, 2):
        rows = servers.views.rows("accounts", "accounts", number)

        async def save(stored: Any, number: int = number, rows: Any = rows) -> None:
            saved.append(number)
            await type(rows).save(rows, stored)

        monkeypatch.setattr(rows, "save", save)
    name = next(each for each in "abcd" if partition_of(each, 2) == 0)
    await servers.append(name, Opened(owner="ann"))
    await servers.take(roles[0])
    assert saved == [2, 1]


async def test_a_higher_version_is_built_by_itself_and_made_live_when_all_are_ready() -> None:
    servers = Servers(till(ACCOUNTS), partitions=2)
    for name in "abcd":
        await many(servers, name)
    roles = [await opened(servers, each) for each in (0, 1)]
    await tick(servers, *roles, times=20)
    assert numbers(servers) == (1, None)
    first = await opened(servers, 0, TWO)
    await tick(servers, first, roles[1], times=20)
    assert numbers(servers) == (1, 2)
    assert progress(servers, 2, 0).ready
    assert not progress(servers, 2, 1).ready
    assert not first.at_rest  # it makes the build live as soon as the other partition is ready
    second = await opened(servers, 1, TWO)
    await tick(servers, first, second, times=20)
    assert numbers(servers) == (2, None)
    assert first.at_rest
    servers.check(TWO)


async def test_builds_of_two_views_are_apart() -> None:
    servers = Servers(till(ACCOUNTS, NOTES))
    role = await opened(servers)
    await many(servers)
    await tick(servers, role, times=6)
    newer = await opened(servers, 0, TWO, NOTES)
    await tick(servers, newer, times=6)
    assert (numbers(servers), numbers(servers, "notes")) == ((2, None), (1, None))


async def test_an_index_that_is_declared_later_is_made_without_a_rebuild(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    servers = Servers(till(ACCOUNTS))
    await tick(servers, await opened(servers), times=4)
    prepared = list[Any]()

    async def prepare(indexes: Any) -> None:
        prepared.append(indexes)

    table = servers.views.rows("accounts", "accounts", 1)
    monkeypatch.setattr(table, "prepare", prepare)
    indexed = with_changes(ACCOUNTS, indexes=[["cents"]])
    await tick(servers, await opened(servers, 0, indexed), times=2)
    assert prepared == [[["cents"]]]
    assert numbers(servers) == (1, None)


async def test_an_index_that_takes_too_long_keeps_no_event_waiting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def prepare(_: Any) -> None:
        raise ServerUnavailable("it took too long")

    servers = Servers(till(ACCOUNTS))
    await tick(servers, await opened(servers), times=4)
    monkeypatch.setattr(servers.views.rows("accounts", "accounts", 1), "prepare", prepare)
    role = await opened(servers)
    await many(servers)
    await tick(servers, role, times=3)
    await servers.take(role)
    servers.check(ACCOUNTS)
    [warning] = caplog.messages
    assert "view accounts of till: its indexes could not be made" in warning
    newer = servers.role(0, till(TWO))
    monkeypatch.setattr(servers.views.rows("accounts", "accounts", 2), "prepare", prepare)
    await newer.open()
    await made_live(servers, newer)
    build = servers.build("accounts", 2).progress(0)
    assert (build.ready, build.held) == (False, "has no indexes: it took too long")
    await servers.append("a", Deposited(cents=1))
    monkeypatch.undo()
    await made_live(servers, newer)
    assert numbers(servers) == (2, None)


async def test_a_deployment_that_is_taken_back_has_its_build_and_so_has_the_next() -> None:
    servers = Servers(till(ACCOUNTS))
    await many(servers)
    for version in (ACCOUNTS, TWO):
        role = await opened(servers, 0, version)
        await tick(servers, role, times=6)
    assert numbers(servers) == (2, None)
    for number, version in ((1, ACCOUNTS), (2, TWO)):
        await servers.append("a", Deposited(cents=50))
        role = await opened(servers, 0, version)
        await servers.take(role)
        assert servers.rows(version, number)
        await tick(servers, role, times=6)
        assert numbers(servers) == (number, None)
        servers.check(version)


async def test_the_former_build_of_before_is_built_again_when_asked_for() -> None:
    servers = Servers(till(ACCOUNTS))
    await many(servers)
    for version in (ACCOUNTS, TWO, in_version(ACCOUNTS, 3)):
        role = await opened(servers, 0, version)
        await tick(servers, role, times=6)
    assert numbers(servers) == (3, None)
    role = await opened(servers, 0, ACCOUNTS)
    await tick(servers, role, times=6)
    assert numbers(servers) == (3, None)
    assert await servers.views.begin("accounts", ["accounts", "owners"], ACCOUNTS.shape, 3)
    await tick(servers, role, times=6)
    assert numbers(servers) == (4, None)
    servers.check(ACCOUNTS)


async def test_owners_of_the_former_build_read_it_while_others_make_the_next() -> None:
    servers = Servers(till(ACCOUNTS), partitions=2)
    for version in (ACCOUNTS, TWO):
        roles = [await opened(servers, each, version) for each in (0, 1)]
        await made_live(servers, *roles)
    older, newer = await opened(servers, 0, ACCOUNTS), await opened(servers, 1, TWO)
    await made_live(servers, older, newer)
    builds = servers.views._builds["accounts"]
    assert builds.live
    assert (builds.live.number, builds.read_by(ACCOUNTS.shape)) == (2, builds.former)


# Owners that come and go


async def test_a_takeover_in_the_middle_of_a_build_goes_on_where_it_was() -> None:
    servers = Servers(till(ACCOUNTS))
    await many(servers, count=12)
    role = await opened(servers)
    await tick(servers, role, times=2)
    noted = progress(servers, 1)
    assert noted.point
    assert not noted.ready
    role = await opened(servers)
    assert progress(servers, 1).point == noted.point
    await servers.take(role)
    await tick(servers, role, times=12)
    assert numbers(servers) == (1, None)
    servers.check(ACCOUNTS)


async def test_an_owner_of_another_version_leaves_a_build_behind_and_the_next_catches_up() -> None:
    servers = Servers(till(ACCOUNTS))
    role = await opened(servers, 0, TWO)
    await many(servers)
    await servers.take(role)
    await tick(servers, role, times=5)
    assert progress(servers, 1).ready
    older = await opened(servers, 0, ACCOUNTS)
    assert not progress(servers, 1).ready
    await many(servers, "b")
    await servers.take(older)
    await tick(servers, older, times=5)
    assert numbers(servers) == (1, None)  # a lower version begins no build
    again = await opened(servers, 0, TWO)
    await many(servers, "c")
    await servers.take(again)
    await tick(servers, again, times=12)
    assert progress(servers, 1).ready
    servers.check(TWO)


async def test_an_owner_that_has_no_such_view_leaves_its_builds_behind() -> None:
    servers = Servers(till(ACCOUNTS, NOTES))
    role = await opened(servers)
    await tick(servers, role, times=4)
    other = await opened(servers, 0, NOTES)
    await many(servers)
    await servers.take(other)
    await tick(servers, other, times=2)
    again = await opened(servers)
    assert servers.offset() == 5
    await tick(servers, again, times=6)
    servers.check(ACCOUNTS)
    servers.check(NOTES)


async def test_a_build_begun_while_another_version_owns_the_partition_has_all_in_the_end() -> None:
    servers = Servers(till(ACCOUNTS), partitions=2)
    older = [await opened(servers, each, ACCOUNTS) for each in (0, 1)]
    await tick(servers, *older, times=5)
    newer = await opened(servers, 0, TWO)
    for name in "abcd":
        await many(servers, name)
    for role, partition in ((newer, 0), (older[1], 1)):
        await servers.take(role, partition)
    await tick(servers, newer, older[1], times=20)
    assert numbers(servers) == (1, 2)
    await tick(servers, newer, await opened(servers, 1, TWO), times=20)
    servers.check(TWO, 2)
    assert numbers(servers) == (2, None)


@pytest.mark.parametrize("ready", [True, False])
async def test_an_owner_goes_on_where_its_build_was_removed_since_it_looked(ready: bool) -> None:
    """The rows are gone, so `project` raises for an event of an account that has been opened."""
    servers = Servers(till(ACCOUNTS), partitions=2)
    role = servers.role(cached=0)
    await role.open()
    names = [each for each in "abcdefgh" if not partition_of(each, 2)][:2]
    for name in names:
        await many(servers, name)
    await servers.take(role)
    await tick(servers, role, times=7 if ready else 2)
    assert (numbers(servers), progress(servers, 1).ready) == ((None, 1), ready)
    assert await servers.views.begin("accounts", ["accounts", "owners"], ACCOUNTS.shape, 1)
    await servers.append(names[1], Deposited(cents=7))
    if ready:
        await servers.take(role)
    await tick(servers, role, await opened(servers, 1), times=9)
    await servers.take(role)
    assert numbers(servers) == (2, None)
    servers.check(ACCOUNTS)


async def test_a_build_that_was_to_follow_is_given_up_for_a_later_version() -> None:
    servers = Servers(till(ACCOUNTS))
    await many(servers)
    await tick(servers, await opened(servers), times=6)
    second = await opened(servers, 0, TWO)
    assert numbers(servers) == (1, 2)
    third = await opened(servers, 0, THREE)
    assert numbers(servers) == (1, 3)
    with pytest.raises(Fenced):
        await tick(servers, second)
    assert numbers(servers) == (1, 3)
    await tick(servers, third, times=6)
    assert numbers(servers) == (3, None)
    servers.check(THREE)


# An earlier owner that does not know that it is one


async def lagging(servers: Servers, role: ProjectRole, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The role has come to the end of the store's events; what it does next it does later."""
    waiting = list[Any]()
    note = role._kept.note_points

    async def later() -> None:
        waiting.append(note)

    monkeypatch.setattr(role._kept, "note_points", later)
    await tick(servers, role)
    return waiting[0]


async def test_an_earlier_owner_does_not_call_a_build_ready_that_lacks_what_came_since(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has come to the end; another takes over and processes more, which the build, not being
    ready, does not get; then the earlier one notes that it is ready."""
    servers = Servers(till(ACCOUNTS))
    await many(servers, count=2)
    early = await opened(servers)
    await tick(servers, early)
    note = await lagging(servers, early, monkeypatch)
    other = await opened(servers)
    await servers.append("b", Opened(owner="bob"))
    await servers.take(other)
    await note()
    assert not progress(servers, 1).ready
    last = await opened(servers)
    await tick(servers, last, times=5)
    servers.check(ACCOUNTS)
    assert numbers(servers) == (1, None)


async def test_nor_where_the_later_one_does_not_keep_the_build(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    servers = Servers(till(ACCOUNTS))
    await many(servers, count=2)
    early = await opened(servers)
    await tick(servers, early)
    note = await lagging(servers, early, monkeypatch)
    other = await opened(servers, 0, NOTES)
    await servers.append("b", Opened(owner="bob"))
    await servers.take(other)
    await note()
    last = await opened(servers)
    await tick(servers, last, times=5)
    servers.check(ACCOUNTS)


async def test_nor_a_build_that_the_later_one_has_not_seen() -> None:
    """It was begun after the later one has looked, and before the earlier one has."""
    servers = Servers(till(ACCOUNTS), partitions=1)
    await many(servers, count=2)
    early = await opened(servers)
    await tick(servers, early, times=4)
    other = await opened(servers)
    assert await servers.views.begin("accounts", ["accounts", "owners"], ACCOUNTS.shape, 1)
    with pytest.raises(Fenced):
        await tick(servers, early, times=4)
    await servers.append("b", Opened(owner="bob"))
    await servers.take(other)
    assert not progress(servers, 2).ready
    last = await opened(servers)
    await tick(servers, last, times=6)
    assert numbers(servers) == (2, None)
    servers.check(ACCOUNTS, 2)


async def test_an_earlier_owner_that_notes_in_between_is_no_obstacle_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    servers = Servers(till(ACCOUNTS))
    early = await opened(servers)
    await many(servers, count=9)
    late = await lagging(servers, early, monkeypatch)
    notes, note = list[Any](), servers.views.note_progress

    async def raced(*what: Any) -> bool:
        if not notes:
            notes.append(what)
            await late()
        return await note(*what)

    monkeypatch.setattr(servers.views, "note_progress", raced)
    role = servers.role()
    with pytest.raises(ServerUnavailable, match="view accounts: an earlier owner"):
        await role.open()
    await role.open()
    await servers.take(role)
    await tick(servers, role, times=9)
    servers.check(ACCOUNTS)


async def test_an_owner_without_events_sees_that_its_build_was_left_behind() -> None:
    """An earlier one, of another version, was late to say so. Nothing else would ever change."""
    servers = Servers(till(ACCOUNTS), partitions=2)
    await tick(servers, *[await opened(servers, each) for each in (0, 1)], times=4)
    first = await opened(servers, 0, TWO)
    await tick(servers, first, times=3)
    known = progress(servers, 2)
    assert known.ready
    behind = known._replace(ready=False, takeovers=known.takeovers + 1)
    assert await servers.views.note_progress("accounts", 2, 0, known, behind)
    await tick(servers, first, await opened(servers, 1, TWO), times=5)
    assert numbers(servers) == (2, None)


async def test_cached_parts_are_read_again_where_an_earlier_owner_was_ahead() -> None:
    """It has a chunk in hand, whose rows and parts are stored when the next owner has begun."""
    servers = Servers(till(ACCOUNTS))
    early = await opened(servers)
    await tick(servers, early, times=4)
    for name in "ab":
        await servers.append(name, Opened(owner="ann"))
    await servers.take(early)
    await servers.append("a", Deposited(cents=1))
    await servers.append("b", Deposited(cents=10))
    other = await opened(servers)
    await servers.take(other, limit=1)  # it has ann's part in its cache now
    with pytest.raises(Fenced):
        await servers.take_from(2, early)
    await servers.take(other)  # b's row is ahead, and so is the stored part
    await servers.append("a", Deposited(cents=100))
    await servers.take(other)
    servers.check(ACCOUNTS)


async def test_what_an_earlier_owner_writes_late_changes_nothing() -> None:
    servers = Servers(till(ACCOUNTS))
    early = await opened(servers)
    await tick(servers, early, times=4)
    await servers.append("a", Opened(owner="ann"), Deposited(cents=1))
    records = servers.records(servers.topics.stored)
    other = await opened(servers)
    await servers.append("a", Closed(), Opened(owner="bob"), Deposited(cents=7))
    await servers.take(other)
    with pytest.raises(Fenced):
        await early.process(records, 2)
    servers.check(ACCOUNTS)
