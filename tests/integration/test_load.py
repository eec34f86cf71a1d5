"""A load into Apache Kafka, and what append makes of it."""

import csv
import gzip
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from eventfleet.domains.process_log import process_log
from eventfleet.log_files import open_log
from eventfleet.log_files.loader import (
    AppendProgress,
    GroupProgress,
    LoadReport,
    await_append,
    load,
)
from eventfleet.model.domain import Domain
from eventfleet.roles.append import AppendRole
from eventfleet.roles.append_parking import AppendParking
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.kafka.admin import Admin
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.producer import Producer
from eventfleet.stores.kafka.reader import Reader
from eventfleet.stores.kafka.transactional_writer import TransactionalWriter
from eventfleet.stores.memory.dead_letters import MemoryDeadLetters
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import MemoryLog, MemoryProducer
from eventfleet.topics.codec import EVENT_HEADERS
from eventfleet.topics.names import Topics
from eventfleet.topics.topic_specs import declare_topics

PARTITIONS = 4
RECEIPT = Path(__file__).parents[3] / "shared" / "data" / "receipt.csv.gz"


@dataclass
class LoadFleet:
    """A domain of the test's own, its topics on Kafka, and an append that runs when told to."""

    domain: Domain[Any]
    connection: Connection
    writer: Producer
    reader: Reader
    store: MemoryEvents

    @property
    def group(self) -> str:
        return f"{self.domain.name}.append"

    async def load(self, path: Path) -> LoadReport:
        with open_log(path) as log:
            return await load(log, self.domain, self.writer, partitions=PARTITIONS)

    async def settle(self, report: LoadReport, patience: float = 30.0) -> None:
        following = GroupProgress(self.reader, self.group, SystemClock(), patience)
        appending = AppendProgress(self.store, following)
        await await_append(report, self.domain, appending)

    async def append(self) -> None:
        """All that is in the log, in chunks, until its end as of now."""
        topic = self.domain.topics.events
        for partition, limit in (await self.reader.watermarks(topic)).items():
            owner = TransactionalWriter(self.connection, self.group, topic, partition)
            role = AppendRole(
                self.domain,
                partition,
                self.store,
                owner,
                SystemClock(),
                AppendParking(
                    *(
                        self.domain.topics,
                        partition,
                        MemoryDeadLetters(),
                        SystemClock(),
                        self.store,
                    ),
                    MemoryProducer(MemoryLog()),
                ),
                cached=10_000,
            )
            start = await role.open()
            records = [r async for r in self.reader.read(topic, partition, start, limit.end)]
            for first in range(0, len(records), 1000):
                chunk = records[first : first + 1000]
                await role.process(chunk, chunk[-1].offset + 1)
            await role.close()


@pytest.fixture
async def fleet(kafka: str, prefix: str) -> AsyncIterator[LoadFleet]:
    connection = Connection(kafka)
    domain = replace(process_log, name=prefix)
    await Admin(connection).create(declare_topics(Topics.of(prefix, ""), PARTITIONS, 1, -1))
    writer, reader = Producer(connection), Reader(connection)
    yield LoadFleet(domain, connection, writer, reader, MemoryEvents(PARTITIONS))
    await writer.close()
    await reader.close()


def figures(report: LoadReport) -> tuple[int, int, int, int, int]:
    """Offered, accepted, repeated, refused, pending."""
    counts = report.accepted, report.repeated, report.refused, report.pending
    assert report.offered == sum(counts)
    return report.offered, *counts


async def test_a_real_log_is_stored_in_file_order_and_a_second_load_adds_nothing(
    fleet: LoadFleet,
) -> None:
    if not RECEIPT.exists():
        pytest.skip(f"{RECEIPT.name} is not beside the checkout")
    first = await fleet.load(RECEIPT)
    await fleet.append()
    await fleet.settle(first)
    assert figures(first) == (8577, 8577, 0, 0, 0)

    second = await fleet.load(RECEIPT)
    await fleet.append()
    await fleet.settle(second)
    assert figures(second) == (8577, 0, 8577, 0, 0)
    assert await fleet.store.count() == 8577

    cases = defaultdict(list)
    with gzip.open(RECEIPT, "rt", newline="", encoding="utf-8") as text:
        for cells in csv.DictReader(text):
            cases[cells["case:concept:name"]].append(cells["concept:name"])
    assert len(cases) == 1434
    for case, activities in cases.items():
        assert [event.type async for event in fleet.store.read(case)] == activities


async def test_true_duplicates_stay_and_bad_rows_are_counted(
    fleet: LoadFleet, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    same = "c-1,Check,2024-03-01\n"
    path.write_text(
        "case:concept:name,concept:name,time:timestamp\n" + same + "c-1,Check\n" + same + same
    )
    report = await fleet.load(path)
    await fleet.append()
    await fleet.settle(report)
    assert figures(report) == (4, 3, 0, 1, 0)
    assert report.problems == [f"{path}, line 3: has 2 fields, the header has 3"]
    assert [event.version async for event in fleet.store.read("c-1")] == [1, 2, 3]


async def test_records_have_the_case_as_key_and_their_content_type(
    fleet: LoadFleet, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "case:concept:name,concept:name,time:timestamp\nc-é,Check,2011-10-11\n", encoding="utf-8"
    )
    await fleet.load(path)
    topic = fleet.domain.topics.events
    found = [
        record
        for partition, limit in (await fleet.reader.watermarks(topic)).items()
        async for record in fleet.reader.read(topic, partition, 0, limit.end)
    ]
    assert [(r.key, r.headers) for r in found] == [("c-é".encode(), EVENT_HEADERS)]


async def test_the_waiting_ends_where_append_does_not_run(fleet: LoadFleet, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "case:concept:name,concept:name,time:timestamp\n"
        + "".join(f"c-{i},Check,2024-03-01\n" for i in range(50))
    )
    report = await fleet.load(path)
    await fleet.settle(report, patience=1.0)
    assert figures(report) == (50, 0, 0, 0, 50)
