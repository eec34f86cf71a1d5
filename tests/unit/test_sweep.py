"""Sweep: what is produced again of the events that were put and never placed."""

from datetime import UTC, datetime, timedelta

from eventfleet.roles.role import ChunkReport
from eventfleet.roles.sweep import Sweep
from eventfleet.stores.contracts import AssignPosition
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import MemoryLog, MemoryProducer
from eventfleet.topics.codec import decode
from eventfleet.topics.topic_specs import declare_topics
from tests.contract.samples import DOMAIN, at, event


class SweepClock:
    time = datetime(2025, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("a sweep does not wait")


class SweepFixture:
    def __init__(self) -> None:
        self.log, self.events, self.clock = (
            MemoryLog(),
            MemoryEvents(2, domain=DOMAIN),
            SweepClock(),
        )
        for spec in declare_topics(DOMAIN, 2, 1, -1):
            self.log.create(spec)
        self.sweep = Sweep(DOMAIN, 1, self.events, MemoryProducer(self.log), self.clock)

    async def after(self, seconds: float) -> ChunkReport:
        self.clock.time += timedelta(seconds=seconds)
        return await self.sweep.tick()

    def produced(self) -> list[str]:
        entries = self.log.entries(f"{DOMAIN}.events", 1)
        return [decode(entry.record.value).id for entry in entries if entry.record]


async def test_what_two_sweeps_running_have_seen_is_produced_the_highest_version_only() -> None:
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


async def test_what_was_placed_in_between_is_left_alone() -> None:
    desk = SweepFixture()
    await desk.events.put([event("s1", 1)], 1)
    await desk.after(2)
    await desk.events.write([AssignPosition(event("s1", 1), at(0, 1))])
    await desk.after(2)
    await desk.after(2)
    assert desk.produced() == []
