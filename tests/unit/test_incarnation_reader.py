"""Whether a domain began in the present incarnation of Redis, as its reader finds out."""

from typing import Any

import pytest

from eventfleet.deciders.incarnation_reader import IncarnationReader
from eventfleet.stores.contracts import UNKNOWN_INCARNATION
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import MemoryLog, MemoryReader
from eventfleet.stores.memory.markers import MemoryMarkers, MemoryRedis
from eventfleet.topics.names import Topics
from eventfleet.topics.record import ProducerRecord
from eventfleet.topics.topic_specs import declare_topics
from tests.contract.samples import event
from tests.unit.marker_fixture import TERMS, Failing

DOMAIN = "orders"


class Servers:
    """A log of two partitions, a store and a Redis, and readers of its incarnation."""

    def __init__(self) -> None:
        self.log, self.events = MemoryLog(), MemoryEvents()
        for spec in declare_topics(Topics.of(DOMAIN, ""), 2, 1, -1):
            self.log.create(spec)
        self.redis = MemoryRedis(lambda: 1000.0)
        self.registry = Failing(self.events.registry)
        self.markers = Failing(MemoryMarkers(self.redis, DOMAIN, TERMS))

    def reader(self) -> IncarnationReader:
        log: Any = MemoryReader(self.log), "orders.events"
        servers: Any = self.markers, self.registry, *log, self.events
        return IncarnationReader(*servers)

    def produce(self) -> None:
        self.log.append(ProducerRecord("orders.events", b"k", b"v", 1))


async def test_where_nothing_was_ever_produced_the_present_incarnation_is_the_first() -> None:
    servers = Servers()
    reader = servers.reader()
    assert (await reader.read()).is_first
    servers.produce()
    assert (await servers.reader().read()).is_first
    servers.redis.flush()
    assert not (await reader.read()).is_first
    assert not (await servers.reader().read()).is_first


@pytest.mark.parametrize("place", ["the log", "the store"])
async def test_where_something_was_there_before_no_incarnation_is_the_first(place: str) -> None:
    servers = Servers()
    if place == "the log":
        servers.produce()
    else:
        await servers.events.put([event("a", 1)], 0)
    assert not (await servers.reader().read()).is_first
    assert await servers.events.registry.first_incarnation() == UNKNOWN_INCARNATION


async def test_an_unknown_topic_is_not_taken_for_an_empty_one() -> None:
    servers = Servers()
    servers.log = MemoryLog()
    assert not (await servers.reader().read()).is_first


async def test_of_two_readers_the_one_that_registers_first_is_believed() -> None:
    servers = Servers()
    register = servers.registry._inner.register_first_incarnation

    async def come_second(own: str) -> str:
        await register("another")
        registered: str = await register(own)
        return registered

    servers.registry._inner.register_first_incarnation = come_second
    assert not (await servers.reader().read()).is_first


async def test_nothing_is_returned_before_the_registry_names_an_incarnation() -> None:
    servers = Servers()
    servers.registry.before["register_first_incarnation"] = 1
    reader = servers.reader()
    with pytest.raises(ServerUnavailable):
        await reader.read()
    assert (await reader.read()).is_first


async def test_the_registry_is_read_again_when_that_is_wanted() -> None:
    servers = Servers()
    reader = servers.reader()
    await reader.read()
    await servers.events.registry.raise_epoch()
    assert (await reader.read()).is_first
    await reader.find_first(anew=True)
    assert not (await reader.read()).is_first
