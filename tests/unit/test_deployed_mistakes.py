"""Ten mistakes, deployed anyway: what is there stays, and going back needs no repair."""

from typing import Any

import pytest

from eventfleet.model.domain import Domain
from eventfleet.roles.append import AppendRole
from eventfleet.roles.build_choice import BUILDS_INTERVAL
from eventfleet.roles.build_parking import BuildParking
from eventfleet.roles.logged_parking import LoggedParking
from eventfleet.roles.parking import Parking
from eventfleet.roles.project import ProjectRole
from eventfleet.roles.relay import RelayRole
from eventfleet.roles.role import PartitionFault, Role
from eventfleet.roles.snapshot import SnapshotRole
from eventfleet.states.view_reader import ViewReader
from eventfleet.stores.contracts.dead_letters import ParkedQuery
from eventfleet.stores.errors import Misconfigured
from eventfleet.stores.memory.log import MemoryReader
from eventfleet.stores.parked_log import TopicParkedLog
from eventfleet.topics.topic_specs import TopicSpec
from tests.mistakes.parcels import ALL, HARMLESS, HEAVY, MISTAKES, before, story
from tests.simulation.in_memory_servers import InMemoryServers

ROUNDS = 12
"""With BUILDS_INTERVAL between two, longer than a new process waits before it tries again."""


class Deployment:
    """The roles of one version of the domain, in processes of their own."""

    def __init__(self, servers: InMemoryServers, domain: Domain[Any], **named: Any) -> None:
        self._servers, self._domain, self._domains = servers, domain, named
        self.faults: dict[str, Exception] = {}

    async def run(self) -> None:
        """Let each role do what there is to do, until a fault stops it."""
        roles = {name: self._role(name) for name in ("append", "snapshot", "relay", "project")}
        for name, role in roles.items():
            try:
                await role.open()
            except (PartitionFault, Misconfigured) as fault:
                self.faults[name] = fault
        for _ in range(ROUNDS):
            for name, role in roles.items():
                if name not in self.faults:
                    await self._work(name, role)
            self._servers.clock.time += BUILDS_INTERVAL

    async def _work(self, name: str, role: Role) -> None:
        source = "events" if name == "append" else "stored"
        records = self._servers.records(getattr(self._servers.topics, source))
        start = self._servers.offset(name) or 0
        try:
            if left := [record for record in records if record.offset >= start]:
                await role.process(left, left[-1].offset + 1)
            await role.tick()
        except PartitionFault as fault:
            self.faults[name] = fault

    def _role(self, name: str) -> Role:
        servers, domain = self._servers, self._domains.get(name, self._domain)
        events, stores, clock = servers.events, servers.stores, servers.clock
        writer = servers.writer(name)
        if name == "append":
            parking = servers.append_parking(tried=set())
            return AppendRole(domain, 0, events, writer, clock, parking, cached=10)
        place = domain.topics, name, 0, servers.dead_letters, clock
        tried: set[tuple[str, int]] = set()
        log = TopicParkedLog(domain.topics, MemoryReader(servers.log))
        if name == "relay":
            logged = LoggedParking(*place, log, tried=tried)
            return RelayRole(domain, 0, events, writer, logged, reader=MemoryReader(servers.log))
        if name == "snapshot":
            kept = Parking(*place, tried=tried)
            return SnapshotRole(domain, 0, stores, writer, kept, clock, cached=10, limit=1_000_000)
        by_build = BuildParking(*place, log, tried=tried)
        return ProjectRole(domain, 0, stores, writer, by_build, clock, partitions=1, cached=10)


class Fleet:
    """The servers, and what their users see."""

    def __init__(self) -> None:
        self.servers = InMemoryServers(before())
        self.servers.log.create(TopicSpec(ALL, 1, 1))

    async def deploy(self, domain: Domain[Any], **named: Domain[Any]) -> Deployment:
        """Deploy a domain; some roles may have another version of it."""
        deployment = Deployment(self.servers, domain, **named)
        await deployment.run()
        return deployment

    async def take(self, parcel: str, **versions: int) -> None:
        """Take a parcel from its registration to its delivery; some types may have new schemas."""
        for number, (kind, data) in enumerate(story(parcel)):
            named: dict[str, Any] = {"type": kind, "schema_version": versions.get(kind, 1)}
            event = self.servers.event(f"{parcel}-{number}", parcel, data=data, **named)
            await self.servers.emit(self.servers.topics.events, event)

    async def rows(self, domain: Domain[Any]) -> dict[str, list[Any]]:
        """The rows of all views and totals, as processes of a version read them."""
        views = ViewReader(domain, self.servers.views)
        tables = [table.name for view in domain.views for table in view.tables]
        return {name: sorted((await views.find(name)).rows, key=str) for name in tables}

    async def parked(self) -> list[tuple[str, str]]:
        found = await self.servers.dead_letters.find(ParkedQuery(), 100)
        logged = [await self.servers.logged(role) for role in ("relay", "project", "snapshot")]
        assert [e.aggregate_id for role in logged for e in role.parked] == [] or found
        return [(each.role, each.aggregate_id) for each in found]

    def relayed(self) -> list[str]:
        return [event.aggregate_id for event in self.servers.seen(HEAVY)]

    async def snapshots(self) -> dict[str, int]:
        found = await self.servers.snapshots.latest(["p-1", "p-2", "p-3"], before().state_shape)
        return {key: each.version for key, each in found.items()}


@pytest.fixture
async def fleet() -> Fleet:
    """A fleet that has taken two parcels."""
    fleet = Fleet()
    for parcel in ("p-1", "p-2"):
        await fleet.take(parcel)
    deployment = await fleet.deploy(before())
    assert (deployment.faults, await fleet.parked()) == ({}, [])
    return fleet


async def expected() -> tuple[dict[str, list[Any]], dict[str, int]]:
    """What a fleet without mistakes shows of three parcels."""
    fleet = Fleet()
    for parcel in ("p-1", "p-2", "p-3"):
        await fleet.take(parcel)
    await fleet.deploy(before())
    return await fleet.rows(before()), await fleet.snapshots()


@pytest.mark.parametrize("name", MISTAKES)
async def test_a_mistake_harms_what_it_runs_and_going_back_needs_no_repair(
    fleet: Fleet, name: str
) -> None:
    present = await fleet.rows(before())
    mistaken = await fleet.deploy(MISTAKES[name](before()))
    assert await fleet.rows(before()) == present
    await fleet.take("p-3")
    await fleet.deploy(MISTAKES[name](before()))
    kept = await fleet.rows(before())
    for table, rows in present.items():
        if table != "owners":  # of which each event changes the one row
            assert [row for row in kept[table] if row in rows] == rows
    assert mistaken.faults or await fleet.parked() or name == "view version lowered"
    back = await fleet.deploy(before())
    rows, snapshots = await expected()
    assert (back.faults, await fleet.parked()) == ({}, [])
    assert await fleet.rows(before()) == rows
    assert sorted(fleet.relayed()) == ["p-1", "p-2", "p-3"]
    assert await fleet.snapshots() == snapshots


@pytest.mark.parametrize("behind", ["append", "snapshot", "relay", "project"])
async def test_a_role_that_is_rolled_out_after_a_new_schema_gets_well_by_itself(
    fleet: Fleet, behind: str
) -> None:
    newer = HARMLESS["an upcaster"](before())
    await fleet.take("p-3", Weighed=2)
    await fleet.deploy(newer, **{behind: before()})
    assert await fleet.parked() == [(behind, "p-3")]
    [told] = await fleet.servers.dead_letters.find(ParkedQuery(), 100)
    assert "this process knows version 1 of Weighed, the event has 2: deploy" in told.reason
    deployment = await fleet.deploy(newer)
    rows, snapshots = await expected()
    assert (deployment.faults, await fleet.parked()) == ({}, [])
    assert await fleet.rows(newer) == rows
    assert sorted(fleet.relayed()) == ["p-1", "p-2", "p-3"]
    assert await fleet.snapshots() == snapshots


async def test_a_role_that_is_rolled_out_before_a_new_schema_parks_nothing(fleet: Fleet) -> None:
    newer = HARMLESS["an upcaster"](before())
    await fleet.deploy(newer)
    await fleet.take("p-3", Weighed=2)
    await fleet.deploy(newer)
    rows, snapshots = await expected()
    assert (await fleet.parked(), await fleet.rows(newer)) == ([], rows)
    assert await fleet.snapshots() == snapshots
