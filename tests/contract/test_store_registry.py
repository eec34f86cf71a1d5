"""The facts that an event store holds about itself: epoch, append's offsets, repairs."""

import asyncio
from datetime import timedelta

import pytest

from eventfleet.model.event_shapes import EventShape
from eventfleet.stores.contracts import (
    UNKNOWN_INCARNATION,
    EventStore,
    OffsetNote,
    OffsetRange,
    RegistryFacts,
    Repair,
    RepairKind,
    StoreRegistry,
)
from eventfleet.stores.errors import Misconfigured
from tests.contract.conftest import OpenStores
from tests.contract.samples import TIME, at


@pytest.fixture
def registry(store: EventStore) -> StoreRegistry:
    return store.registry


async def test_the_epoch_is_zero_until_raised(registry: StoreRegistry, opening: OpenStores) -> None:
    assert await registry.epoch() == 0
    assert await registry.raise_epoch() == 1
    assert await registry.raise_epoch() == 2
    async with opening() as other:
        assert await other.events.registry.epoch() == 2


async def test_the_incarnation_is_one_for_all_and_another_in_each_epoch(
    registry: StoreRegistry, opening: OpenStores
) -> None:
    async def seen() -> str:
        async with opening() as other:
            return await other.events.registry.incarnation()

    first = await asyncio.gather(*(seen() for _ in range(4)))
    assert {*first} == {await registry.incarnation()}
    await registry.raise_epoch()
    second = await registry.incarnation()
    assert second == await seen()
    assert second not in first


async def test_the_partition_count_is_registered_once_in_an_epoch(
    registry: StoreRegistry, opening: OpenStores
) -> None:
    assert await registry.partition_count() is None
    assert await registry.register_partition_count(4) == 4
    async with opening() as other:
        assert await other.events.registry.register_partition_count(6) == 4
        assert await other.events.registry.partition_count() == 4
    await registry.raise_epoch()
    assert await registry.partition_count() is None
    assert await registry.register_partition_count(6) == 6
    assert await registry.partition_count() == 6


async def test_all_partition_counts_are_kept(registry: StoreRegistry, opening: OpenStores) -> None:
    assert await registry.partition_counts() == set()
    for count in (4, 4, 6):
        await registry.register_partition_count(count)
        await registry.register_partition_count(8)  # not in this epoch
        await registry.raise_epoch()
    async with opening() as other:
        assert await other.events.registry.partition_counts() == {4, 6}


async def test_the_first_incarnation_is_registered_once(
    registry: StoreRegistry, opening: OpenStores
) -> None:
    assert await registry.first_incarnation() == ""

    async def register(number: int) -> str:
        async with opening() as other:
            return await other.events.registry.register_first_incarnation(f"run-{number}")

    (first,) = {*await asyncio.gather(*map(register, range(5)))}
    assert await registry.register_first_incarnation("another") == first
    assert await registry.first_incarnation() == first
    assert await registry.facts() == RegistryFacts()


@pytest.mark.parametrize("registered", [True, False])
@pytest.mark.parametrize("repair", ["raised epoch", "rewind", "restore", "recovery"])
async def test_after_a_repair_no_incarnation_is_the_first(
    registry: StoreRegistry, repair: str, registered: bool
) -> None:
    if registered:
        await registry.register_first_incarnation("run-1")
    match repair:
        case "raised epoch":
            await registry.raise_epoch()
        case "rewind":
            await registry.rewind([OffsetRange(0, 3, 9)], TIME)
        case "restore":
            await registry.record_restore([OffsetRange(0, 0, 9)], TIME)
        case _:
            await registry.recover(RegistryFacts())
    assert await registry.register_first_incarnation("run-2") == UNKNOWN_INCARNATION


async def test_the_next_offset_is_kept_for_each_partition(
    registry: StoreRegistry, opening: OpenStores
) -> None:
    assert await registry.next_offset(3) == 0
    await registry.note_next_offset(3, 0, 70)
    await registry.note_next_offset(3, 0, 2**40)
    async with opening() as other:
        assert await other.events.registry.next_offset(3) == 2**40
        assert await other.events.registry.next_offset(2) == 0


async def test_a_role_has_begun_once_that_is_noted(
    registry: StoreRegistry, opening: OpenStores
) -> None:
    assert not await registry.has_begun("relay", 0)
    for _ in range(2):
        await registry.note_begun("relay", 0)
    await registry.note_begun("command", 11)
    async with opening() as other:
        begun = other.events.registry
        assert await begun.has_begun("relay", 0)
        assert await begun.has_begun("command", 11)
        assert not await begun.has_begun("relay", 1)
        assert not await begun.has_begun("command", 1)
        assert not await begun.has_begun("snapshot", 0)


async def test_the_last_noted_owner_of_a_partition_is_its_owner(
    registry: StoreRegistry, opening: OpenStores
) -> None:
    assert await registry.owner("command", 0) == ""
    assert await registry.note_owner("command", 0, "first") == ""
    assert await registry.note_owner("command", 11, "other") == ""
    assert await registry.note_owner("command", 0, "second") == "first"
    async with opening() as other:
        noted = other.events.registry
        owners = [await noted.owner("command", partition) for partition in (0, 1, 11)]
    assert owners == ["second", "", "other"]
    assert await registry.owner("relay", 0) == ""


async def test_in_another_epoch_no_role_has_begun(registry: StoreRegistry) -> None:
    await registry.note_begun("relay", 0)
    await registry.raise_epoch()
    assert not await registry.has_begun("relay", 0)
    await registry.note_begun("relay", 0)
    assert await registry.has_begun("relay", 0)


async def test_a_lower_offset_changes_nothing(registry: StoreRegistry) -> None:
    await registry.note_next_offset(0, 0, 70)
    await registry.note_next_offset(0, 0, 69)
    assert await registry.next_offset(0) == 70


async def test_another_epoch_begins_without_offsets(registry: StoreRegistry) -> None:
    await registry.note_next_offset(0, 0, 70)
    await registry.raise_epoch()
    assert await registry.next_offset(0) == 0
    await registry.note_next_offset(0, 1, 5)
    assert await registry.next_offset(0) == 5
    with pytest.raises(Misconfigured, match="epoch 1"):
        await registry.note_next_offset(0, 0, 71)
    assert await registry.next_offset(0) == 5


async def test_a_rewind_sets_offsets_back_in_a_new_epoch(registry: StoreRegistry) -> None:
    for partition in (0, 1, 2):
        await registry.note_next_offset(partition, 0, 100 + partition)
    ranges = [OffsetRange(0, 40, 100), OffsetRange(3, 0, 9)]
    assert await registry.rewind(ranges, TIME) == 1
    assert await registry.epoch() == 1
    assert [await registry.next_offset(partition) for partition in range(4)] == [40, 101, 102, 0]
    await registry.note_next_offset(0, 1, 41)
    assert await registry.next_offset(0) == 41
    with pytest.raises(Misconfigured, match="epoch 1"):
        await registry.note_next_offset(2, 0, 200)


async def test_repairs_are_recorded_in_their_order(
    registry: StoreRegistry, opening: OpenStores
) -> None:
    assert await registry.repairs() == []
    first, second, third = OffsetRange(0, 40, 100), OffsetRange(1, 0, 7), OffsetRange(2, 0, 50)
    later = TIME + timedelta(days=1)
    await registry.rewind([first, second], TIME)
    await registry.record_restore([third], later)
    assert await registry.next_offset(2) == 50
    async with opening() as other:
        assert await other.events.registry.repairs() == [
            Repair(RepairKind.REWIND, 1, first, TIME),
            Repair(RepairKind.REWIND, 1, second, TIME),
            Repair(RepairKind.RESTORE, 1, third, later),
        ]


def test_a_rewind_voids_what_was_emitted_for_its_offsets() -> None:
    rewind = Repair(RepairKind.REWIND, 2, OffsetRange(1, 40, 100), TIME)
    assert rewind.voids(at(40, 1, epoch=1))
    assert rewind.voids(at(99, 1, epoch=0))
    for position in (at(39, 1, 1), at(100, 1, 1), at(40, 0, 1), at(40, 1, 2)):
        assert not rewind.voids(position)
    restore = Repair(RepairKind.RESTORE, 2, OffsetRange(1, 40, 100), TIME)
    assert not restore.voids(at(40, 1, epoch=1))


async def test_shapes_of_events_are_replaced_by_who_knows_them(
    registry: StoreRegistry, opening: OpenStores
) -> None:
    first, second = EventShape("Placed", 1, '{"a.b": "$"}'), EventShape("Placed", 2, "{}")
    assert await registry.event_shapes() == []
    assert await registry.replace_event_shapes([], [first])
    async with opening() as other:
        theirs = other.events.registry
        assert not await theirs.replace_event_shapes([], [second])
        assert await theirs.event_shapes() == [first]
        assert await theirs.replace_event_shapes([first], [first, second])
    assert not await registry.replace_event_shapes([first], [second])
    assert await registry.event_shapes() == [first, second]
    assert await registry.epoch() == 0


async def test_of_shapes_recorded_at_the_same_time_one_set_wins(
    registry: StoreRegistry, opening: OpenStores
) -> None:
    async def record(number: int) -> bool:
        async with opening() as other:
            shape = EventShape("Placed", number, "{}")
            return await other.events.registry.replace_event_shapes([], [shape])

    assert sum(await asyncio.gather(*map(record, range(5)))) == 1
    assert len(await registry.event_shapes()) == 1


async def test_the_declaration_of_the_worker_that_started_last_is_its_roles(
    registry: StoreRegistry, opening: OpenStores
) -> None:
    assert await registry.declarations() == {}
    old, new = [EventShape("a.b", 1, "0")], [EventShape("a.b", 2, "1"), EventShape("c", 1, "2")]
    await registry.note_declaration(["append", "relay"], old)
    async with opening() as other:
        await other.events.registry.note_declaration(["append"], new)
    assert await registry.declarations() == {"append": new, "relay": old}
    assert await registry.event_shapes() == []


async def test_the_last_note_is_kept_when_the_epoch_is_raised(registry: StoreRegistry) -> None:
    assert await registry.last_note(0) is None
    await registry.note_next_offset(0, 0, 70)
    await registry.raise_epoch()
    assert await registry.next_offset(0) == 0
    assert await registry.last_note(0) == OffsetNote(0, 70)


SHAPES = [EventShape("Placed", 1, "{}"), EventShape("Paid", 1, "{}")]


REWIND = Repair(RepairKind.REWIND, 1, OffsetRange(0, 3, 9), TIME)
FACTS = RegistryFacts(1, 4, (*SHAPES,), (("relay", 1),), (REWIND,))


async def test_the_facts_are_what_was_noted(registry: StoreRegistry) -> None:
    assert await registry.facts() == RegistryFacts()
    await registry.rewind([REWIND.offsets], TIME)
    await registry.register_partition_count(4)
    await registry.replace_event_shapes([], SHAPES)
    await registry.note_begun("relay", 1)
    assert await registry.facts() == FACTS


async def test_a_new_registry_recovers_the_facts_of_a_lost_one(
    registry: StoreRegistry, opening: OpenStores
) -> None:
    for _ in range(2):
        await registry.recover(FACTS)
    async with opening() as other:
        recovered = other.events.registry
        assert await recovered.facts() == FACTS
        assert (await recovered.epoch(), await recovered.partition_count()) == (1, 4)
        assert await recovered.event_shapes() == SHAPES
        assert await recovered.has_begun("relay", 1)
        assert await recovered.repairs() == [REWIND]


async def test_an_older_copy_gets_what_it_lacks_and_a_newer_one_loses_nothing(
    registry: StoreRegistry,
) -> None:
    await registry.replace_event_shapes([], SHAPES[:1])
    await registry.rewind([OffsetRange(0, 3, 9)], TIME)
    await registry.note_begun("relay", 1)
    older = await registry.facts()
    later = older._replace(epoch=2, event_shapes=(*SHAPES,), begun=(("project", 0),))
    await registry.recover(later)
    assert await registry.facts() == later
    await registry.recover(older)
    assert await registry.facts() == later
