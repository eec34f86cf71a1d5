"""What `eventfleet check` finds on servers, by name; and that a sound domain is clean."""

from collections.abc import AsyncIterator
from dataclasses import replace as with_changes
from typing import Any

import pytest
from msgspec import defstruct
from msgspec.structs import replace

from eventfleet.check import Kind
from eventfleet.check.build_check import BUILT_ANEW
from eventfleet.check.code_check import NO_DECIDE
from eventfleet.check.fold_check import ABOVE_A_FAULT
from eventfleet.check.report import MAX_LISTED, CheckReport, Finding
from eventfleet.check.store_check import BATCH_EVENTS, UNLISTED
from eventfleet.domains.bank import bank
from eventfleet.domains.cart import cart
from eventfleet.domains.game import game
from eventfleet.domains.orders import orders
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Event, State
from eventfleet.model.views import Row, View
from eventfleet.roles.append import AppendRole
from eventfleet.states.live_state import LiveState, take_snapshot
from eventfleet.stores.aggregate_sample import sample_aggregates
from eventfleet.stores.contracts import DomainStores
from eventfleet.stores.errors import Misconfigured, ServerUnavailable
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import MemoryTransactionalWriter
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.topics.event import EventRecord
from tests.simulation.in_memory_servers import InMemoryServers
from tests.unit.check_fixture import (
    LEDGER,
    Bill,
    CheckFixture,
    Paid,
    Placed,
    bills,
    evolve,
    found,
    only,
)


@pytest.fixture
async def fleet() -> CheckFixture:
    fleet = CheckFixture()
    await fleet.work_on_bills()
    return fleet


async def test_what_nobody_has_changed_is_clean(fleet: CheckFixture) -> None:
    report = await fleet.check()
    assert report.clean, report.findings
    assert (report.events, report.aggregates, report.snapshots, report.stored) == (5, 2, 1, 5)
    assert report.notes == {}


# Ten mistakes


class RenamedBill(State):
    due: int = 0
    paid: int = 0


def evolve_renamed(bill: RenamedBill, event: Event) -> RenamedBill:
    if isinstance(event, Placed):
        return replace(bill, due=event.total)
    return replace(bill, paid=bill.paid + event.amount) if isinstance(event, Paid) else bill


async def test_a_renamed_state_field(fleet: CheckFixture) -> None:
    fleet.change(state=RenamedBill, evolve=evolve_renamed)
    finding = only(await fleet.check(), Kind.STATE_SHAPE)
    assert finding.where == "state RenamedBill"
    assert finding.detail.endswith("another shape: `total` is not declared, `due` is new")
    assert "raise `state_version` to 2" in finding.advice
    assert (finding.count, finding.aggregate_id, finding.version) == (1, "a", 4)


async def test_a_renamed_state_field_of_another_state_version_is_none(fleet: CheckFixture) -> None:
    fleet.change(state=RenamedBill, evolve=evolve_renamed, state_version=2)
    report = await fleet.check()
    assert report.clean
    assert report.notes["snapshots of state version 1 and another shape are not used"] == 1


async def test_a_state_that_was_deployed_is_compared_with_its_own_snapshots(
    fleet: CheckFixture,
) -> None:
    fleet.change(state=RenamedBill, evolve=evolve_renamed)
    await fleet.save(4, {"due": 10, "paid": 6})
    report = await fleet.check()
    assert (report.clean, report.snapshots) == (True, 1)
    assert report.notes["snapshots of state version 1 and another shape are not used"] == 1


def evolve_twice(bill: Bill, event: Event) -> Bill:
    after = evolve(bill, event)
    return replace(after, paid=after.paid + event.amount) if isinstance(event, Paid) else after


async def test_a_changed_evolve(fleet: CheckFixture) -> None:
    fleet.change(evolve=evolve_twice)
    finding = only(await fleet.check(), Kind.SNAPSHOT)
    assert finding.detail == "`paid` of a stored snapshot differs from that of its folded events"
    assert "raise `state_version` to 2" in finding.advice
    assert (finding.aggregate_id, finding.version) == ("a", 4)
    fleet.change(state_version=2)
    assert (await fleet.check()).clean


async def test_a_removed_event_type(fleet: CheckFixture) -> None:
    fleet.change(events=[Placed], routes=())
    finding = only(await fleet.check(), Kind.EVENT_TYPE)
    assert finding.where == "event Paid, schema version 1"
    assert (finding.count, finding.aggregate_id, finding.version) == (3, "a", 2)


def with_currency() -> type[Event]:
    return defstruct("Placed", [("total", int), ("currency", str)], bases=(Event,))


def evolve_any(bill: Bill, event: Any) -> Bill:
    return evolve(bill, event if isinstance(event, Paid) else Placed(total=event.total))


async def test_a_required_field_without_an_upcaster(fleet: CheckFixture) -> None:
    changed = with_currency()
    fleet.change(events=[changed, Paid], evolve=evolve_any)
    finding = only(await fleet.check(), Kind.EVENT, Kind.EVENT_SHAPE)
    assert finding.where == "event Placed, schema version 1"
    assert finding.detail == "data.currency: is missing"
    assert finding.advice.startswith("add an upcaster from schema version 1")
    assert (finding.count, finding.aggregate_id, finding.version) == (2, "a", 1)
    fleet.change(upcasters={changed: [lambda data: data | {"currency": "EUR"}]})
    assert (await fleet.check()).clean


async def test_an_upcaster_that_raises(fleet: CheckFixture) -> None:
    changed = with_currency()
    fleet.change(events=[changed, Paid], evolve=evolve_any)
    fleet.change(upcasters={changed: [lambda data: data | {"currency": data["country"]}]})
    report = await fleet.check()
    finding = only(report, Kind.UPCASTER)
    assert finding.where == "event Placed, schema version 1"
    assert finding.detail.startswith("KeyError: 'country' (")
    assert "test_check.py:" in finding.detail
    assert (finding.count, finding.aggregate_id, finding.version) == (2, "a", 1)
    assert report.notes[ABOVE_A_FAULT] == 1


async def test_a_shape_changed_without_a_version(fleet: CheckFixture) -> None:
    changed = defstruct("Paid", [("amount", int), ("note", str, "none")], bases=(Event,))
    fleet.change(
        events=[Placed, changed],
        routes=(),
        evolve=lambda bill, event: (
            replace(bill, paid=bill.paid + event.amount)
            if isinstance(event, changed)
            else evolve(bill, event)
        ),
    )
    finding = only(await fleet.check(), Kind.EVENT_SHAPE)
    assert finding.where == "event Paid, schema version 1"
    assert finding.detail == "field `note` has another default"
    assert "upcaster" in finding.advice


@pytest.mark.parametrize("topic", ["bills.replies", LEDGER])
async def test_a_missing_topic(fleet: CheckFixture, topic: str) -> None:
    del fleet.log.specs[topic]
    finding = only(await fleet.check(), Kind.TOPIC)
    assert finding.where == topic
    assert finding.detail.startswith("does not exist")
    assert "eventfleet topics create" in finding.advice


async def test_a_wrong_partition_count(fleet: CheckFixture) -> None:
    fleet.set(partitions=6)
    report = await fleet.check()
    assert {*report.counts} == {Kind.PARTITIONS}
    details = {finding.detail for finding in report.findings}
    assert "EVENTFLEET_PARTITIONS is 6, but topic bills.events has 1 partitions" in details
    assert [each for each in details if "stored events of bills were divided by 1" in each]
    assert len(details) == 8


async def test_views_over_events_that_were_divided_by_another_number(
    fleet: CheckFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def counts() -> set[int]:
        return {1, 4}

    monkeypatch.setattr(fleet.memory.events.registry, "partition_counts", counts)
    assert (await fleet.check()).clean
    fleet.change(views=[View("counts", row=Row, project=lambda row, event: row)])
    finding = only(await fleet.check(), Kind.PARTITIONS)
    assert "bills has views" in finding.detail
    assert "divided by 4 partitions, not by 1" in finding.detail


async def test_a_wrong_database(fleet: CheckFixture) -> None:
    fleet.set(mongo_database="staging")
    empty = DomainStores(MemoryEvents(), MemorySnapshots())
    finding = only(await fleet.check(stores={"bills": empty}), Kind.STORE)
    assert finding.where == "database staging"
    assert "partition 0 up to offset 5, but this store only up to 0" in finding.detail
    assert "EVENTFLEET_MONGO_DATABASE=staging" in finding.advice


async def test_a_wrong_group(fleet: CheckFixture) -> None:
    fleet.set(group_prefix="staging")
    report = await fleet.check()
    assert {*report.counts} == {Kind.GROUP}
    by_group = {finding.where: finding for finding in report.findings}
    roles = ("append", "snapshot", "relay")
    assert {*by_group} == {f"group staging.bills.{role}" for role in roles}
    assert "below offset 5 in epoch 0" in by_group["group staging.bills.append"].detail
    assert "has lost its offset" in by_group["group staging.bills.relay"].detail
    assert all("EVENTFLEET_GROUP_PREFIX=staging" in each.advice for each in report.findings)


async def test_a_group_behind_the_store_in_a_fleet_with_a_topic_prefix(fleet: CheckFixture) -> None:
    fleet.set(group_prefix="ours", topic_prefix="staging.")
    [finding, *_] = (await fleet.check()).findings
    assert finding.advice == (
        "before any repair, compare EVENTFLEET_GROUP_PREFIX=ours, "
        "EVENTFLEET_TOPIC_PREFIX=staging., EVENTFLEET_MONGO_DATABASE=eventfleet"
    )


# The reasons are those of the append role


@pytest.mark.parametrize("mistake", ["database", "group"])
async def test_append_refuses_a_start_for_the_reason_that_is_found(
    fleet: CheckFixture, mistake: str
) -> None:
    events = MemoryEvents() if mistake == "database" else fleet.memory.events
    group = "unit.bills.append" if mistake == "database" else "staging.bills.append"
    fleet.set(group_prefix=group.split(".")[0])
    stores = {"bills": DomainStores(events, MemorySnapshots())}
    kind = Kind.STORE if mistake == "database" else Kind.GROUP
    report = await fleet.check(stores=stores)
    places = ("database eventfleet", "group staging.bills.append")
    [finding] = [each for each in found(report, kind) if each.where in places]
    writer = MemoryTransactionalWriter(fleet.log, group, "bills.events", 0)
    parking = fleet.memory.append_parking()
    role = AppendRole(bills, 0, events, writer, fleet.memory.clock, parking, cached=1)
    with pytest.raises(Misconfigured) as refused:
        await role.open()
    assert str(refused.value) == finding.detail


async def test_an_offset_that_the_log_does_not_have(fleet: CheckFixture) -> None:
    fleet.log.offsets["unit.bills.relay", "bills.stored", 0] = 99
    finding = only(await fleet.check(), Kind.GROUP)
    assert finding.where == "group unit.bills.relay"
    assert "the group's offset is 99, but the log holds records from 0 to" in finding.detail
    assert "eventfleet topics set-offset bills relay" in finding.detail


async def test_roles_that_have_not_begun_are_sound() -> None:
    fleet = CheckFixture()
    await fleet.register()
    report = await fleet.check()
    assert (report.clean, report.events) == (True, 0)


async def test_partitions_of_one_reason_are_one_finding() -> None:
    fleet = CheckFixture()
    fleet.set(partitions=3)
    fleet.log._partitions["bills.events"] = [[], [], []]
    spec = fleet.log.specs["bills.events"]
    fleet.log.specs[spec.name] = with_changes(spec, partitions=3)
    for partition in range(3):
        await fleet.memory.events.registry.note_next_offset(partition, 0, 5 + partition)
    [finding] = found(await fleet.check(), Kind.GROUP)
    assert (finding.count, finding.unit) == (3, "partitions")
    assert "partition 0 below offset 5" in finding.detail


# Topics and servers


async def test_a_topic_whose_settings_lose_records(fleet: CheckFixture) -> None:
    fleet.log.specs["bills.stored"].config["cleanup.policy"] = "compact"
    finding = only(await fleet.check(), Kind.TOPIC)
    assert finding.detail == ("topic bills.stored: cleanup.policy should be delete and is compact")


async def test_a_server_that_does_not_answer_leaves_the_rest_checked(fleet: CheckFixture) -> None:
    fleet.change(evolve=evolve_twice)
    report = await fleet.check(reader=None, admin=None, faults={"Kafka": "Kafka does not answer"})
    assert {*report.counts} == {Kind.SERVER, Kind.SNAPSHOT}
    del fleet.log.specs[LEDGER]
    report = await fleet.check(stores=None, faults={"MongoDB": "MongoDB does not answer"})
    assert {*report.counts} == {Kind.SERVER, Kind.TOPIC}


async def test_redis_is_needed_for_markers_only(fleet: CheckFixture) -> None:
    assert (await fleet.check(faults={"Redis": "Redis does not answer"})).clean
    shop = CheckFixture(orders)
    report = await shop.check(faults={"Redis": "Redis does not answer"})
    assert only(report, Kind.SERVER).where == "Redis"


# Events and states


async def test_an_evolve_that_raises_is_found_once_whatever_it_says(fleet: CheckFixture) -> None:
    def strict(bill: Bill, event: Event) -> Bill:
        if isinstance(event, Placed):
            raise ValueError(f"no bill of {event.total}")
        return evolve(bill, event)

    fleet.change(evolve=strict)
    finding = only(await fleet.check(), Kind.EVOLVE)
    assert finding.detail.startswith("ValueError: no bill of 10 (")
    assert (finding.count, finding.aggregate_id, finding.version) == (2, "a", 1)


async def test_what_follows_a_fault_is_still_decoded(fleet: CheckFixture) -> None:
    fleet.alter(await fleet.event(1), type="Paid", data={"amount": "much"})
    fleet.alter(await fleet.event(4), data={"amount": 2, "tip": 1})
    report = await fleet.check()
    assert [finding.detail for finding in found(report, Kind.EVENT)] == [
        "data.amount: Expected `int`, got `str`",
        "data.tip: is not a known field",
    ]


async def test_an_event_of_a_newer_schema(fleet: CheckFixture) -> None:
    fleet.alter(await fleet.event(3), schema_version=2)
    finding = only(await fleet.check(), Kind.SCHEMA_VERSION)
    assert finding.where == "event Paid, schema version 2"


async def test_a_missing_event_is_no_reason_to_fold_on(fleet: CheckFixture) -> None:
    fleet.remove(await fleet.event(3))
    report = await fleet.check()
    finding = only(report, Kind.VERSION)
    assert (finding.count, finding.aggregate_id, finding.version) == (1, "a", 4)
    assert report.notes[ABOVE_A_FAULT] == 1


class Loose(State):
    at: Any = None


async def test_a_state_that_a_snapshot_does_not_give_back(fleet: CheckFixture) -> None:
    at = fleet.memory.clock.now()
    fleet.change(state=Loose, evolve=lambda state, event: Loose(at=at), state_version=2)
    finding = only(await fleet.check(), Kind.STATE)
    assert finding.where == "state Loose"
    assert finding.detail == "a snapshot gives `at` back otherwise"
    assert (finding.aggregate_id, finding.version) == ("a", 1)


async def test_a_state_that_no_snapshot_can_keep(fleet: CheckFixture) -> None:
    fleet.change(state=Loose, evolve=lambda state, event: Loose(at=2**70), state_version=2)
    assert "no snapshot can keep it" in only(await fleet.check(), Kind.STATE).detail


async def test_an_aggregate_of_many_events_is_streamed(fleet: CheckFixture) -> None:
    for n in range(BATCH_EVENTS + 1):
        await fleet.memory.store(f"x{n}", "large", type="Paid", data={"amount": 1})
    large: Any = fleet.memory.events
    large.__class__ = OneByOne
    report = await fleet.check()
    assert report.clean
    assert report.events == BATCH_EVENTS + 6


class OneByOne(MemoryEvents):
    """A store that is never asked for all events of a large aggregate."""

    async def read_all(self, aggregate_ids: Any, limit: int) -> list[EventRecord] | None:
        assert "large" not in aggregate_ids
        return await super().read_all(aggregate_ids, limit)


class Damaged(MemoryEvents):
    """A store with a document that somebody has altered."""

    error: Exception = KeyError("data")

    async def read_all(self, aggregate_ids: Any, limit: int) -> list[EventRecord] | None:
        raise self.error

    async def read(self, aggregate_id: str, *args: Any, **named: Any) -> AsyncIterator[EventRecord]:
        async for event in super().read(aggregate_id, *args, **named):
            if event.aggregate_id == "a" and event.version == 3:
                raise self.error
            yield event


async def test_an_event_that_the_store_cannot_read_is_named(fleet: CheckFixture) -> None:
    store: Any = fleet.memory.events
    store.__class__ = Damaged
    report = await fleet.check()
    finding = only(report, Kind.EVENT)
    assert "can't be read from the store: KeyError: 'data'" in finding.detail
    assert (finding.aggregate_id, finding.version) == ("a", 3)
    assert report.aggregates == 2
    assert report.notes[UNLISTED] == 2
    store.error = ServerUnavailable("gone")
    for sample in (None, 1):  # several aggregates together, and one alone
        with pytest.raises(ServerUnavailable):
            await fleet.check(sample)


async def test_a_report_lists_a_bounded_number_of_findings() -> None:
    report = CheckReport("bills")
    for n in range(MAX_LISTED + 7):
        report.add(Finding(Kind.LINE, f"line {n}", "is none", "correct it"))
    assert len(report.findings) == MAX_LISTED
    assert report.counts[Kind.LINE] == MAX_LISTED + 7


# A sample


@pytest.mark.parametrize("size", [1, 3, 7, 40, 100])
async def test_a_sample_is_spread_over_all_aggregates(size: int) -> None:
    servers = InMemoryServers(bills)
    for n in range(40):
        await servers.store(str(n), f"bill-{n:02}", type="Placed", data={"total": 1})
    sample = await sample_aggregates(servers.events, size)
    chosen = [int(each.removeprefix("bill-")) for each in sample.aggregate_ids]
    assert sample.total == 40
    assert len({*chosen}) == min(size, 40)
    gaps = [b - a for a, b in zip(chosen, [*chosen[1:], 40], strict=True)]
    assert chosen[0] == 0
    assert max(gaps) <= 2 * -(-40 // size)


async def test_a_sample_says_so(fleet: CheckFixture) -> None:
    report = await fleet.check(sample=1)
    assert (report.clean, report.aggregates, report.events) == (True, 1, 4)
    assert report.notes == {"only 1 of 2 aggregates were checked": 1}


async def test_a_sample_does_not_pass_over_a_removed_type(fleet: CheckFixture) -> None:
    """The one aggregate of the sample has no event of the type."""
    await fleet.produce("6", aggregate_id="A", type="Placed", data={"total": 1})
    await fleet.work()
    fleet.change(events=[Placed], routes=())
    finding = only(await fleet.check(sample=1), Kind.EVENT_TYPE)
    assert finding.where == "event Paid"
    assert "without a sample" in finding.advice


# Sound domains

SOUND: dict[str, tuple[Domain[Any], list[tuple[str, dict[str, Any], int]]]] = {
    "bank": (
        bank,
        [
            ("Opened", {"owner": "ann", "currency": "EUR"}, 1),
            ("Deposited", {"amount": 5}, 1),
            ("Withdrawn", {"amount": 3}, 1),
            ("Frozen", {"reason": "lost card"}, 1),
        ],
    ),
    "orders": (
        orders,
        [
            ("Placed", {"customer": "ann", "total": 5}, 1),
            ("Paid", {"amount": 5}, 1),
            ("Packed", {"parcels": 1}, 1),
        ],
    ),
    "cart": (
        cart,
        [
            ("CartOpened", {"session": "s"}, 1),
            ("ItemAdded", {"sku": "tea", "quantity": 2, "price": 3}, 1),
            ("CartCheckedOut", {"order": "o", "items": {"tea": 2}, "total": 6}, 1),
        ],
    ),
    "game": (
        game,
        [
            ("Entered", {"hero": "ann"}, 1),
            ("Walked", {"to": "north"}, 1),
            ("FoeMet", {"name": "wolf", "health": 5, "strength": 2}, 1),
            ("FoeHit", {"damage": 3}, 1),
            ("ItemTaken", {"item": "sword"}, 1),
        ],
    ),
}


@pytest.mark.parametrize(("domain", "story"), SOUND.values(), ids=SOUND)
async def test_a_sound_domain_is_clean(
    domain: Domain[Any], story: list[tuple[str, dict[str, Any], int]]
) -> None:
    fleet = CheckFixture(domain)
    await fleet.register()
    live = LiveState("a", domain.state())
    for n, (kind, data, schema) in enumerate(story):
        event = await fleet.memory.store(str(n), type=kind, data=data, schema_version=schema)
        live.fold(domain, event)
        snapshot = take_snapshot(domain, live, fleet.memory.clock.now(), 1_000_000)
        assert snapshot
        await fleet.memory.snapshots.save([snapshot])
    report = await fleet.check()
    assert report.clean, report.findings
    assert (report.events, report.snapshots) == (len(story), 3)
    unbuilt = {f"view {view.name}, version 1, {BUILT_ANEW}": 1 for view in domain.views}
    assert report.notes == unbuilt | ({NO_DECIDE: 1} if domain.synchronous else {})
    fleet.alter(await fleet.event(2), type="Lost")
    assert only(await fleet.check(), Kind.EVENT_TYPE).version == 2
