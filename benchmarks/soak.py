"""`python -m benchmarks.soak`: a whole fleet under a steady load, and what memory it keeps.

The load has more orders than the caches hold, so that states and heads go and come again all the
time. Resident memory may grow by GROWTH from minute SETTLED to the end; then the audit must be
clean.
"""

import asyncio
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import click
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from benchmarks.scenario import Servers
from benchmarks.servers import servers
from eventfleet.cli.sample_orders import sample
from eventfleet.domains.orders import orders
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.producer import Producer
from eventfleet.topics.codec import encode
from eventfleet.topics.event import EventRecord
from eventfleet.topics.names import Topics
from eventfleet.topics.record import ProducerRecord
from tests.acceptance.command_fleet import Commanded
from tests.acceptance.fleet import Worker
from tests.acceptance.kafka_by_hand import wait_for

ROLES = ("command", "append", "snapshot", "relay")
CACHED = 500
SETTLED = 5
GROWTH = 0.05
SEASON = 20_000
SAMPLE_SECONDS = 10.0
BATCH_SECONDS = 0.5
MEBIBYTE = 1024 * 1024
PAGE = resource.getpagesize()


@dataclass
class Memory:
    """The resident bytes of one worker, by seconds since the start."""

    worker: Worker
    samples: list[tuple[float, int]] = field(default_factory=list)

    def take(self, seconds: float) -> None:
        """RuntimeError when the worker has ended."""
        if (status := self.worker.process.poll()) is not None:
            raise RuntimeError(f"{self.worker.roles} ended with {status}:\n{self.worker.said()}")
        pages = int(Path(f"/proc/{self.worker.process.pid}/statm").read_text().split()[1])
        self.samples.append((seconds, pages * PAGE))

    def during(self, minute: float) -> float:
        """The median within the minute that ends here."""
        return median(size for at, size in self.samples if minute - 1 < at / 60 <= minute)


@dataclass
class Load:
    """What was sent so far."""

    sent: int = 0
    orders: set[str] = field(default_factory=set)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--minutes", envvar="MINUTES", default=30, show_default=True, type=click.IntRange(6))
@click.option("--rate", envvar="RATE", default=200, show_default=True, help="Commands a second.")
def main(minutes: int, rate: int) -> None:
    """Load a fleet for so many minutes; status 1 when memory grows or the audit is not clean.

    MINUTES and RATE are environment variables too.
    """
    with servers() as places, TemporaryDirectory(prefix="eventfleet-soak-") as folder:
        met = _soaked(places, Path(folder), minutes, rate)
    raise SystemExit(not met)


def _soaked(places: Servers, folder: Path, minutes: int, rate: int) -> bool:
    console = Console(highlight=False)
    with Commanded(
        (places.kafka, places.mongo_url, places.redis_url),
        folder,
        "eventfleet.domains.orders",
        CACHED_AGGREGATES=str(CACHED),
    ) as fleet:
        memories = [Memory(worker) for worker in fleet.start(*ROLES)]
        load = asyncio.run(_loaded(places.kafka, memories, minutes, rate))
        console.print(f"{load.sent:,} commands of {len(load.orders):,} orders; {CACHED} cached")
        _settle(fleet)
        text, report = fleet.audit()
        console.print(text)
    met = [_told(console, memories, minutes)]
    met.append(bool(report["clean"]) and not report["dead_letters"])
    return all(met)


async def _loaded(kafka: str, memories: Sequence[Memory], minutes: int, rate: int) -> Load:
    load, began = Load(), time.monotonic()
    sampling = asyncio.create_task(_sampled(memories, began))
    producer, source = Producer(Connection(kafka)), _commands()
    topic = Topics.of(orders.name).commands
    try:
        while (passed := time.monotonic() - began) < minutes * 60:
            batch = list(islice(source, max(1, int(rate * passed) - load.sent)))
            await producer.produce(
                [ProducerRecord(topic, c.aggregate_id.encode(), encode(c)) for c in batch]
            )
            load.sent += len(batch)
            load.orders.update(command.aggregate_id for command in batch)
            await asyncio.wait({sampling}, timeout=BATCH_SECONDS)
            if sampling.done():
                break
    finally:
        await producer.close()
        sampling.cancel()
        await asyncio.wait({sampling})
    if not sampling.cancelled():
        sampling.result()
    return load


async def _sampled(memories: Sequence[Memory], began: float) -> None:
    """Until it is cancelled."""
    for number in count(1):
        await asyncio.sleep(began + number * SAMPLE_SECONDS - time.monotonic())
        for memory in memories:
            memory.take(time.monotonic() - began)


def _commands() -> Iterator[EventRecord]:
    """One season after another, each of SEASON orders of its own."""
    for seed in count(1):
        for command, _ in sample(SEASON, seed):
            yield replace(command, aggregate_id=f"{command.aggregate_id}-of-{seed}")


def _settle(fleet: Commanded) -> None:
    """Until every role has passed all; as long as it takes, while something moves."""
    for role, kind in (("command", "commands"), ("append", "events"), ("snapshot", "stored")):
        _passed(fleet, role, kind)
    _passed(fleet, "relay", "stored")


def _passed(fleet: Commanded, role: str, kind: str) -> None:
    group, topic = fleet.group(role), fleet.topic(kind)
    while fleet.kafka.waiting(group, topic):
        at = fleet.kafka.offsets(group, topic)
        wait_for(lambda at=at: fleet.kafka.offsets(group, topic) != at, f"{role} to go on")  # type: ignore[misc]


def _told(console: Console, memories: Sequence[Memory], minutes: int) -> bool:
    """Show each worker's memory; whether none has grown too much."""
    table = Table("worker", f"minute {SETTLED}, MiB", "end, MiB", "most, MiB", "growth", "met")
    growths = []
    for memory in memories:
        first, last = memory.during(SETTLED), memory.during(minutes)
        growths.append(last / first - 1)
        sizes = (first, last, max(size for _, size in memory.samples))
        table.add_row(
            " ".join(memory.worker.roles),
            *(f"{size / MEBIBYTE:.1f}" for size in sizes),
            f"{growths[-1]:+.1%}",
            "yes" if growths[-1] <= GROWTH else "no",
        )
    console.print(table)
    return max(growths) <= GROWTH


if __name__ == "__main__":
    main()
