"""Fourteen alterations, each planted alone: the audit finds every one, and none where none is."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace as with_changes
from typing import Any

import pytest
from msgspec.structs import replace

from eventfleet.audit import AuditReport
from eventfleet.audit.view_audit import STALE
from eventfleet.audit.view_comparison import DISCARDED, NOT_FOLDED, NOT_PROJECTED, TOTALS_NOT_FOLDED
from eventfleet.model.command_rules import START, Emits
from eventfleet.model.payloads import Command
from eventfleet.stores.contracts import CurrentMarker
from eventfleet.stores.contracts.views import StoredRow
from eventfleet.topics.event import EventKey
from eventfleet.topics.parked import Discard, DiscardedEvent, discarded_record
from tests.mistakes.parcels import (
    HEAVY,
    Registered,
    Weighed,
    before,
    label_view,
    parcel_view,
    story,
)
from tests.unit.audit_fixture import AuditFixture

PARCELS = ("p-1", "p-2", "p-3")


class Register(Command):
    owner: str


class ParcelFleet(AuditFixture):
    """Three parcels, delivered; their domain has a marker, and views with totals."""

    def __init__(self) -> None:
        rule = Emits(Register, Registered, after=[START])
        super().__init__(with_changes(before(), commands=[rule]))
        self.markers: dict[str, CurrentMarker] = {}

    async def deliver(self, *parcels: str) -> None:
        for parcel in parcels:
            prev = ""
            for number, (kind, data) in enumerate(story(parcel), 1):
                id = f"{parcel}-{number}"
                await self.produce(id, aggregate_id=parcel, type=kind, data=data, prev=prev)
                prev = id
            self.markers[parcel] = CurrentMarker("Delivered", prev, False)
        await self.work()

    async def read(self, aggregate_ids: Collection[str]) -> dict[str, CurrentMarker]:
        """Read markers, as Markers does."""
        return {key: self.markers[key] for key in aggregate_ids if key in self.markers}

    async def audit(self, **named: Any) -> AuditReport:
        return await super().audit(markers=self, **named)

    # Rows of the views

    def table(self, view: str, table: str) -> dict[str, StoredRow]:
        live = self.memory.views._builds[view].live
        assert live
        return self.memory.views.rows(view, table, live.number)._rows

    def alter_row(self, table: str, id: str, **fields: Any) -> None:
        rows = self.table("parcels", table)
        rows[id] = rows[id]._replace(fields={**(rows[id].fields or {}), **fields})

    @property
    def total(self) -> str:
        """The id of the only total."""
        [id] = self.table("parcels", "owners")
        return id

    def at_offset(self, topic: str, event_id: str) -> int:
        return next(r.offset for r in self.memory.records(topic) if event_id.encode() in r.value)


@pytest.fixture
async def fleet() -> ParcelFleet:
    fleet = ParcelFleet()
    await fleet.deliver(*PARCELS)
    return fleet


# The plants


async def delete_event(fleet: ParcelFleet) -> None:
    fleet.remove(await fleet.event(4, "p-2"))


async def double_version(fleet: ParcelFleet) -> None:
    event = await fleet.event(3, "p-2")
    fleet.remove(await fleet.event(4, "p-2"))
    twin = replace(event, id="twin", version=4)
    fleet.memory.events._streams["p-2"][4] = twin
    fleet.memory.events._by_key[twin.key] = twin


async def leave_gap(fleet: ParcelFleet) -> None:
    fleet.remove(await fleet.event(2, "p-2"))


async def alter_payload(fleet: ParcelFleet) -> None:
    fleet.alter(await fleet.event(2, "p-2"), data={"grams": 1})


async def alter_snapshot(fleet: ParcelFleet) -> None:
    state = {"owner": "bob", "grams": 1_500, "delivered": True}
    await fleet.save(4, state, aggregate_id="p-2")


async def lose_record(fleet: ParcelFleet) -> None:
    fleet.lose(HEAVY, fleet.at_offset(HEAVY, "p-2-2"))


async def double_record(fleet: ParcelFleet) -> None:
    fleet.again(HEAVY, fleet.at_offset(HEAVY, "p-2-2"))


async def alter_marker(fleet: ParcelFleet) -> None:
    fleet.markers["p-2"] = CurrentMarker("Registered", "p-2-1", False)


async def forge_reply(fleet: ParcelFleet) -> None:
    await fleet.reply("lost", "gone", aggregate_id="p-2")


async def make_unreadable(fleet: ParcelFleet) -> None:
    fleet.alter(await fleet.event(2, "p-2"), data={})


async def mark_discarded(fleet: ParcelFleet) -> None:
    await fleet.memory.events.mark_discarded(EventKey("p-2", "p-2-3"))


async def alter_row(fleet: ParcelFleet) -> None:
    fleet.alter_row("parcels", "p-2\0", grams=7)


async def delete_row(fleet: ParcelFleet) -> None:
    del fleet.table("labels", "labels")["p-2\0front"]


async def alter_total(fleet: ParcelFleet) -> None:
    fleet.alter_row("owners", fleet.total, parcels=4)


Plant = Callable[[ParcelFleet], Awaitable[None]]
PLANTS: dict[str, tuple[Plant, str, str]] = {
    "an event deleted": (delete_event, "p-2", "is not stored"),
    "a version doubled": (double_version, "p-2", "twin"),
    "a gap": (leave_gap, "p-2", "version 2 is missing, 3 follows"),
    "a payload altered": (alter_payload, "p-2", "differs from the event at offset"),
    "a snapshot altered": (alter_snapshot, "p-2", "is not the fold of its events"),
    "a record of a route lost": (lose_record, "p-2", f"is missing from {HEAVY}"),
    "a record of a route doubled": (double_record, "p-2", f"is 2 times in {HEAVY}"),
    "a marker altered": (alter_marker, "p-2", "version 1, but version 4 is stored"),
    "a reply forged": (forge_reply, "p-2", "command lost was accepted"),
    "an event made unreadable": (make_unreadable, "p-2", "can't be read"),
    "an event marked as discarded": (mark_discarded, "p-2", "no operator has decided so"),
    "a row altered": (alter_row, "p-2", "view parcels: the row differs"),
    "a row deleted": (delete_row, "p-2", "view labels: row 'front' is missing"),
    "a total altered": (alter_total, "", "differs from the fold of its events in `parcels`"),
}


async def test_none_is_found_where_none_is(fleet: ParcelFleet) -> None:
    report = await fleet.audit()
    assert (report.clean, report.violations, report.problems) == (True, [], [])
    assert report.rows == 7
    assert report.unjudged == {}


@pytest.mark.parametrize("name", PLANTS)
async def test_each_of_fourteen_alterations_is_found(fleet: ParcelFleet, name: str) -> None:
    plant, aggregate_id, fault = PLANTS[name]
    await plant(fleet)
    report = await fleet.audit()
    told = [(v.aggregate_id, v.fault) for v in report.violations]
    told += [(p.subject, p.detail) for p in report.problems]
    assert any(key == aggregate_id and fault in text for key, text in told), told
    assert {key for key, _ in told} <= {aggregate_id, ""}


# Others of their kinds


async def test_a_row_that_was_added(fleet: ParcelFleet) -> None:
    rows = fleet.table("labels", "labels")
    rows["p-2\0back"] = rows["p-2\0front"]._replace(id="p-2\0back")
    rows["nobody\0front"] = rows["p-2\0front"]._replace(id="nobody\0front")
    report = await fleet.audit()
    added = "is stored, but does not follow from the events"
    told = {v.aggregate_id: v.fault for v in report.violations}
    assert told["p-2"].startswith(f"view labels: row 'back' {added}")
    assert told["nobody"].startswith(f"view labels: row 'front' {added}")
    assert len(report.violations) == 2


@pytest.mark.parametrize("change", ["deleted", "added"])
async def test_a_total_that_was_deleted_or_added(fleet: ParcelFleet, change: str) -> None:
    totals = fleet.table("parcels", "owners")
    part = totals[fleet.total]
    if change == "deleted":
        totals.clear()
    else:
        id = part.id.replace("ann", "bob")
        totals[id] = part._replace(id=id, fields={"owner": "bob", "parcels": 1, "grams": 1})
    [violation] = (await fleet.audit()).violations
    assert violation.invariant == 3
    fault = "is missing" if change == "deleted" else "does not follow from the events"
    assert fault in violation.fault


async def test_a_decision_without_its_mark(fleet: ParcelFleet) -> None:
    event = await fleet.event(3, "p-2")
    discard = Discard("a mistake", "ann", fleet.memory.clock.now())
    decided = DiscardedEvent("snapshot", "p-2", 3, event.id, discard)
    await fleet.memory.dead_letters.note_discarded([decided])
    [violation] = (await fleet.audit()).violations
    assert violation.aggregate_id == "p-2"
    assert "is not marked as discarded, as ann has decided" in violation.fault
    await fleet.memory.events.mark_discarded(event.key)
    assert [v for v in (await fleet.audit()).violations if "discarded" in v.fault] == []


async def test_rows_from_before_a_discard_are_counted(fleet: ParcelFleet) -> None:
    """Snapshot parked the event, on which no view raised; its discard came behind project."""
    event = await fleet.event(2, "p-2")
    discard = Discard("a mistake", "ann", fleet.memory.clock.now())
    decided = DiscardedEvent("snapshot", "p-2", 2, event.id, discard)
    await fleet.memory.dead_letters.note_discarded([decided])
    await fleet.memory.events.mark_discarded(event.key)
    report = await fleet.audit()
    assert [v for v in report.violations if "view" in v.fault or "totals" in v.fault] == []
    assert report.unjudged[DISCARDED] == 2
    checked = [(v.aggregate_id, v.invariant) for v in report.violations]
    assert checked == [("p-2", 3)] * len(checked)  # the snapshot of before


async def test_a_decision_that_the_log_alone_has_explains_a_mark(fleet: ParcelFleet) -> None:
    event = await fleet.event(4, "p-2")
    discard = Discard("a mistake", "ann", fleet.memory.clock.now())
    decided = DiscardedEvent("append", "p-2", 4, event.id, discard)
    fleet.log.append(discarded_record("parcels.parked", 0, decided))
    await fleet.memory.events.mark_discarded(event.key)
    assert [v for v in (await fleet.audit()).violations if "operator" in v.fault] == []


async def test_the_read_models_of_a_working_fleet_are_clean(fleet: ParcelFleet) -> None:
    await fleet.produce("more", aggregate_id="p-1", type="Weighed", data={"grams": 9}, prev="p-1-4")
    await fleet.work("append", "snapshot", "relay")
    fleet.markers["p-1"] = CurrentMarker("Weighed", "more", False)
    assert (await fleet.audit()).violations == []
    builds = fleet.memory.views._builds
    await fleet.work("project")
    assert (await fleet.audit()).unjudged == {}
    live = builds["parcels"].live
    assert live
    progress = live.partitions[0]
    assert progress.point
    early = progress._replace(point=progress.point._replace(offset=11, version=4))
    builds["parcels"] = builds["parcels"]._replace(live=live._replace(partitions={0: early}))
    report = await fleet.audit()
    assert report.violations == []
    assert report.unjudged == {NOT_PROJECTED: 2}


async def test_what_project_parks_is_not_judged(fleet: ParcelFleet) -> None:
    def raising(row: Any, event: Any) -> Any:
        if event.aggregate_id == "p-4" and isinstance(event.data, Weighed):
            raise LookupError("no scale")
        return parcel_view.project(row, event)

    views = [with_changes(parcel_view, project=raising), label_view]
    fleet.change(views=views)
    await fleet.deliver("p-4")
    fleet.change(views=before().views)
    report = await fleet.audit()
    assert report.violations == []
    assert {each.kind for each in report.problems} == {"parked"}
    assert report.unjudged[NOT_FOLDED] >= 1
    assert report.unjudged[TOTALS_NOT_FOLDED] == 1


async def test_functions_that_raise_are_problems(fleet: ParcelFleet) -> None:
    def raising(row: Any, event: Any) -> Any:
        raise LookupError("no scale")

    fleet.change(views=[with_changes(parcel_view, project=raising), label_view])
    report = await fleet.audit()
    assert report.violations == []
    [problem] = {each.detail for each in report.problems if each.subject == "p-1"}
    assert "a view raised LookupError: no scale (" in problem
    assert "test_audit_plants.py:" in problem


async def test_a_stale_build_is_not_judged(fleet: ParcelFleet) -> None:
    await alter_total(fleet)
    builds = fleet.memory.views._builds
    live = builds["parcels"].live
    assert live
    stale = {0: live.partitions[0]._replace(stale=True)}
    builds["parcels"] = builds["parcels"]._replace(live=live._replace(partitions=stale))
    report = await fleet.audit()
    assert (report.violations, report.unjudged) == ([], {STALE: 1})


async def test_a_part_of_the_views_is_compared_where_that_is_asked(fleet: ParcelFleet) -> None:
    await alter_row(fleet)
    assert (await fleet.audit(views=["labels"])).violations == []
    assert len((await fleet.audit(views=["parcels"])).violations) == 1
    await alter_total(fleet)
    sampled = await fleet.audit(sample=1)  # p-1
    assert (sampled.violations, sampled.rows) == ([], 2)
    assert len((await fleet.audit(sample=3)).violations) == 1
