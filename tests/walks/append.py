"""Print the walk of the first event that append places: python -m tests.walks.append."""

import asyncio

from eventfleet.domains.process_log import process_log
from eventfleet.roles.append import AppendRole
from tests.simulation.in_memory_servers import InMemoryServers
from tests.walks.walk import Walk


async def take_walk() -> Walk:
    """Process a chunk of one record."""
    memory = InMemoryServers(process_log)
    role = AppendRole(
        *(process_log, 0, memory.events, memory.writer("append"), memory.clock),
        memory.append_parking(),
        cached=100,
    )
    offset = await role.open()
    await memory.emit(memory.topics.events, memory.event("1"))
    records = memory.records(memory.topics.events)
    walk = Walk()
    report = await walk.during(lambda: role.process(records, offset + 1))
    assert report.stored == 1, report
    return walk


if __name__ == "__main__":
    print(asyncio.run(take_walk()))
