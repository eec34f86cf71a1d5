"""A State that changed its shape while its state version stayed, and the way back."""

from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from eventfleet.deciders.command_parser import parse_command
from eventfleet.deciders.commander import Commander
from eventfleet.deciders.event_publisher import EventPublisher
from eventfleet.deciders.manager import Manager
from eventfleet.deciders.outcomes import Accepted, Outcome, Rejected
from eventfleet.deciders.state_command import StateCommand
from eventfleet.model.command_rules import Decision, Rejection
from eventfleet.model.domain import Domain
from eventfleet.model.errors import DeclarationError
from eventfleet.model.payloads import Command, Event, State
from eventfleet.states.querier import Querier
from eventfleet.states.snapshot_saver import SnapshotSaver
from eventfleet.stores.memory.log import MemoryProducer
from eventfleet.topics.event import EventRecord
from tests.simulation.in_memory_servers import InMemoryServers

LIMIT = 500
serial = count(1)


class Load(Command):
    kilos: int


class Loaded(Event):
    kilos: int


class Truck(State):
    weight: int = 0


class RenamedTruck(State):
    kilos: int = 0


def evolve(truck: Truck, event: Loaded) -> Truck:
    return Truck(weight=truck.weight + event.kilos)


def evolve_renamed(truck: RenamedTruck, event: Loaded) -> RenamedTruck:
    return RenamedTruck(kilos=truck.kilos + event.kilos)


def decide(truck: Truck, command: Load) -> Decision:
    if truck.weight + command.kilos > LIMIT:
        return Rejection("too heavy")
    return Loaded(kilos=command.kilos)


def decide_renamed(truck: RenamedTruck, command: Load) -> Decision:
    return decide(Truck(weight=truck.kilos), command)


OLD = Domain("trucks", Truck, evolve, events=[Loaded], commands=[Load], decide=decide)
NEW = Domain(
    "trucks", RenamedTruck, evolve_renamed, events=[Loaded], commands=[Load], decide=decide_renamed
)


async def load(servers: InMemoryServers, domain: Domain[Any], kilos: int) -> Outcome:
    """Send a command to a process that has just started with this domain, and save the state."""
    querier = Querier(domain, servers.stores, servers.clock)
    saver = SnapshotSaver(domain, servers.snapshots, servers.clock, limit=1000)
    commander = Commander(servers.events, saver, partitions=1)
    publisher = EventPublisher(
        MemoryProducer(servers.log), domain.topics.events, servers.clock, partitions=1
    )
    manager = Manager(domain, querier, commander, publisher, servers.clock)
    outcomes: list[Outcome] = []
    async with manager.running():
        deadline = servers.clock.steady() + timedelta(seconds=10)
        await manager.decide([_request(domain, kilos)], deadline, lambda _, o: outcomes.append(o))
    return outcomes[0]


def _request(domain: Domain[Any], kilos: int) -> StateCommand:
    command = EventRecord(
        id=f"c{next(serial)}",
        type="Load",
        domain=domain.name,
        aggregate_id="a",
        time=InMemoryServers(domain).clock.now(),
        data={"kilos": kilos},
    )
    request = parse_command(domain, command)
    assert isinstance(request, StateCommand)
    return request


async def test_a_renamed_field_is_not_read_as_its_default() -> None:
    servers = InMemoryServers(OLD)
    assert isinstance(await load(servers, OLD, 300), Accepted)
    assert isinstance(await load(servers, NEW, 300), Rejected)
    assert isinstance(await load(servers, NEW, 100), Accepted)


async def test_the_old_code_restored_goes_on_with_its_own_snapshots() -> None:
    servers = InMemoryServers(OLD)
    await load(servers, OLD, 300)
    await load(servers, NEW, 50)
    saved = await servers.snapshots.latest(["a"], OLD.state_shape)
    assert (saved["a"].version, saved["a"].state) == (1, {"weight": 300})
    latest = await Querier(OLD, servers.stores, servers.clock).latest("a")
    assert latest is not None
    assert latest.state == Truck(weight=350)
    assert isinstance(await load(servers, OLD, 300), Rejected)


def test_a_state_that_no_snapshot_can_be_read_back_to_is_refused_by_name() -> None:
    class Either(State):
        either: Truck | RenamedTruck | None = None

    domain = Domain("either", Either, lambda state, _: state)
    with pytest.raises(DeclarationError, match="domain either: state Either can't be kept"):
        assert domain.state_shape
