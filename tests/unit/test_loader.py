"""Loading rows and telling what became of them, over the in-memory servers."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventfleet.domains.process_log import process_log, with_rules
from eventfleet.log_files import LogRow, RowProblem
from eventfleet.log_files.loader import (
    MAX_PROBLEMS,
    PAGE_PLACEMENTS,
    AppendProgress,
    GroupProgress,
    LoadReport,
    Placement,
    Placements,
)
from eventfleet.log_files.loader import await_append as settle_report
from eventfleet.log_files.loader import load as load_rows
from eventfleet.log_files.records import to_events
from eventfleet.log_files.rows import Origin
from eventfleet.model.command_rules import START
from eventfleet.roles.append import AppendRole
from eventfleet.roles.append_parking import AppendParking
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.memory.dead_letters import MemoryDeadLetters
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import (
    MemoryLog,
    MemoryProducer,
    MemoryReader,
    MemoryTransactionalWriter,
)
from eventfleet.topics.event import Position
from eventfleet.topics.names import Topics
from eventfleet.topics.record import ProducerRecord
from eventfleet.topics.topic_specs import declare_topics

PARTITIONS = 3
GROUP = "g.append"
TOPIC = "process_log.events"
ORIGIN = Origin("a.jsonl", "line")
TIME = datetime(2024, 3, 1, tzinfo=UTC)
BAD = RowProblem(ORIGIN, 9, "n", "is bad")

Step = Callable[[], Awaitable[None]]


async def nothing() -> None:
    """What happens while nobody appends."""


class LoaderClock:
    """Time passes by sleeping only, and others do one step meanwhile."""

    def __init__(self, step: Step) -> None:
        self.time, self.step = TIME, step

    def now(self) -> datetime:
        return self.time

    def steady(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)
        await self.step()


class CountingProducer(MemoryProducer):
    """Notes the size of each batch."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log)
        self.batches: list[int] = []

    async def produce(self, records: Sequence[ProducerRecord]) -> list[Position]:
        self.batches.append(len(records))
        return await super().produce(records)


class LoaderFleet:
    """The log, the store, and appends that do up to `size` records of each partition a step."""

    def __init__(self, size: int = 100, marked: bool = False) -> None:
        self.log, self.store, self.size = MemoryLog(), MemoryEvents(PARTITIONS), size
        for spec in declare_topics(Topics.of("process_log", ""), PARTITIONS, 1, -1):
            self.log.create(spec)
        self.producer, self.reader = CountingProducer(self.log), MemoryReader(self.log)
        self.appends = [self._append(partition, marked) for partition in range(PARTITIONS)]

    async def load(self, rows: Any) -> LoadReport:
        return await load_rows(rows, process_log, self.producer, partitions=PARTITIONS)

    async def settle(self, report: LoadReport, step: Step | None = None) -> LoaderClock:
        clock = LoaderClock(step or self.append)
        following = GroupProgress(self.reader, GROUP, clock, patience=5.0)
        await settle_report(report, process_log, AppendProgress(self.store, following))
        return clock

    async def append(self) -> None:
        for partition, append in enumerate(self.appends):
            start = await append.open()
            records = [
                r async for r in self.reader.read(TOPIC, partition, start, start + self.size)
            ]
            if records:
                await append.process(records, records[-1].offset + 1)

    def _append(self, partition: int, marked: bool) -> AppendRole:
        writer = MemoryTransactionalWriter(self.log, GROUP, TOPIC, partition)
        clock = LoaderClock(nothing)
        domain = with_rules(process_log, {"Check": {START}}) if marked else process_log
        return AppendRole(
            domain,
            partition,
            self.store,
            writer,
            clock,
            AppendParking(
                *(domain.topics, partition, MemoryDeadLetters(), clock, self.store),
                MemoryProducer(self.log),
            ),
            cached=1000,
        )


def rows(count: int, first: int = 0, text: str = "") -> list[LogRow]:
    return [
        LogRow(
            ORIGIN, number + 1, f"case-{number % 40}", "Check", TIME, {"n": number, "text": text}
        )
        for number in range(first, first + count)
    ]


def figures(report: LoadReport) -> tuple[int, int, int, int, int]:
    """Offered, accepted, repeated, refused, pending."""
    counts = report.accepted, report.repeated, report.refused, report.pending
    assert report.offered == sum(counts) + report.rejected
    return report.offered, *counts


async def test_good_rows_are_accepted_and_bad_ones_refused() -> None:
    fleet = LoaderFleet()
    report = await fleet.load([*rows(10), BAD, *rows(10, first=10)])
    assert figures(report) == (21, 0, 0, 1, 20)
    await fleet.settle(report)
    assert figures(report) == (21, 20, 0, 1, 0)
    assert report.problems == ["a.jsonl, line 9: n: is bad"]
    assert await fleet.store.count() == 20


async def test_events_of_a_case_keep_the_order_of_the_rows() -> None:
    fleet = LoaderFleet()
    await fleet.settle(await fleet.load(rows(2000)))
    for case in range(40):
        numbers = [event.data["n"] async for event in fleet.store.read(f"case-{case}")]
        assert numbers == list(range(case, 2000, 40))


async def test_a_second_load_is_seen_as_repeated_and_what_is_new_as_accepted() -> None:
    fleet = LoaderFleet()
    await fleet.settle(await fleet.load(rows(100)))
    report = await fleet.load(rows(130))
    await fleet.settle(report)
    assert figures(report) == (130, 30, 100, 0, 0)
    assert await fleet.store.count() == 130


async def test_the_same_offset_of_an_earlier_epoch_is_another_position() -> None:
    fleet, anew = LoaderFleet(), LoaderFleet()
    await fleet.settle(await fleet.load(rows(10)))
    anew.store = fleet.store
    await anew.store.registry.raise_epoch()
    report = await anew.load(rows(10))
    anew.log.offsets = {(GROUP, TOPIC, partition): 10 for partition in range(PARTITIONS)}
    await anew.settle(report, nothing)
    assert figures(report) == (10, 0, 10, 0, 0)


async def test_what_append_makes_a_dead_letter_counts_as_refused() -> None:
    fleet = LoaderFleet(marked=True)
    report = await fleet.load(rows(1))
    await fleet.settle(report)
    assert figures(report) == (1, 0, 0, 1, 0)
    [problem] = report.problems
    assert problem.startswith("process_log.events, partition ")
    where = "offset 0: append made it a dead letter, see process_log.dead-letters"
    assert problem.endswith(f", {where}")


async def test_the_waiting_ends_when_append_stands_still_and_counts_what_is_pending() -> None:
    fleet = LoaderFleet(size=5)
    report = await fleet.load(rows(100))
    await fleet.append()
    clock = await fleet.settle(report, nothing)
    assert figures(report) == (100, 15, 0, 0, 85)
    assert clock.time - TIME == timedelta(seconds=5)


async def test_the_waiting_lasts_as_long_as_append_moves() -> None:
    fleet = LoaderFleet(size=1)
    report = await fleet.load(rows(400))
    clock = await fleet.settle(report)
    assert figures(report) == (400, 400, 0, 0, 0)
    assert clock.time - TIME > timedelta(seconds=5)


async def test_a_log_that_is_away_for_a_while_does_not_end_the_waiting() -> None:
    fleet = LoaderFleet()
    report = await fleet.load(rows(10))
    committed, away = fleet.reader.committed, iter(range(3))

    async def unsteady(group: str, topic: str) -> dict[int, int]:
        if next(away, None) is not None:
            raise ServerUnavailable("away")
        return await committed(group, topic)

    fleet.reader.committed = unsteady  # type: ignore[method-assign]
    await fleet.settle(report)
    assert figures(report) == (10, 10, 0, 0, 0)


async def test_rows_are_taken_a_bounded_batch_at_a_time() -> None:
    fleet, taken = LoaderFleet(), 0
    ahead: list[int] = []

    def counted() -> Iterator[LogRow]:
        nonlocal taken
        for row in rows(1700):
            taken += 1
            yield row

    report = await load_rows(
        counted(),
        process_log,
        fleet.producer,
        lambda r: ahead.append(taken - r.pending),
        partitions=PARTITIONS,
    )
    assert report.pending == sum(fleet.producer.batches) == 1700
    assert max(fleet.producer.batches) <= 500
    assert max(ahead) == 0


async def test_batches_of_large_rows_are_bounded_in_bytes() -> None:
    fleet = LoaderFleet()
    await fleet.load(rows(20, text="x" * 900_000))
    assert max(fleet.producer.batches) <= 5


async def test_the_first_problems_are_kept_and_all_are_counted() -> None:
    report = await LoaderFleet().load([BAD._replace(number=number) for number in range(1, 1001)])
    assert figures(report) == (1000, 0, 0, 1000, 0)
    assert len(report.problems) == MAX_PROBLEMS
    assert report.problems[0] == "a.jsonl, line 1: n: is bad"


async def test_events_that_are_made_already_are_taken_as_they_are() -> None:
    fleet = LoaderFleet()
    made = list(to_events(rows(3), process_log))
    await fleet.settle(await fleet.load(made))
    keys = [item.event.key for item in made if not isinstance(item, RowProblem)]
    assert set(await fleet.store.find(keys)) == set(keys)


async def test_a_log_that_does_not_answer_ends_the_load() -> None:
    class Away(MemoryProducer):
        async def produce(self, records: Sequence[ProducerRecord]) -> list[Position]:
            raise ServerUnavailable("away")

    with pytest.raises(ServerUnavailable):
        await load_rows(rows(1), process_log, Away(MemoryLog()), partitions=PARTITIONS)


def test_placements_hold_ids_of_any_length() -> None:
    given = [
        Placement("메시지" * 85, "방" * 255, 2, 7),
        Placement("7", "r", 0, 2**40),
        Placement("65f0c1d2e3a4b5c6d7e8f901", "r", 0, 2**40 + 1),
    ]
    placements = Placements()
    for placement in given:
        placements.add(placement)
    [page] = placements.pages()
    placements.close()
    assert page == given


def test_placements_come_back_in_order_also_from_disk() -> None:
    placements = Placements()
    count = 320_000  # more than is held in memory
    for number in range(count):
        event_id = f"00000000-0000-5000-8000-{number:012x}"
        placements.add(Placement(event_id, f"주문-{number % 7}", number % 3, number))
    pages = list(placements.pages())
    placements.close()
    assert max(len(page) for page in pages) <= PAGE_PLACEMENTS
    back = [placement.offset for page in pages for placement in page]
    assert back == list(range(count))
    assert pages[0][1] == ("00000000-0000-5000-8000-000000000001", "주문-1", 1, 1, 0)
    assert placements.ends == {0: 319_999, 1: 320_000, 2: 319_998}
