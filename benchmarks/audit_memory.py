"""`python -m benchmarks.audit_memory` measures the audit of millions of generated events.

Store and log are generated as they are read: nothing of them stays in memory, so what the process
takes is the audit's own. One event is missing from the store, which the audit must find, and no
other fault.
"""

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Collection
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from typing import Any, NamedTuple

import click
import orjson
from msgspec.structs import replace

from eventfleet.audit import Auditor, AuditReport
from eventfleet.model.domain import Domain, Route
from eventfleet.model.payloads import Event, State
from eventfleet.stores.contracts import (
    DomainStores,
    Head,
    Page,
    Snapshot,
    Watermarks,
)
from eventfleet.stores.memory.registry import MemoryRegistry
from eventfleet.topics.codec import encode
from eventfleet.topics.event import EventRecord
from eventfleet.topics.record import LogRecord
from eventfleet.topics.reply import encode_reply

PARTITIONS = 4
AGGREGATE_EVENTS = 50
INTERLEAVED_AGGREGATES = 500
BLOCK_EVENTS = AGGREGATE_EVENTS * INTERLEAVED_AGGREGATES
MISSING = "a0000007", 25
MAX_MEBIBYTES = 300
START = datetime(2025, 1, 1, tzinfo=UTC)


class Booked(Event):
    cents: int
    text: str


class Account(State):
    cents: int = 0
    bookings: int = 0


def evolve(account: Account, event: Booked) -> Account:
    return replace(account, cents=account.cents + event.cents, bookings=account.bookings + 1)


ROUTE = "generated.bookings"
generated = Domain(
    "generated", state=Account, evolve=evolve, events=[Booked], routes=[Route(ROUTE)]
)


def make_event(number: int, version: int) -> EventRecord:
    """Make an event of aggregate `number`, as append leaves it."""
    index, partition = divmod(number, PARTITIONS)
    block, place = divmod(index, INTERLEAVED_AGGREGATES)
    offset = block * BLOCK_EVENTS + (version - 1) * INTERLEAVED_AGGREGATES + place
    return EventRecord(
        id=f"e{number:07}-{version}",
        type="Booked",
        domain="generated",
        aggregate_id=f"a{number:07}",
        time=START,
        data={"cents": version, "text": "a booking of some forty bytes, as many are"},
        version=version,
        position=f"0-{partition}-{offset}",
    )


def event_at(partition: int, offset: int) -> EventRecord:
    """Make the event at an offset of the log."""
    block, rest = divmod(offset, BLOCK_EVENTS)
    version, place = divmod(rest, INTERLEAVED_AGGREGATES)
    index = block * INTERLEAVED_AGGREGATES + place
    return make_event(index * PARTITIONS + partition, version + 1)


def make_snapshot(number: int) -> Snapshot:
    """Make the snapshot of an aggregate's last version."""
    cents = AGGREGATE_EVENTS * (AGGREGATE_EVENTS + 1) // 2
    state = {"cents": cents, "bookings": AGGREGATE_EVENTS}
    return Snapshot(f"a{number:07}", AGGREGATE_EVENTS, state, 1, START)


class GeneratedEvents:
    """The part of an EventStore that an audit reads."""

    def __init__(self, aggregates: int) -> None:
        self._aggregates = aggregates
        self.registry = MemoryRegistry()

    async def count(self) -> int:
        return self._aggregates * AGGREGATE_EVENTS - 1

    async def aggregates(self, cursor: str, limit: int, partition: int | None = None) -> Page:
        first = int(cursor or 0)
        end = min(first + limit, self._aggregates)
        return Page([f"a{number:07}" for number in range(first, end)], str(end))

    async def heads(self, aggregate_ids: Collection[str]) -> dict[str, Head]:
        version = AGGREGATE_EVENTS
        return {
            key: Head(version, f"e{key[1:]}-{version}", version, "Booked") for key in aggregate_ids
        }

    async def read_all(self, keys: Collection[str], limit: int) -> list[EventRecord] | None:
        return [event for key in keys for event in self._events(key)]

    async def read(
        self, aggregate_id: str, *, up_to: int | None = None, limit: int | None = None
    ) -> AsyncIterator[EventRecord]:
        for event in self._events(aggregate_id)[:limit]:
            if up_to is None or event.version <= up_to:
                yield event

    def _events(self, aggregate_id: str) -> list[EventRecord]:
        versions = (v for v in range(1, AGGREGATE_EVENTS + 1) if (aggregate_id, v) != MISSING)
        return [make_event(int(aggregate_id[1:]), version) for version in versions]


class GeneratedSnapshots:
    """The part of a SnapshotStore that an audit reads."""

    def __init__(self, aggregates: int) -> None:
        self._aggregates = aggregates

    async def latest(self, keys: Collection[str], state_version: int) -> dict[str, Snapshot]:
        return {key: make_snapshot(int(key[1:])) for key in keys}

    async def at(self, aggregate_id: str, version: int, state_version: int) -> None:
        return None

    async def count(self) -> int:
        return self._aggregates


class GeneratedLog:
    """The part of a LogReader that an audit needs."""

    def __init__(self, aggregates: int) -> None:
        self._aggregates = aggregates // PARTITIONS
        self._events = self._aggregates * AGGREGATE_EVENTS

    async def watermarks(self, topic: str) -> dict[int, Watermarks]:
        ends = {"snapshots": self._aggregates, "dead-letters": 0, "commands": 0}
        end = ends.get(topic.partition(".")[2], self._events)
        return {partition: Watermarks(0, end) for partition in range(PARTITIONS)}

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        return dict.fromkeys(range(PARTITIONS), self._events)

    async def read(
        self, topic: str, partition: int, start: int, end: int
    ) -> AsyncIterator[LogRecord]:
        for offset in range(start, end):
            key, value = self._record(topic, partition, offset)
            yield LogRecord(topic, partition, offset, key.encode(), value)

    def _record(self, topic: str, partition: int, offset: int) -> tuple[str, bytes]:
        if topic == "generated.snapshots":
            snapshot = make_snapshot(offset * PARTITIONS + partition)
            return snapshot.aggregate_id, orjson.dumps(snapshot)
        event = event_at(partition, offset)
        if topic == "generated.replies":
            details = {"event_id": event.id, "place": f"generated.events/{partition}"}
            value = encode_reply(event, "accepted", details)
        elif topic == "generated.events":
            value = encode(replace(event, version=0, position=None))
        else:
            value = encode(event)
        return event.aggregate_id, value


class Measurement(NamedTuple):
    """The figures of an audit: seconds, and the process's peak of resident memory."""

    events: int
    seconds: float
    mebibytes: float
    violations: list[str]


def measure(events: int) -> Measurement:
    """Audit generated events in this process."""
    blocks = -(-events // (BLOCK_EVENTS * PARTITIONS))
    aggregates = blocks * INTERLEAVED_AGGREGATES * PARTITIONS
    began = time.monotonic()
    report = asyncio.run(_audit(aggregates))
    seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    faults = [": ".join(map(str, found)) for found in (*report.violations, *report.problems)]
    return Measurement(report.stored, seconds, peak, faults)


async def _audit(aggregates: int) -> AuditReport:
    events: Any = GeneratedEvents(aggregates)
    log: Any = GeneratedLog(aggregates)
    for partition, offset in (await log.committed("", "")).items():
        await events.registry.note_next_offset(partition, 0, offset)
    snapshots: Any = GeneratedSnapshots(aggregates)
    stores = DomainStores(events, snapshots)
    auditor = Auditor(generated, stores, log, group_prefix="generated", exactly_once=True)
    return await auditor.run()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--events", envvar="EVENTS", default=5_000_000, show_default=True)
def main(events: int) -> None:
    """Audit generated events; the exit status is 1 when it takes MAX_MEBIBYTES or finds other
    faults than the one that is there.

    EVENTS is an environment variable too.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        measured = pool.submit(measure, events).result()
    rate = measured.events / measured.seconds
    click.echo(
        f"{measured.events:,} events in {measured.seconds:.0f} s ({rate:,.0f} a second),"
        f" {measured.mebibytes:.0f} MiB at most"
    )
    for fault in measured.violations:
        click.echo(fault)
    found = any(f"version {MISSING[1]} is missing" in fault for fault in measured.violations)
    raise SystemExit(not (found and measured.mebibytes < MAX_MEBIBYTES))


if __name__ == "__main__":
    main()
