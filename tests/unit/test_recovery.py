"""A restored store has what lay beside its placed events; what is in no topic is named.

An operator's command refuses where the servers contradict its need.
"""

from copy import deepcopy
from dataclasses import replace as with_changes
from typing import Any

import pytest

from eventfleet.model.domain import Domain
from eventfleet.model.event_shapes import EventShape
from eventfleet.model.views import Row, View
from eventfleet.roles.append import AppendRole
from eventfleet.roles.raised_epoch import raise_epoch
from eventfleet.roles.restore import restore
from eventfleet.roles.rewind import rewind
from eventfleet.roles.snapshot import SnapshotRole
from eventfleet.states.querier import Querier
from eventfleet.stores.contracts import DomainStores, Head, RegistryFacts, VersionRange
from eventfleet.stores.errors import Misconfigured
from eventfleet.stores.memory.dead_letters import MemoryDeadLetters
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import MemoryProducer, MemoryTransactionalWriter
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.topics.event import EventRecord
from eventfleet.topics.names import consumer_group
from eventfleet.topics.parked import Discard, DiscardedEvent, discarded_record
from tests.simulation.in_memory_servers import take
from tests.simulation.recording_domain import (
    Counted,
    Tally,
    evolve,
    marker_tally,
    sync_tally,
    tally,
)
from tests.unit.repaired_fleet import PREFIX, Fleet, filled


class CountRow(Row):
    """A row of a view."""


class LosingFleet(Fleet):
    """A fleet whose store is lost."""

    def lose(self) -> None:
        self.events, self.snapshots = MemoryEvents(), MemorySnapshots()
        self.dead_letters = MemoryDeadLetters()

    async def tick_append(self) -> None:
        append = self.append_role()
        await append.open()
        await append.tick()

    def append_role(self) -> AppendRole:
        return AppendRole(
            *(self.domain, 0, self.events, self.writer("append")),
            *(self.clock, self.append_parking()),
            cached=100,
        )

    @property
    def stores_now(self) -> DomainStores:
        return DomainStores(self.events, self.snapshots, dead_letters=self.dead_letters)

    def copied_events(self) -> tuple[MemoryEvents, MemoryEvents]:
        """Two copies of the event store."""
        return deepcopy(self.events), deepcopy(self.events)

    def forget_copies(self, kind: str = "") -> None:
        """Remove the records of `<domain>.parked` whose keys begin so."""
        for entry in self.log.entries(self.topics.parked, 0):
            if entry.record and (entry.record.key or b"").startswith(kind.encode()):
                entry.record = None

    async def run_snapshot(self) -> SnapshotRole:
        group = consumer_group(PREFIX, self.domain.name, "snapshot")
        writer = MemoryTransactionalWriter(self.log, group, self.topics.stored, 0)
        role = SnapshotRole(
            *(self.domain, 0, self.stores_now, writer, self.parking("snapshot"), self.clock),
            cached=10,
            limit=1_000_000,
        )
        offset = await role.open()
        if records := [r for r in self.records(self.topics.stored) if r.offset >= offset]:
            await take(role, records)
        return role

    async def log_discard(self, role: str, event_id: str, version: int) -> None:
        """Write the record of a discard, which has no mark yet."""
        discard = Discard("of no use", "ann", self.clock.now())
        event = DiscardedEvent(role, "a", version, event_id, discard)
        await MemoryProducer(self.log).produce(
            [discarded_record(self.domain.topics.parked, 0, event)]
        )

    async def put_events(self, *events: EventRecord) -> None:
        """Put events as commands do, and produce the last one."""
        await self.events.put(events, 0)
        await self.emit(self.topics.events, events[-1])


# Discards


def refusing(tally: Tally, event: Counted) -> Tally:
    if event.poison:
        raise ZeroDivisionError("by nought")
    return evolve(tally, event)


async def test_a_discard_is_restored_with_its_mark_and_its_tombstone() -> None:
    fleet = LosingFleet(with_changes(sync_tally, evolve=refusing))
    events = [fleet.event(n, version=v) for v, n in enumerate("123", 1)]
    events[1] = fleet.event("2", version=2, data={"n": "2", "poison": True})
    for event in events:
        await fleet.put_events(event)
    await fleet.run_append()
    snapshot = await fleet.run_snapshot()
    [parked] = await fleet.dead_letters.parked_in("snapshot", 0)
    discard = Discard("of no use", "ann", fleet.clock.now())
    await fleet.dead_letters.request(parked, discard)
    await snapshot.tick()
    before, tombstones = await fleet.history(), await fleet.dead_letters.discarded_by("snapshot")
    fleet.lose()
    report = await restore(fleet.context)
    assert (report.restored, report.marked, report.missing) == (3, 1, [])
    assert await fleet.history() == before
    assert await fleet.dead_letters.discarded_by("snapshot") == tombstones
    latest = await Querier(fleet.domain, fleet.stores_now, fleet.clock).latest("a")
    assert latest
    assert latest.state.trail == ("1", "3")


async def test_a_discard_whose_mark_was_not_made_before_the_loss_is_marked(
    fleet: LosingFleet,
) -> None:
    await filled(fleet, "1", "2")
    await fleet.log_discard("snapshot", "2", version=2)
    fleet.lose()
    assert (await restore(fleet.context)).marked == 1
    assert [event.discarded for event in await fleet.history()] == [False, True]


async def test_what_snapshot_parks_is_listed_again(fleet: LosingFleet) -> None:
    fleet.domain = with_changes(fleet.domain, evolve=refusing)
    await fleet.emit(fleet.topics.events, fleet.event("1", data={"n": "1", "poison": True}))
    await fleet.run_append()
    await fleet.run_snapshot()
    before = await fleet.dead_letters.parked_in("snapshot", 0)
    assert before
    fleet.lose()
    await restore(fleet.context)
    assert await fleet.dead_letters.parked_in("snapshot", 0) == before


# The epoch and the registry


@pytest.mark.parametrize("copied", [False, True], ids=["lost", "older copy"])
async def test_the_epoch_is_never_lower_than_that_of_an_event(
    fleet: LosingFleet, copied: bool
) -> None:
    await filled(fleet, "1", "2")
    older = fleet.events
    if copied:
        older, fleet.events = fleet.copied_events()
    await rewind(fleet.context, {0: 1})
    await filled(fleet, "3")
    fleet.forget_copies()  # of an earlier version, which kept none
    before = await fleet.stored()
    if copied:
        fleet.events = older
    else:
        fleet.lose()
    await restore(fleet.context)
    assert await fleet.events.registry.epoch() == 1
    assert await fleet.stored() == before
    await filled(fleet, "4")
    assert (await fleet.stored())[-1] == ("4", 4, "1-0-3")
    page = await fleet.events.feed("", 10)
    assert [event.id for event in page.items] == ["1", "2", "3", "4"]


async def test_append_refuses_a_store_with_events_of_a_later_epoch(fleet: LosingFleet) -> None:
    await filled(fleet, "1")
    await fleet.events.registry.raise_epoch()
    await fleet.events.write([fleet.event("2", version=2, position="3-0-1")])
    with pytest.raises(Misconfigured, match=r"events of epoch 3, .* epoch 1.*restore tally"):
        await fleet.run_append()
    with pytest.raises(Misconfigured, match="restore tally"):
        await rewind(fleet.context, {0: 0})
    await restore(fleet.context)
    assert await fleet.events.registry.epoch() == 3


async def test_the_registry_is_recovered_from_its_copy(fleet: LosingFleet) -> None:
    await filled(fleet, "1", "2")
    registry = fleet.events.registry
    await registry.replace_event_shapes([], [EventShape("Counted", 1, "{}")])
    await registry.note_begun("relay", 0)
    await rewind(fleet.context, {0: 1})
    await registry.register_partition_count(1)
    await fleet.tick_append()
    before = await registry.facts()
    fleet.lose()
    await restore(fleet.context)
    after = await fleet.events.registry.facts()
    assert after._replace(repairs=after.repairs[:1]) == before
    assert before.repairs


async def test_the_copy_of_the_registry_follows_it(fleet: LosingFleet) -> None:
    async def copied() -> RegistryFacts | None:
        return await fleet.context.parked_log.registry_facts()

    append = fleet.append_role()
    await append.open()
    await append.tick()
    assert await copied() is None  # nothing is noted yet
    await fleet.events.registry.register_partition_count(1)
    await append.tick()
    assert await copied() is None
    await fleet.clock.sleep(30)
    await append.tick()
    assert await copied() == await fleet.events.registry.facts()


async def test_a_role_that_has_an_offset_has_begun(fleet: LosingFleet) -> None:
    await filled(fleet, "1")
    fleet.log.offsets[consumer_group(PREFIX, "tally", "relay"), fleet.topics.stored, 0] = 1
    fleet.lose()
    await restore(fleet.context)
    assert await fleet.events.registry.has_begun("relay", 0)


# What append parks


def failing(data: dict[str, Any]) -> dict[str, Any]:
    if data["n"] in "26":
        raise ZeroDivisionError("by nought")
    return data


PARKING = with_changes(marker_tally, upcasters={Counted: [failing]})
MENDED: Domain[Any] = with_changes(marker_tally, upcasters={Counted: [dict]})


@pytest.fixture
def parking() -> LosingFleet:
    return LosingFleet(PARKING)


async def chained(fleet: LosingFleet, *ids: str) -> None:
    """Append events of one aggregate that follow each other."""
    prev = ["", *ids]
    events = [fleet.event(n, prev=before) for n, before in zip(ids, prev, strict=False)]
    await fleet.emit(fleet.topics.events, *events)
    await fleet.run_append()


async def test_accepted_events_that_append_parks_are_restored(parking: LosingFleet) -> None:
    await chained(parking, "1", "2", "3")
    before = await parking.events.unplaced([VersionRange("a", 0, 9)])
    assert [event.id for event in before] == ["2", "3"]
    parking.lose()
    report = await restore(parking.context)
    assert (report.restored, report.parked, report.missing) == (1, 2, [])
    assert await parking.events.unplaced([VersionRange("a", 0, 9)]) == before
    assert await parking.events.heads(["a"]) == {"a": Head(3, "3", 1, "Counted", parked=True)}
    # What was accepted after them goes behind them, and all are placed once the code is mended.
    await parking.emit(parking.topics.events, parking.event("4", prev="3"))
    await parking.run_append()
    parking.domain = MENDED
    [parked] = await parking.dead_letters.parked_in("append", 0)
    await parking.dead_letters.request(parked, None)
    await parking.tick_append()
    await parking.run_append()
    assert [(n, v) for n, v, _ in await parking.stored()] == [(str(n), n) for n in range(1, 5)]


async def test_an_older_copy_that_parks_what_was_placed_since_has_it_placed(
    parking: LosingFleet,
) -> None:
    await chained(parking, "1", "2", "3")
    older, parking.events = parking.copied_events()
    parking.domain = MENDED
    [parked] = await parking.dead_letters.parked_in("append", 0)
    await parking.dead_letters.request(parked, None)
    await parking.tick_append()
    await parking.run_append()
    before, parking.events = await parking.stored(), older
    assert len(before) == 3
    await restore(parking.context)
    assert (await parking.stored(), await parking.events.parked()) == (before, set())


async def test_parked_events_that_the_log_has_no_copy_of_are_named_with_the_rewind(
    parking: LosingFleet,
) -> None:
    await chained(parking, "1", "2", "3")
    parking.forget_copies("event/")
    parking.lose()
    report = await restore(parking.context)
    [missing] = report.missing
    assert missing.startswith("2 events of 'a', versions 2 to 3, which append parks, are not in")
    assert missing.endswith("eventfleet rewind tally --partition 0 --offset 1")
    await rewind(parking.context, {0: 1})
    await parking.run_append()
    parked = await parking.events.unplaced([VersionRange("a", 0, 9)])
    assert [event.id for event in parked] == ["2", "3"]


# What was put, and waits


async def test_what_was_put_and_waits_in_the_log_is_put_again() -> None:
    fleet = LosingFleet(sync_tally)
    await fleet.put_events(fleet.event("1", version=1))
    await fleet.run_append()
    await fleet.put_events(fleet.event("2", version=2))
    before = await fleet.stored()
    fleet.lose()
    report = await restore(fleet.context)
    assert (report.restored, report.put, report.missing) == (1, 1, [])
    assert await fleet.stored() == before
    await fleet.run_append()
    assert await fleet.stored() == [("1", 1, "0-0-0"), ("2", 2, "0-0-1")]


async def test_what_was_put_and_is_in_no_topic_is_named() -> None:
    fleet = LosingFleet(sync_tally)
    await fleet.put_events(*(fleet.event(n, version=v) for v, n in enumerate("12", 1)))
    fleet.lose()
    report = await restore(fleet.context)
    [missing] = report.missing
    assert missing.startswith("'a' version 2 (event 2) was put, and waits in the log, but version")
    assert missing.endswith("send their commands again")


# What the topic no longer keeps


async def test_a_topic_that_has_lost_its_beginning_is_no_source_for_an_empty_store(
    fleet: LosingFleet,
) -> None:
    await filled(fleet, "1")
    await fleet.emit(fleet.topics.events, fleet.event("2", "b"))
    older, fleet.events = fleet.copied_events()
    await fleet.run_append()
    fleet.log.oldest[fleet.topics.stored, 0] = 2  # behind the first record and its marker
    newer, fleet.events = fleet.copied_events()
    fleet.lose()
    reason = r"no record before offset 2, .* filled up to offset 0 .* newer copy"
    with pytest.raises(Misconfigured, match=reason):
        await restore(fleet.context)
    for fleet.events in (older, newer):
        assert not (await restore(fleet.context)).missing
        assert await fleet.events.count() == 2


# Raising the epoch


async def test_the_epoch_of_a_healthy_domain_is_not_raised(fleet: LosingFleet) -> None:
    await filled(fleet, "1", "2")
    with pytest.raises(Misconfigured, match=r"still has .*partition 0 to offset 2.*Nothing was"):
        await raise_epoch(fleet.context)
    assert await fleet.events.registry.epoch() == 0


async def test_the_epoch_is_not_raised_for_an_empty_store_beside_a_log_that_was_taken(
    fleet: LosingFleet,
) -> None:
    await filled(fleet, "1", "2")
    fleet.lose()
    with pytest.raises(Misconfigured, match=r"another store than the group filled.* restore tally"):
        await raise_epoch(fleet.context)


@pytest.mark.parametrize("anew", [[], ["x"], ["x", "y", "z"]], ids=len)
async def test_the_epoch_is_raised_where_the_log_was_made_anew(
    fleet: LosingFleet, anew: list[str]
) -> None:
    await filled(fleet, "1", "2")
    fleet.log.entries(fleet.topics.events, 0).clear()
    await fleet.send(*anew)
    assert await raise_epoch(fleet.context) == 1
    fleet.log.offsets.clear()
    await fleet.run_append()
    assert [name for name, _, _ in await fleet.stored()] == ["1", "2", *anew]


async def test_the_number_of_partitions_changes_with_the_epoch_but_not_under_views(
    fleet: LosingFleet,
) -> None:
    await fleet.events.registry.register_partition_count(4)
    view = View("counts", row=CountRow, project=lambda row, event: row)
    viewed = with_changes(fleet.context, domain=with_changes(tally, views=[view]))
    reason = r"divided by 4.*of a domain with views can't be changed.*topics with 4\. Nothing was"
    with pytest.raises(Misconfigured, match=reason):
        await raise_epoch(viewed)
    assert await fleet.events.registry.epoch() == 0
    assert await raise_epoch(fleet.context) == 1


async def test_an_epoch_that_was_raised_without_need_is_told_as_such(fleet: LosingFleet) -> None:
    await filled(fleet, "1", "2")
    await fleet.events.registry.raise_epoch()
    with pytest.raises(Misconfigured, match=r"raised from 0 to 1, but .* eventfleet restore tally"):
        await fleet.run_append()
    await restore(fleet.context)
    await filled(fleet, "3")
    assert (await fleet.stored())[-1] == ("3", 3, "1-0-2")


@pytest.fixture
def fleet() -> LosingFleet:
    return LosingFleet(tally)
