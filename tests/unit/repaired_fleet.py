"""A fleet in memory whose store is repaired."""

from typing import Any

import pytest

from eventfleet.model.domain import Domain
from eventfleet.roles.append import AppendRole
from eventfleet.roles.repair import RepairContext
from eventfleet.stores.contracts import (
    DomainStores,
)
from eventfleet.stores.memory.log import (
    MemoryAdmin,
    MemoryProducer,
    MemoryReader,
    MemoryTransactionalWriter,
)
from eventfleet.stores.memory.views import MemoryViews
from eventfleet.topics.names import consumer_group
from tests.simulation.in_memory_servers import InMemoryServers, take
from tests.simulation.recording_domain import tally

PREFIX = "fleet"


class Fleet(InMemoryServers):
    """One domain's servers, and the append role over them."""

    def __init__(self, domain: Domain[Any] = tally) -> None:
        super().__init__(domain)
        self.views = MemoryViews()
        self.group = consumer_group(PREFIX, domain.name, "append")

    @property
    def context(self) -> RepairContext:
        return RepairContext(
            self.domain,
            DomainStores(self.events, self.snapshots, self.views, self.dead_letters),
            MemoryReader(self.log),
            *(MemoryAdmin(self.log), self.clock, PREFIX),
            writers={0: self.writer("append")},
            producer=MemoryProducer(self.log),
        )

    def writer(self, role: str) -> MemoryTransactionalWriter:
        return MemoryTransactionalWriter(self.log, self.group, self.topics.events, 0)

    async def run_append(self) -> None:
        """Take all records behind the group's offset, as one chunk."""
        append = AppendRole(
            *(self.domain, 0, self.events, self.writer("append")),
            *(self.clock, self.append_parking()),
            cached=100,
        )
        offset = await append.open()
        if records := self.records(self.topics.events)[offset:]:
            await take(append, records)

    async def send(self, *names: str) -> None:
        await self.emit(self.topics.events, *(self.event(name) for name in names))

    def emitted(self) -> list[tuple[str, int, str | None]]:
        return [(e.id, e.version, e.position) for e in self.seen(self.topics.stored)]

    async def stored(self) -> list[tuple[str, int, str | None]]:
        return [(e.id, e.version, e.position) for e in await self.history()]


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


async def filled(fleet: Fleet, *names: str) -> None:
    await fleet.send(*names)
    await fleet.run_append()
