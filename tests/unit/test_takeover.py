"""The take-over of a partition: where a role goes on from, and what it refuses."""

import pytest

from eventfleet.roles.role import UnusableOffset
from eventfleet.roles.takeover import RoleStart, take_over
from eventfleet.runtime.group_offsets import set_unusable_offsets
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.memory.log import MemoryAdmin, MemoryReader, MemoryTransactionalWriter
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
    return await take_over(memory.writer(ROLE), "set it")


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
    with pytest.raises(UnusableOffset, match=r"offset is 2, .* from 3 to 5 only: .* set it"):
        await taken_over(memory)


async def test_an_offset_beyond_the_end_is_refused(memory: InMemoryServers) -> None:
    del memory.log.entries(memory.topics.stored, 0)[1:]
    with pytest.raises(UnusableOffset, match=r"offset is 2, .* from 0 to 1: .* set it"):
        await taken_over(memory)


async def test_the_offset_is_read_behind_the_fence(memory: InMemoryServers) -> None:
    earlier = memory.writer(ROLE)
    await earlier.open()

    class Writer(MemoryTransactionalWriter):
        async def open(self) -> int | None:
            await earlier.commit([], 4)
            return await super().open()

    writer = Writer(memory.log, *memory.writer(ROLE).source)
    assert await take_over(writer, "set it") == 4


# Roles that begin at the oldest record


async def started(memory: InMemoryServers) -> int:
    start = RoleStart(memory.events.registry, "tally", ROLE, 0)
    return await start.take_over(memory.writer(ROLE))


async def test_a_role_begins_at_the_oldest_record_and_commits_that() -> None:
    memory = InMemoryServers(tally)
    for n in "123":
        await memory.append(n)
    memory.log.oldest[memory.topics.stored, 0] = 1
    assert await started(memory) == 1
    assert memory.offset(ROLE) == 1
    assert await started(memory) == 1


async def test_a_group_that_has_lost_its_offset_does_not_begin_anew(
    memory: InMemoryServers,
) -> None:
    assert await started(memory) == 2
    del memory.log.offsets[memory.writer(ROLE).source]
    for _ in range(2):
        with pytest.raises(UnusableOffset, match=r"lost its offset: .* set-offset tally relay"):
            await started(memory)
    assert memory.offset(ROLE) is None


async def test_where_the_log_was_made_anew_and_the_epoch_raised_a_role_begins_anew(
    memory: InMemoryServers,
) -> None:
    await started(memory)
    del memory.log.offsets[memory.writer(ROLE).source]
    await memory.events.registry.raise_epoch()
    assert await started(memory) == 0


async def test_a_slow_owner_does_not_take_its_successor_s_note_for_a_lost_offset() -> None:
    memory = InMemoryServers(tally)

    class Slow(MemoryTransactionalWriter):
        """Another owner begins, and takes over, after this one has looked at the notes."""

        async def open(self) -> int | None:
            await started(memory)
            return await super().open()

    start = RoleStart(memory.events.registry, "tally", ROLE, 0)
    writer = Slow(memory.log, *memory.writer(ROLE).source)
    assert await start.take_over(writer) == 0


async def test_a_death_between_the_first_offset_and_its_note_is_no_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = InMemoryServers(tally)

    async def die(*_: object) -> None:
        raise ServerUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(memory.events.registry, "note_begun", die)
        with pytest.raises(ServerUnavailable):
            await started(memory)
    assert memory.offset(ROLE) == 0
    assert await started(memory) == 0
    del memory.log.offsets[memory.writer(ROLE).source]
    with pytest.raises(UnusableOffset):
        await started(memory)


@pytest.mark.parametrize(("where", "offset"), [("earliest", 1), ("latest", 5)])
async def test_an_operator_sets_the_offset_that_was_lost(
    memory: InMemoryServers, where: str, offset: int
) -> None:
    await started(memory)
    memory.log.oldest[memory.topics.stored, 0] = 1
    group, topic, _ = memory.writer(ROLE).source
    reader, admin = MemoryReader(memory.log), MemoryAdmin(memory.log)
    assert await set_unusable_offsets(reader, admin, group, topic, where) == {}  # type: ignore[arg-type]
    del memory.log.offsets[group, topic, 0]
    found = await set_unusable_offsets(reader, admin, group, topic, where)  # type: ignore[arg-type]
    assert found == {0: offset}
    assert await started(memory) == offset
