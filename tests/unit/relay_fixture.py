"""Relay roles with what they need, for unit tests."""

from typing import Any

from eventfleet.model.declaration import Route
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Event
from eventfleet.roles.relay import RelayRole
from eventfleet.stores.contracts.dead_letters import ParkedQuery
from eventfleet.topics.event import EventRecord
from eventfleet.topics.parked import Discard
from tests.simulation.in_memory_servers import InMemoryServers, take
from tests.simulation.recording_domain import Counted, Tally, evolve


class Closed(Event):
    n: str


def lifted(data: dict[str, Any]) -> dict[str, Any]:
    return data | {"loud": True}


def a_domain(*routes: Route, **named: Any) -> Domain[Tally]:
    wanted: dict[str, Any] = {"state": Tally, "evolve": evolve, "events": [Counted, Closed]}
    wanted["upcasters"] = {Counted: [lifted]}
    return Domain("tally", routes=routes, **(wanted | named))


async def opened(memory: InMemoryServers) -> RelayRole:
    relay = RelayRole(
        memory.domain, 0, memory.events, memory.writer("relay"), memory.logged_parking("relay")
    )
    await relay.open()
    return relay


class Team:
    """A team whose route raises on some events, until it is mended."""

    def __init__(self, *poison: str) -> None:
        self.poison = {*poison}
        self.domain = a_domain(Route("all", when=self._wants), upcasters={})

    def _wants(self, event: EventRecord) -> bool:
        if event.id in self.poison:
            raise LookupError("nowhere")
        return True


async def parked_at(memory: InMemoryServers) -> list[tuple[str, int, int, int]]:
    found = await memory.dead_letters.find(ParkedQuery(), 10)
    return [(each.aggregate_id, each.first, each.last, each.attempts) for each in found]


async def ask(memory: InMemoryServers, discard: bool = False, limit: int = 10) -> None:
    for each in await memory.dead_letters.find(ParkedQuery(), limit):
        why = Discard("a mistake", "ann", memory.clock.now()) if discard else None
        assert await memory.dead_letters.request(each, why)


async def a_parking_relay(*poison: str) -> tuple[Team, InMemoryServers, RelayRole]:
    """A relay that has taken five events, of two aggregates, of which some are poison."""
    team = Team(*poison)
    memory = InMemoryServers(team.domain)
    relay = await opened(memory)
    for n, key in (("1", "a"), ("2", "a"), ("3", "b"), ("4", "a"), ("5", "b")):
        await memory.append(n, key)
    await take(relay, memory.records(memory.topics.stored))
    return team, memory, relay
