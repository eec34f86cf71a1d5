"""A store that its group did not fill goes on after a rewind, or a restore."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from eventfleet.audit import Auditor, AuditReport
from eventfleet.model.views import Row, View
from eventfleet.roles.restore import restore
from eventfleet.roles.rewind import rewind
from eventfleet.stores.contracts import (
    OffsetRange,
    RepairKind,
    Snapshot,
)
from eventfleet.stores.contracts.views import BuildProgress, ViewBuild, ViewBuilds
from eventfleet.stores.cursors import FeedPoint
from eventfleet.stores.errors import Misconfigured
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.topics.event import Position
from tests.simulation.recording_domain import sync_tally, tally
from tests.unit.repaired_fleet import PREFIX, Fleet, filled
from tests.unit.repaired_fleet import fleet as fleet

# Rewind


async def test_events_that_went_into_a_wrong_database_are_appended_and_emitted(
    fleet: Fleet,
) -> None:
    await filled(fleet, "1", "2")
    right, fleet.events = fleet.events, MemoryEvents()
    await fleet.events.registry.note_next_offset(0, 0, 2)  # a worker that did not look
    await filled(fleet, "3", "4")
    fleet.events = right
    with pytest.raises(Misconfigured, match="eventfleet rewind tally"):
        await fleet.run_append()
    assert await rewind(fleet.context) == [OffsetRange(0, 2, 4)]
    await fleet.run_append()
    assert await fleet.stored() == [
        ("1", 1, "0-0-0"),
        ("2", 2, "0-0-1"),
        ("3", 3, "1-0-2"),
        ("4", 4, "1-0-3"),
    ]
    assert fleet.emitted()[2:] == [
        ("3", 1, "0-0-2"),
        ("4", 2, "0-0-3"),
        ("3", 3, "1-0-2"),
        ("4", 4, "1-0-3"),
    ]
    (repair,) = await fleet.events.registry.repairs()
    voided = [Position.parse(position or "") for _, _, position in fleet.emitted()]
    assert [repair.voids(position) for position in voided] == [False] * 2 + [True] * 2 + [False] * 2


async def test_a_rewound_chunk_emits_no_more_than_it_inserts(fleet: Fleet) -> None:
    await filled(fleet, "1", "2", "3")
    before = fleet.emitted()
    assert await rewind(fleet.context, {0: 1}) == [OffsetRange(0, 1, 3)]
    await filled(fleet, "4")
    assert fleet.emitted() == [*before, ("4", 4, "1-0-3")]


async def test_an_owner_that_dies_in_a_rewound_chunk_leaves_nothing_unemitted(
    fleet: Fleet,
) -> None:
    await filled(fleet, "1")
    await fleet.send("2")
    older = deepcopy(fleet.events)
    await fleet.run_append()
    fleet.events = older
    await rewind(fleet.context)
    emitted = fleet.emitted()
    await fleet.events.write([fleet.event("2", version=2, position="1-0-1")])
    await fleet.run_append()
    assert fleet.emitted() == [*emitted, ("2", 2, "1-0-1")]


async def test_a_rewind_that_was_cut_off_is_repeated(fleet: Fleet) -> None:
    await filled(fleet, "1")
    older = deepcopy(fleet.events)
    await filled(fleet, "2")
    fleet.events = older
    await fleet.events.registry.rewind([OffsetRange(0, 1, 2)], fleet.clock.now())
    with pytest.raises(Misconfigured, match="up to offset 2, but this store only up to 1"):
        await fleet.run_append()
    assert await rewind(fleet.context) == [OffsetRange(0, 1, 2)]
    await fleet.run_append()
    assert await fleet.stored() == [("1", 1, "0-0-0"), ("2", 2, "2-0-1")]


async def test_a_group_that_lost_its_offset_goes_on_where_the_store_is(fleet: Fleet) -> None:
    await filled(fleet, "1", "2")
    fleet.log.offsets.clear()
    with pytest.raises(Misconfigured, match=r"has no offset.* eventfleet rewind"):
        await fleet.run_append()
    assert await rewind(fleet.context) == [OffsetRange(0, 2, 2)]
    emitted = fleet.emitted()
    await filled(fleet, "3")
    assert fleet.emitted() == [*emitted, ("3", 3, "1-0-2")]


async def test_a_rewind_removes_snapshots(fleet: Fleet) -> None:
    await filled(fleet, "1")
    shot = Snapshot("a", 9, {}, tally.state_version, fleet.clock.now())
    await fleet.snapshots.save([shot])
    await rewind(fleet.context, {0: 0})
    assert await fleet.snapshots.count() == 0


async def test_nothing_is_rewound_where_the_store_is_as_far_as_the_group(fleet: Fleet) -> None:
    await filled(fleet, "1")
    assert await rewind(fleet.context) == []
    assert await fleet.events.registry.repairs() == []


async def test_a_log_that_was_truncated_is_taken_from_its_oldest_record(fleet: Fleet) -> None:
    await filled(fleet, "1", "2")
    fleet.log.entries(fleet.topics.events, 0).clear()
    assert await rewind(fleet.context) == [OffsetRange(0, 0, 2)]
    emitted = fleet.emitted()
    await filled(fleet, "2", "3")
    assert fleet.emitted() == [*emitted, ("3", 3, "1-0-1")]


@pytest.mark.parametrize(
    ("first", "reason"),
    [({0: 9}, "can't rewind to offset 9; .* 0 to 2, .* is at 2"), ({7: 0}, "no partition 7")],
)
async def test_an_offset_that_is_not_there(
    fleet: Fleet, first: dict[int, int], reason: str
) -> None:
    await filled(fleet, "1", "2")
    with pytest.raises(Misconfigured, match=reason):
        await rewind(fleet.context, first)
    assert await fleet.events.registry.epoch() == 0


async def test_a_synchronous_domain_is_restored_instead() -> None:
    with pytest.raises(Misconfigured, match=r"synchronous: .* eventfleet restore tally"):
        await rewind(Fleet(sync_tally).context)


# Views


def with_view(fleet: Fleet) -> View[Any]:
    view = View("trails", row=Trail, project=lambda row, event: Trail(length=event.version))
    fleet.domain = replace(fleet.domain, views=[view])
    return view


class Trail(Row):
    length: int


async def test_a_rewind_and_a_restore_have_views_built_anew(fleet: Fleet) -> None:
    view = with_view(fleet)
    await filled(fleet, "1", "2")
    assert await fleet.views.begin("trails", ["trails"], view.shape, 0)
    ready = BuildProgress(True, FeedPoint(0, 0, 1, 2))
    assert await fleet.views.note_progress("trails", 1, 0, BuildProgress(), ready)
    assert await fleet.views.make_live("trails", 1, 1)
    live = (await fleet.views.builds())["trails"].live
    await rewind(fleet.context, {0: 0})
    builds = ViewBuilds(live, ViewBuild(2, view.shape, {}))
    assert await fleet.views.builds() == {"trails": builds}
    await restore(fleet.context)
    builds = ViewBuilds(live, ViewBuild(3, view.shape, {}))
    assert await fleet.views.builds() == {"trails": builds}


# Restore


async def test_an_older_copy_is_filled_from_what_was_published(fleet: Fleet) -> None:
    await filled(fleet, "1")
    older = deepcopy(fleet.events)
    await filled(fleet, "2", "3")
    before, fleet.events = (await fleet.stored(), fleet.emitted()), older
    report = await restore(fleet.context)
    assert (report.read, report.found, report.restored) == (3, 1, 2)
    assert report.ranges == [OffsetRange(0, 1, 3)]
    assert (await fleet.stored(), fleet.emitted()) == before
    assert [each.kind for each in await fleet.events.registry.repairs()] == [RepairKind.RESTORE]
    await filled(fleet, "4")
    assert fleet.emitted() == [*before[1], ("4", 4, "0-0-3")]


async def test_an_empty_store_is_filled_in_pages(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventfleet.roles.restore.PAGE_EVENTS", 2)
    await filled(fleet, "1", "2", "3", "4", "5")
    before, fleet.events = await fleet.stored(), MemoryEvents()
    assert (await restore(fleet.context)).restored == 5
    assert await fleet.stored() == before
    await fleet.run_append()


async def test_put_events_are_placed_as_they_were() -> None:
    fleet = Fleet(sync_tally)
    events = [fleet.event(name, version=n) for n, name in enumerate("ab", start=1)]
    await fleet.events.put(events, 0)
    older = deepcopy(fleet.events)
    await fleet.emit(fleet.topics.events, *events)
    await fleet.run_append()
    before, fleet.events = await fleet.stored(), older
    assert (await restore(fleet.context)).restored == 2
    assert await fleet.stored() == before
    await fleet.run_append()


async def test_a_store_that_went_on_by_itself_is_not_restored(fleet: Fleet) -> None:
    await filled(fleet, "1", "2")
    fleet.events = MemoryEvents()
    await fleet.events.write([fleet.event("other", version=1, position="0-0-0")])
    with pytest.raises(Misconfigured, match="version is taken by another event"):
        await restore(fleet.context)
    fleet.events = MemoryEvents()
    await fleet.events.write([fleet.event("2", version=1, position="0-0-1")])
    with pytest.raises(Misconfigured, match=r"stored as version 1 .* was published at 0-0-"):
        await restore(fleet.context)


async def test_a_topic_that_does_not_keep_all_is_no_source(fleet: Fleet) -> None:
    await filled(fleet, "1", "2")
    fleet.log.entries(fleet.topics.stored, 0)[0].record = None  # no longer kept
    fleet.events = MemoryEvents()
    with pytest.raises(Misconfigured, match=r"version 2: neither .* has version 1"):
        await restore(fleet.context)
    assert await fleet.events.count() == 0


async def test_voided_records_are_left_out(fleet: Fleet) -> None:
    await filled(fleet, "1")
    right, fleet.events = fleet.events, MemoryEvents()
    await fleet.events.registry.note_next_offset(0, 0, 1)
    await filled(fleet, "2")
    fleet.events = right
    await rewind(fleet.context)
    older = deepcopy(fleet.events)
    await fleet.run_append()
    before, fleet.events = await fleet.stored(), older
    report = await restore(fleet.context)
    assert (report.voided, report.restored) == (1, 1)
    assert await fleet.stored() == before


async def test_a_write_whose_answer_was_lost_is_no_clash(fleet: Fleet) -> None:
    class Repeating(MemoryEvents):
        """Writes twice, as a driver does that lost the first answer."""

        async def write(self, writes: Any) -> None:
            await super().write(writes[:1])
            await super().write(writes)

    await filled(fleet, "1", "2")
    before, fleet.events = await fleet.stored(), Repeating()
    await restore(fleet.context)
    assert await fleet.stored() == before


async def test_a_group_without_an_offset_gets_that_of_the_last_event(fleet: Fleet) -> None:
    await filled(fleet, "1", "2")
    fleet.log.offsets.clear()
    fleet.events = MemoryEvents()
    await restore(fleet.context)
    assert fleet.log.offsets[fleet.group, fleet.topics.events, 0] == 2
    await filled(fleet, "3")
    assert [name for name, _, _ in fleet.emitted()] == ["1", "2", "3"]


async def test_what_a_rewind_did_not_emit_again_is_restored_too(fleet: Fleet) -> None:
    await filled(fleet, "1", "2")
    await rewind(fleet.context, {0: 0})
    await filled(fleet, "3")
    before, fleet.events = await fleet.stored(), deepcopy(fleet.events)
    registry = fleet.events.registry
    fleet.events = MemoryEvents()
    fleet.events.registry = registry
    report = await restore(fleet.context)
    assert (report.restored, report.voided) == (3, 0)
    assert await fleet.stored() == before


async def test_a_synchronous_log_that_was_truncated_is_taken_in_a_new_epoch() -> None:
    fleet = Fleet(sync_tally)
    events = [fleet.event(name, version=n) for n, name in enumerate("abc", start=1)]
    await fleet.events.put(events[:2], 0)
    await fleet.emit(fleet.topics.events, *events[:2])
    await fleet.run_append()
    fleet.log.entries(fleet.topics.events, 0).clear()
    assert (await restore(fleet.context)).restored == 0
    await fleet.events.put(events[2:], 0)
    await fleet.emit(fleet.topics.events, *events[1:])
    await fleet.run_append()
    assert [position for _, _, position in await fleet.stored()] == ["0-0-0", "0-0-1", "1-0-1"]
    assert [name for name, _, _ in fleet.emitted()] == ["a", "b", "c"]


# The audit


@pytest.mark.parametrize("first", [None, {0: 0}, {0: 1}])
async def test_the_audit_is_clean_after_a_rewind(
    fleet: Fleet, first: dict[int, int] | None
) -> None:
    await filled(fleet, "1")
    older = deepcopy(fleet.events)
    await filled(fleet, "2", "3")
    fleet.events = older
    await rewind(fleet.context, first)
    await fleet.run_append()
    await filled(fleet, "4")
    report = await audited(fleet)
    assert report.violations == []
    assert report.explained


async def test_the_audit_is_clean_after_a_restore(fleet: Fleet) -> None:
    await filled(fleet, "1")
    older = deepcopy(fleet.events)
    await filled(fleet, "2", "3")
    fleet.events = older
    await restore(fleet.context)
    await filled(fleet, "4")
    report = await audited(fleet)
    assert (report.violations, report.explained) == ([], [])


async def audited(fleet: Fleet) -> AuditReport:
    context = fleet.context
    return await Auditor(
        *(fleet.domain, context.stores, context.reader), group_prefix=PREFIX, exactly_once=True
    ).run()
