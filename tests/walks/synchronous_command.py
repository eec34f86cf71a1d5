"""Print the walk of the first synchronous command: python -m tests.walks.synchronous_command."""

import asyncio

from eventfleet.deciders.commander import Commander
from eventfleet.deciders.event_publisher import EventPublisher
from eventfleet.deciders.manager import Manager
from eventfleet.deciders.outcomes import Accepted
from eventfleet.domains.bank import Open, bank
from eventfleet.service.event_service import EventService
from eventfleet.states.lru_cache import LruCache
from eventfleet.states.querier import Querier
from eventfleet.states.snapshot_saver import SnapshotSaver
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import DomainStores
from eventfleet.stores.ids import Uuid7Generator
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import MemoryLog, MemoryProducer
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.topics.topic_specs import declare_topics
from tests.walks.walk import Walk


async def take_walk() -> Walk:
    """Send the first command of a process. Snapshots, which follow the answer, are not saved."""
    log, clock = MemoryLog(), SystemClock()
    for spec in declare_topics(bank.topics, 1, 1, -1):
        log.create(spec)
    stores = DomainStores(MemoryEvents(domain=bank.name), MemorySnapshots())
    querier = Querier(bank, stores, clock, cache=LruCache(100))
    saver = SnapshotSaver(bank, stores.snapshots, clock, limit=1_000_000)
    commander = Commander(stores.events, saver, partitions=1)
    publisher = EventPublisher(MemoryProducer(log), bank.topics.events, clock, partitions=1)
    manager = Manager(bank, querier, commander, publisher, clock)
    service = EventService(bank, manager, querier, clock, Uuid7Generator())
    async with service:
        walk = Walk()
        outcome = await walk.during(lambda: service.send("ann", Open(owner="Ann", currency="EUR")))
        assert isinstance(outcome, Accepted), outcome
    return walk


if __name__ == "__main__":
    print(asyncio.run(take_walk()))
