"""The take-over of a partition: where a role goes on from, and what it refuses."""

import pytest

from eventfleet.roles.role import UnusableOffset
from eventfleet.roles.takeover import take_over
from eventfleet.stores.memory.log import MemoryTransactionalWriter
from eventfleet.stores.parked_aggregates import NoParkedAggregates
from tests.simulation.in_memory_servers import InMemoryServers
from tests.simulation.recording_domain import tally

ROLE = "relay"


@pytest.fixture
async def memory() -> InMemoryServers:
    """The servers, with five stored events of which the role has taken two."""
    memory = InMemoryServers(tally)
    for n in "12345":
        await memory.append(n)
    memory.log.offsets[memory.writer(ROLE).source] = 2
    return memory


async def taken_over(memory: InMemoryServers) -> int | None:
    return await take_over(memory.writer(ROLE), NoParkedAggregates(), 0)


async def test_a_role_goes_on_from_the_committed_offset(memory: InMemoryServers) -> None:
    memory.log.oldest[memory.topics.stored, 0] = 2
    assert await taken_over(memory) == 2


async def test_a_role_may_have_taken_all(memory: InMemoryServers) -> None:
    memory.log.offsets[memory.writer(ROLE).source] = 5
    assert await taken_over(memory) == 5


async def test_records_that_were_removed_unread_are_not_passed_over(
    memory: InMemoryServers,
) -> None:
    memory.log.oldest[memory.topics.stored, 0] = 3
    with pytest.raises(UnusableOffset, match=r"offset is 2, .* from 3 to 5 only: .* set-offset"):
        await taken_over(memory)


async def test_an_offset_beyond_the_end_is_refused(memory: InMemoryServers) -> None:
    del memory.log.entries(memory.topics.stored, 0)[1:]
    with pytest.raises(UnusableOffset, match=r"offset is 2, .* from 0 to 1: .* set-offset"):
        await taken_over(memory)


async def test_the_offset_is_read_behind_the_fence(memory: InMemoryServers) -> None:
    earlier = memory.writer(ROLE)
    await earlier.open()

    class Writer(MemoryTransactionalWriter):
        async def open(self) -> int | None:
            await earlier.commit([], 4)
            return await super().open()

    assert await take_over(Writer(*_log_and_source(memory)), NoParkedAggregates(), 0) == 4


def _log_and_source(memory: InMemoryServers) -> tuple[object, ...]:
    return memory.log, *memory.writer(ROLE).source
