"""Finds in Kafka and the store what a frozen worker had begun and not finished."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.fleet import SOURCES, Fleet, Worker
from tests.acceptance.kafka_by_hand import run
from tests.faults.fleet_oracle import ROUTED

SECOND_LOOK_SECONDS = 0.5
TARGETS = {"append": ["orders.stored"], "snapshot": ["orders.snapshots"], "relay": [*ROUTED]}

Offsets = Mapping[TopicPartition, int]


@dataclass(frozen=True)
class HalfDone:
    """Records that waited, partitions with an open transaction, events stored but not committed."""

    waiting: int
    open: frozenset[TopicPartition]
    uncommitted: int

    def __bool__(self) -> bool:
        return self.waiting > 0 and (bool(self.open) or self.uncommitted > 0)


def get(worker: Worker, path: str) -> tuple[int, str]:
    """`Worker.get`, with status 0 for a worker that does not answer."""
    try:
        return worker.get(path)
    except OSError:
        return 0, ""


def owned_partitions(worker: Worker) -> frozenset[int]:
    """The partitions of the worker, by its metrics."""
    return frozenset(
        int(sample.labels["partition"])
        for family in text_string_to_metric_families(get(worker, "/metrics")[1])
        for sample in family.samples
        if sample.name == "eventfleet_lag"
    )


def find_half_done(fleet: Fleet, role: str, owned: Iterable[int]) -> HalfDone:
    """The half-done work of the frozen owner of these partitions.

    The end of a transaction that the broker has accepted takes a moment to show. Only what was
    there at two looks counts.
    """
    first = _look(fleet, role, owned)
    if not first:
        return first
    time.sleep(SECOND_LOOK_SECONDS)
    second = _look(fleet, role, owned)
    return HalfDone(
        min(first.waiting, second.waiting),
        first.open & second.open,
        min(first.uncommitted, second.uncommitted),
    )


def _look(fleet: Fleet, role: str, owned: Iterable[int]) -> HalfDone:
    source = fleet.topic(SOURCES[role])
    sources = [TopicPartition(source, p) for p in owned]
    targets = [TopicPartition(topic, p) for topic in TARGETS[role] for p in owned]
    committed, ends, stable, high = run(_offsets(fleet, role, sources, targets))
    waiting = sum(max(0, ends[tp] - committed.get(tp, 0)) for tp in sources)
    open_ones = frozenset(tp for tp in targets if high[tp] > stable[tp])
    uncommitted = 0
    if role == "append":
        for tp in sources:
            ahead = {"partition": tp.partition, "offset": {"$gte": committed.get(tp, 0)}}
            uncommitted += fleet.events.count_documents(ahead)
    return HalfDone(waiting, open_ones, uncommitted)


async def _offsets(
    fleet: Fleet, role: str, sources: list[TopicPartition], targets: list[TopicPartition]
) -> tuple[Offsets, Offsets, Offsets, Offsets]:
    """Committed offsets and ends of the sources; ends of the targets, committed and of all."""
    address: dict[str, Any] = {"bootstrap_servers": fleet.kafka.address}
    committed_only = {"isolation_level": "read_committed", "enable_auto_commit": False}
    async with (
        AIOKafkaConsumer(**address, **committed_only, group_id=fleet.group(role)) as committed,
        AIOKafkaConsumer(**address) as uncommitted,
    ):
        found = {tp: await committed.committed(tp) or 0 for tp in sources}
        ends = await committed.end_offsets(sources)
        high = await uncommitted.end_offsets(targets)
        stable = await committed.end_offsets(targets)
    return found, ends, stable, high
