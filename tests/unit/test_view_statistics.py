"""The statistics of views: rows written, builds that are ready, and how far others are behind."""

import pytest

from eventfleet.model.views import ViewShape
from eventfleet.roles import event_applier
from eventfleet.roles.view_statistics import BuildStatus, ViewStatistics, build_statuses
from eventfleet.stores.contracts.views import BuildProgress, ViewBuild, ViewBuilds
from eventfleet.stores.cursors import FeedPoint
from tests.unit.view_fixture import (
    ACCOUNTS,
    TICK,
    Closed,
    Deposited,
    Opened,
    Servers,
    in_version,
    made_live,
    till,
)

REACHED = FeedPoint(3, 1, 40, 2)


def progressed(ready: bool, point: FeedPoint | None) -> ViewBuild:
    return ViewBuild(1, ViewShape(1, ""), {3: BuildProgress(ready, point)})


async def test_rows_written_are_counted_by_table() -> None:
    servers, statistics = Servers(till(ACCOUNTS)), ViewStatistics()
    role = servers.role(statistics=statistics)
    await role.open()
    await made_live(servers, role)
    for name in ("a", "b"):
        await servers.append(name, Opened(owner="ann"), Deposited(cents=1))
    await servers.append("a", Closed())
    await servers.take(role)
    assert statistics.rows == {"accounts": 2, "owners": 1}
    await servers.append("b", Deposited(cents=1))
    await servers.take(role)
    assert statistics.rows == {"accounts": 3, "owners": 2}


async def test_a_build_shows_how_far_it_is_behind_until_it_is_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_applier, "CATCH_UP_PAGE_EVENTS", 2)
    monkeypatch.setattr(event_applier, "CATCH_UP_PAGES", 2)
    servers, statistics = Servers(till(ACCOUNTS)), ViewStatistics()
    old = servers.role()
    await old.open()
    await made_live(servers, old)
    await servers.append("a", Opened(owner="ann"), *[Deposited(cents=1)] * 9)
    await servers.take(old)
    servers.clock.time += TICK
    await old.tick()

    new = servers.role(domain=till(in_version(ACCOUNTS, 2)), statistics=statistics)
    await new.open()
    live = BuildStatus("accounts", "live", ready=False, behind=0)
    seen = []
    for _ in range(3):
        seen.append(statistics.builds[0])
        await new.tick()
    assert seen == [
        [live, BuildStatus("accounts", "next", ready=False, behind=left)] for left in (10, 6, 2)
    ]
    await new.tick()
    assert statistics.builds[0] == [BuildStatus("accounts", "live", ready=True, behind=0)]


async def test_a_first_build_is_behind_what_came_meanwhile() -> None:
    servers, statistics = Servers(till(ACCOUNTS)), ViewStatistics()
    role = servers.role(statistics=statistics)
    await role.open()
    assert statistics.builds[0] == [BuildStatus("accounts", "next", ready=False, behind=0)]
    await servers.append("a", Opened(owner="ann"), Deposited(cents=1))
    await servers.take(role)
    role._choice._count_builds(await servers.views.builds())
    assert statistics.builds[0] == [BuildStatus("accounts", "next", ready=False, behind=2)]


async def test_a_partition_that_is_let_go_is_shown_no_more() -> None:
    servers, statistics = Servers(till(ACCOUNTS), partitions=2), ViewStatistics()
    roles = [servers.role(partition, statistics=statistics) for partition in range(2)]
    for role in roles:
        await role.open()
    assert [*statistics.builds] == [0, 1]
    await roles[0].close()
    assert [*statistics.builds] == [1]


@pytest.mark.parametrize(
    ("build", "behind"),
    [
        (progressed(ready=True, point=FeedPoint(3, 1, 30, 1)), 10),
        (progressed(ready=False, point=FeedPoint(3, 1, 50, 1)), 0),
        (progressed(ready=False, point=FeedPoint(3, 0, 90, 1)), 41),
        (progressed(ready=False, point=None), 41),
    ],
)
def test_a_build_that_is_not_kept_here_falls_behind(build: ViewBuild, behind: int) -> None:
    found = build_statuses("accounts", ViewBuilds(live=build), {}, REACHED)
    assert found == [BuildStatus("accounts", "live", ready=False, behind=behind)]
