"""Sweep: what is produced again of the events that were put and never placed."""

from datetime import timedelta

from eventfleet.roles.role import ChunkReport
from eventfleet.roles.sweep import Sweep
from eventfleet.stores.contracts import AssignPosition
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import MemoryLog, MemoryProducer, MemoryTransactionalWriter
from eventfleet.topics.codec import decode, encode
from eventfleet.topics.names import Topics
from eventfleet.topics.record import ProducerRecord
from eventfleet.topics.topic_specs import declare_topics
from tests.contract.samples import DOMAIN, at, event
from tests.simulation.in_memory_servers import HandClock


class SweepFixture:
    def __init__(self) -> None:
        self.log, self.events, self.clock = MemoryLog(), MemoryEvents(2, domain=DOMAIN), HandClock()
        for spec in declare_topics(Topics.of(DOMAIN, ""), 2, 1, -1):
            self.log.create(spec)
        self.owner = MemoryTransactionalWriter(self.log, "append", f"{DOMAIN}.events", 1)
        self.producer = MemoryProducer(self.log)
        self.sweep = Sweep(
            *(f"{DOMAIN}.events", 1, self.events, self.producer, self.owner.watermarks, self.clock)
        )

    async def after(self, seconds: float, next_offset: int | None = None) -> ChunkReport:
        """A tick; append has come to this offset, or else to the end of the log."""
        self.clock.time += timedelta(seconds=seconds)
        if next_offset is None:
            next_offset = (await self.owner.watermarks()).end
        return await self.sweep.tick(next_offset)

    async def publish(self, stream: str, version: int) -> None:
        value = encode(event(stream, version))
        await self.producer.produce([ProducerRecord(f"{DOMAIN}.events", b"k", value, 1)])

    def produced(self) -> list[str]:
        entries = self.log.entries(f"{DOMAIN}.events", 1)
        return [decode(entry.record.value).id for entry in entries if entry.record]


async def test_what_append_has_not_met_in_the_log_is_produced_the_highest_version_only() -> None:
    desk = SweepFixture()
    await desk.events.put([event("s1", 1), event("s1", 2)], 1)
    await desk.events.put([event("s2", 1)], 0)
    assert await desk.after(0) == ChunkReport()
    await desk.events.put([event("s3", 1)], 1)
    assert await desk.after(1) == ChunkReport()
    assert await desk.after(1) == ChunkReport(nudged=1)
    assert desk.produced() == ["s1-2"]
    assert await desk.after(2) == ChunkReport(nudged=2)
    assert desk.produced() == ["s1-2", "s1-2", "s3-1"]


async def test_what_lies_in_the_log_before_an_append_that_is_behind_is_left_alone() -> None:
    desk = SweepFixture()
    await desk.events.put([event("s1", 1)], 1)
    await desk.publish("s1", 1)
    for _ in range(5):
        assert await desk.after(2, next_offset=0) == ChunkReport()
    assert desk.produced() == ["s1-1"]
    await desk.events.write([AssignPosition(event("s1", 1), at(0, 1))])
    assert await desk.after(2) == ChunkReport()


async def test_what_was_nudged_is_not_nudged_again_before_append_has_met_it() -> None:
    desk = SweepFixture()
    await desk.events.put([event("s1", 1)], 1)
    await desk.after(2)
    assert await desk.after(2) == ChunkReport(nudged=1)
    for _ in range(3):
        assert await desk.after(2, next_offset=0) == ChunkReport()
    assert await desk.after(2) == ChunkReport(nudged=1)


async def test_new_events_of_an_aggregate_that_append_keeps_up_with_are_left_alone() -> None:
    desk = SweepFixture()
    for version in range(1, 5):
        await desk.events.put([event("s1", version)], 1)
        assert await desk.after(2) == ChunkReport()
        await desk.events.write([AssignPosition(event("s1", version), at(version, 1))])


async def test_what_was_placed_in_between_is_left_alone() -> None:
    desk = SweepFixture()
    await desk.events.put([event("s1", 1)], 1)
    await desk.after(2)
    await desk.events.write([AssignPosition(event("s1", 1), at(0, 1))])
    await desk.after(2)
    await desk.after(2)
    assert desk.produced() == []


async def test_a_wall_clock_that_is_set_back_does_not_put_a_sweep_off() -> None:
    desk = SweepFixture()
    await desk.events.put([event("s1", 1)], 1)
    await desk.after(2)
    desk.clock.set(timedelta(hours=-1))
    assert await desk.after(2) == ChunkReport(nudged=1)
