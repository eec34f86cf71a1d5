"""A caller of the in-memory stores may end at any yield point: this is done by then."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from eventfleet.model.views import ViewShape
from eventfleet.stores.contracts import (
    AssignPosition,
    OffsetRange,
    RegistryFacts,
    Snapshot,
    TailQuery,
    VersionRange,
)
from eventfleet.stores.contracts.views import BuildProgress, RowQuery, StoredRow
from eventfleet.stores.cursors import FeedPoint
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.stores.memory.views import MemoryRows, MemoryViews
from tests.contract.samples import TIME, at, event, ids, key, stream


class Crash(BaseException):
    """The caller is gone."""


class Ending:
    """A yield point that lets `steps` pass and ends the caller at the next."""

    def __init__(self) -> None:
        self.steps = 1_000_000

    async def __call__(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise Crash


async def crashed_at(ending: Ending, steps: int, call: Callable[[], Awaitable[Any]]) -> None:
    ending.steps = steps
    with pytest.raises(Crash):
        await call()
    ending.steps = 1_000_000


@pytest.mark.parametrize("steps", range(4))
async def test_rows_may_be_saved_in_part_and_unanswered(steps: int) -> None:
    ending = Ending()
    store = MemoryRows(ending)
    rows = [StoredRow(id, {}, FeedPoint(0, 0, 1, 1), TIME) for id in "abc"]
    await crashed_at(ending, steps, lambda: store.save(rows))
    assert [each.id for each in await store.find(RowQuery(), 9)] == [*"abc"][:steps]


@pytest.mark.parametrize("steps", range(2))
async def test_builds_are_changed_or_not_when_the_answer_is_lost(steps: int) -> None:
    ending = Ending()
    views = MemoryViews(ending)
    shape, nothing, ready = ViewShape(1, "one"), BuildProgress(), BuildProgress(True)
    await crashed_at(ending, steps, lambda: views.begin("a", ["a"], shape, 0))
    assert await views.begin("a", ["a"], shape, 0) == (steps == 0)
    await crashed_at(ending, steps, lambda: views.note_progress("a", 1, 0, nothing, ready))
    assert await views.note_progress("a", 1, 0, nothing, ready) == (steps == 0)
    await crashed_at(ending, steps, lambda: views.make_live("a", 1, 1))
    assert await views.make_live("a", 1, 1) == (steps == 0)


@pytest.mark.parametrize("steps", range(4))
async def test_a_write_may_end_before_each_of_its_parts_and_unanswered(steps: int) -> None:
    ending = Ending()
    store = MemoryEvents(1, ending)
    await store.put([event("s1", 1)], 0)
    writes = [event("a1", 1, at(0)), AssignPosition(event("s1", 1), at(1)), event("a1", 2, at(2))]
    await crashed_at(ending, steps, lambda: store.write(writes))
    done = ["a1-1"][:steps] + ["a1-2"][: max(0, steps - 2)]
    assert await ids(store.read("a1")) == done
    assert (await store.heads(["s1"]))["s1"].placed == (steps >= 2)


@pytest.mark.parametrize(("steps", "stored"), [(0, 0), (1, 3)])
async def test_a_put_may_end_before_or_after_it_but_never_within(steps: int, stored: int) -> None:
    ending = Ending()
    store = MemoryEvents(1, ending)
    events = [event("s1", v) for v in (1, 2, 3)]
    await crashed_at(ending, steps, lambda: store.put(events, 0))
    assert await store.count() == stored


@pytest.mark.parametrize("steps", range(3))
async def test_a_save_may_end_between_snapshots_and_unanswered(steps: int) -> None:
    ending = Ending()
    store = MemorySnapshots(3, ending)
    snapshots = [Snapshot(f"a{n}", 1, {}, 1, TIME) for n in (1, 2)]
    await crashed_at(ending, steps, lambda: store.save(snapshots))
    assert await store.count() == steps


READS: dict[str, Callable[[MemoryEvents], Awaitable[Any]]] = {
    "prepare": lambda s: s.prepare(),
    "find": lambda s: s.find([key("a1", 1)]),
    "tails": lambda s: s.tails([TailQuery("a1", 0, "a1-1")], 9),
    "heads": lambda s: s.heads(["a1"]),
    "unplaced": lambda s: s.unplaced([VersionRange("a1", 0, 9)]),
    "placed_at": lambda s: s.placed_at([at(0)]),
    "sweep": lambda s: s.sweep(0, 9),
    "read": lambda s: ids(s.read("a1")),
    "feed": lambda s: s.feed("", 9),
    "aggregates": lambda s: s.aggregates("", 9),
    "count": lambda s: s.count(),
    "epoch": lambda s: s.registry.epoch(),
    "incarnation": lambda s: s.registry.incarnation(),
    "raise_epoch": lambda s: s.registry.raise_epoch(),
    "partition_counts": lambda s: s.registry.partition_counts(),
    "next_offset": lambda s: s.registry.next_offset(0),
    "note_next_offset": lambda s: s.registry.note_next_offset(0, 0, 1),
    "rewind": lambda s: s.registry.rewind([OffsetRange(0, 0, 1)], TIME),
    "record_restore": lambda s: s.registry.record_restore([OffsetRange(0, 0, 1)], TIME),
    "has_begun": lambda s: s.registry.has_begun("relay", 0),
    "note_begun": lambda s: s.registry.note_begun("relay", 0),
    "owner": lambda s: s.registry.owner("command", 0),
    "note_owner": lambda s: s.registry.note_owner("command", 0, "me"),
    "repairs": lambda s: s.registry.repairs(),
    "last_note": lambda s: s.registry.last_note(0),
    "facts": lambda s: s.registry.facts(),
    "recover": lambda s: s.registry.recover(RegistryFacts(1)),
    "newest_epoch": lambda s: s.newest_epoch(),
    "last_placed": lambda s: s.last_placed(0),
}


@pytest.mark.parametrize("operation", READS.values(), ids=READS)
async def test_every_operation_starts_with_a_yield_point(
    operation: Callable[[MemoryEvents], Awaitable[Any]],
) -> None:
    ending = Ending()
    store = MemoryEvents(1, ending)
    await store.write(stream("a1", 2))
    await crashed_at(ending, 0, lambda: operation(store))
    assert (await store.registry.epoch(), await store.registry.next_offset(0)) == (0, 0)
