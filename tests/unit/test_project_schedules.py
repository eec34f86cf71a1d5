"""The project role cut off at any point, and several owners of a partition at once.

Whatever was cut off or written late, in the end the rows are what the events give.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace as with_changes
from random import Random
from typing import Any

import pytest

from eventfleet.model.views import View
from eventfleet.roles import event_applier
from eventfleet.roles.notices import NULL_NOTIFIER
from eventfleet.roles.project import ProjectRole
from eventfleet.stores.contracts import Stage
from eventfleet.stores.contracts.views import ViewBuilds
from eventfleet.stores.errors import Fenced, ServerUnavailable
from eventfleet.topics.codec import decode
from tests.unit.view_fixture import (
    ACCOUNTS,
    NOTES,
    TICK,
    Closed,
    Deposited,
    Looked,
    Moved,
    Noted,
    Opened,
    Servers,
    folded,
    in_version,
    made_live,
    owner_totals,
    random_events,
    till,
)

VIEW = with_changes(ACCOUNTS, totals=[owner_totals("owners"), owner_totals("again")])
TWO = in_version(VIEW, 2)
SEEDS = 30
CUTS = range(0, 10_000)


class Crash(BaseException):
    """The process is gone."""


class Ending:
    """A yield point that lets `steps` pass and ends the caller at the next."""

    def __init__(self) -> None:
        self.steps = 10**9

    async def __call__(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise Crash


async def survives(servers: Servers, role: ProjectRole, steps: int, *, ticks: bool = False) -> bool:
    """Whether a role ends what it does in so many steps."""
    ending = servers.yield_point
    assert isinstance(ending, Ending)
    ending.steps = steps
    try:
        if ticks:
            await made_live(servers, role)
        else:
            await servers.take(role)
    except Crash:
        return False
    finally:
        ending.steps = 10**9
    return True


async def finish(servers: Servers, chance: Random) -> None:
    """Another process takes what is left, in pieces of other sizes."""
    role = servers.role(cached=chance.choice([0, 1, 100]))
    await role.open()
    while (servers.offset() or 0) < len(servers.records(servers.topics.stored)):
        await servers.take(role, limit=chance.randrange(1, 4))
        if not chance.randrange(4):
            await role.tick()
    await made_live(servers, role)
    for view in servers.domain.views:
        servers.check(view)


@pytest.mark.parametrize("cached", [0, 100])
async def test_a_chunk_may_be_cut_off_at_any_point(cached: int) -> None:
    chance = Random(cached)
    for cut in CUTS:
        servers = Servers(till(VIEW, NOTES), yield_point=Ending())
        role = servers.role(cached=cached)
        await role.open()
        await made_live(servers, role)
        for name in "ab":
            await servers.append(name, Opened(owner="ann"), Noted(label="x", text="1"))
        await servers.take(role)
        await servers.append("a", Deposited(cents=5), Moved(owner="bob"), Noted(label="x"))
        await servers.append("b", Deposited(cents=7), Looked(), Closed())
        await servers.append("a", Deposited(cents=1), Moved(owner="ann"))
        if await survives(servers, role, cut):
            break
        await finish(servers, chance)
    assert cut > 15


async def test_a_build_may_be_cut_off_at_any_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_applier, "CATCH_UP_PAGE_EVENTS", 2)
    chance = Random(1)
    for cut in CUTS:
        servers = Servers(till(VIEW), yield_point=Ending())
        role = servers.role()
        await role.open()
        for name, event in random_events(Random(2), 7):
            await servers.append(name, event)
        await servers.take(role)
        if await survives(servers, role, cut, ticks=True):
            break
        await finish(servers, chance)
    assert cut > 25


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_chunks_cut_off_again_and_again_leave_what_an_undisturbed_one_does(seed: int) -> None:
    chance = Random(seed)
    servers = Servers(till(VIEW, NOTES), yield_point=Ending())
    for name, event in random_events(chance, 40):
        await servers.append(name, event)
    for _ in range(12):
        role = servers.role(cached=chance.choice([0, 1, 100]))
        await role.open()
        with suppress(Crash):
            servers.yield_point.steps = chance.randrange(80)  # type: ignore[attr-defined]
            await role.tick()
            await servers.take(role, limit=chance.randrange(1, 9))
        servers.yield_point.steps = 10**9  # type: ignore[attr-defined]
    await finish(servers, chance)


# Several owners at once


class Interleaving:
    """A yield point that lets others run, for as many turns as chance has it."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance

    async def __call__(self) -> None:
        for _ in range(self._chance.choice([0, 0, 1, 1, 2, 30])):
            await asyncio.sleep(0)


class WatchedBuilds(dict[str, ViewBuilds]):
    """The builds by view; `check` is called at each change of the live one."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    def __setitem__(self, view: str, builds: ViewBuilds) -> None:
        before = self.get(view, ViewBuilds()).live
        super().__setitem__(view, builds)
        changed = builds.live and builds.live.number != (before and before.number)
        if changed and view == VIEW.name:
            self._check()


class Fleet:
    """Owners of partitions: some do not know yet that they are not, some are of other versions."""

    def __init__(self, seed: int, partitions: int) -> None:
        self.chance = Random(seed)
        self.servers = Servers(till(VIEW), partitions, Interleaving(self.chance))
        self.tasks = list[asyncio.Task[None]]()
        self.servers.views._builds = WatchedBuilds(self.check_answers)

    def own(self, partition: int, *views: View[Any]) -> asyncio.Task[None]:
        # Without the view, its owner can't know who waits for it.
        notifier = NULL_NOTIFIER if NOTES in views else self
        cached = self.chance.choice([0, 1, 100])
        role = self.servers.role(partition, till(*views), cached=cached, notifier=notifier)
        task = asyncio.create_task(self._work(role, partition))
        self.tasks.append(task)
        return task

    async def _work(self, role: ProjectRole, partition: int) -> None:
        servers, chance = self.servers, self.chance
        while True:
            with suppress(ServerUnavailable):
                try:
                    at = await role.open()
                    while True:
                        if not chance.randrange(3):
                            servers.clock.time += TICK
                            await role.tick()
                        limit = chance.randrange(1, 5)
                        records = servers.records(servers.topics.stored, partition, at)[:limit]
                        if records:
                            at = records[-1].offset + 1
                            await role.process(records, at)
                        await asyncio.sleep(0)
                except Fenced:
                    return

    # What readers may rely on

    def notify(self, stage: Stage, events: Sequence[Any], disposition: Any = None) -> None:
        for event in () if disposition else events:
            self.check_row(event.aggregate_id, event.version)

    def check_answers(self) -> None:
        """The live build has at least what was processed before it was made live."""
        for partition in range(self.servers.partitions):
            processed = self.servers.records(self.servers.topics.stored, partition)
            for record in processed[: self.servers.offset(partition) or 0]:
                event = decode(record.value)
                self.check_row(event.aggregate_id, event.version)

    def check_row(self, aggregate_id: str, version: int) -> None:
        """The live row is that of this version, or of a later one."""
        live = self.servers.build("accounts")
        view = next(each for each in (VIEW, TWO) if each.shape == live.shape)
        events = [e for e in self.servers.happened() if e.aggregate_id == aggregate_id]
        place = aggregate_id, ""
        versions = range(version, len(events) + 1)
        answers = [folded(view, events[:upto]).get(place) for upto in versions]
        assert self.servers.rows(view).get(place) in answers


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_owners_at_once_leave_what_an_undisturbed_one_does(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_applier, "CATCH_UP_PAGE_EVENTS", 2)
    monkeypatch.setattr(event_applier, "CATCH_UP_PAGES", 2)
    partitions = 1 + seed % 2
    fleet = Fleet(seed, partitions)
    servers, chance = fleet.servers, fleet.chance
    owned = [(VIEW,), (VIEW,), (TWO,), (NOTES,)]
    for partition in range(partitions):
        fleet.own(partition, VIEW)
    for name, event in random_events(chance, 40, accounts=4):
        await servers.append(name, event, reply_to="here")
        for _ in range(chance.randrange(8)):
            await asyncio.sleep(0)
        if not chance.randrange(4):
            fleet.own(chance.randrange(partitions), *chance.choice(owned))
        if not chance.randrange(9):
            chance.choice(fleet.tasks).cancel()
        if not chance.randrange(15) and "accounts" in servers.views._builds:
            last = servers.views._builds["accounts"].last_number
            shape = chance.choice([VIEW, TWO]).shape
            await servers.views.begin("accounts", ["accounts", "owners", "again"], shape, last)
    last_ones = [fleet.own(partition, TWO) for partition in range(partitions)]
    async with asyncio.timeout(20):
        while not finished(servers):
            await asyncio.sleep(0)
            if not chance.randrange(200):  # by and by the group stops those it took it from
                chance.choice([each for each in fleet.tasks if each not in last_ones]).cancel()
            for partition, task in enumerate(last_ones):
                if task.done():  # one that began earlier has fenced it
                    task.result()
                    last_ones[partition] = fleet.own(partition, TWO)
    for task in fleet.tasks:
        task.cancel()
    ended = await asyncio.gather(*fleet.tasks, return_exceptions=True)
    assert {type(each) for each in ended} <= {asyncio.CancelledError, type(None)}, ended
    servers.check(TWO)


def finished(servers: Servers) -> bool:
    """Whether all records are processed, and a build of the newest version answers."""
    live, following, _ = servers.views._builds.get("accounts", (None, None))
    return (
        live is not None
        and following is None
        and live.shape == TWO.shape
        and all(live.progress(each).ready for each in range(servers.partitions))
        and all(
            servers.offset(each) == len(servers.records(servers.topics.stored, each))
            for each in range(servers.partitions)
        )
    )
