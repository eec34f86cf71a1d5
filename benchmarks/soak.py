"""`python -m benchmarks.soak` runs a fleet under a steady load and measures its memory.

The load has more orders than the caches hold, so that states and heads are evicted and loaded again
all the time. Resident memory may grow by MAX_GROWTH from minute SETTLED_MINUTE to the end; then the
audit must be clean.
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

from benchmarks.scenario import ServerAddresses
from benchmarks.servers import provide_servers
from eventfleet.cli.sample_orders import sample_orders
from eventfleet.domains.orders import orders
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.producer import Producer
from eventfleet.topics.codec import encode
from eventfleet.topics.event import EventRecord
from eventfleet.topics.record import ProducerRecord
from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import Worker
from tests.acceptance.kafka_by_hand import wait_for

ROLES = ("command", "append", "snapshot", "relay")
CACHED_AGGREGATES = 500
SETTLED_MINUTE = 5
MAX_GROWTH = 0.05
ORDERS_PER_SEED = 20_000
SAMPLE_INTERVAL_SECONDS = 10.0
BATCH_INTERVAL_SECONDS = 0.5
MEBIBYTE = 1024 * 1024
PAGE_BYTES = resource.getpagesize()


@dataclass
class WorkerMemory:
    """Samples of a worker's resident memory: seconds since the start, and bytes."""

    worker: Worker
    samples: list[tuple[float, int]] = field(default_factory=list)

    def sample(self, seconds: float) -> None:
        """Take a sample. RuntimeError when the worker has ended."""
        if (status := self.worker.process.poll()) is not None:
            raise RuntimeError(f"{self.worker.roles} ended with {status}:\n{self.worker.output()}")
        pages = int(Path(f"/proc/{self.worker.process.pid}/statm").read_text().split()[1])
        self.samples.append((seconds, pages * PAGE_BYTES))

    def median_until(self, minute: float) -> float:
        """Return the median of the samples in the minute that ends at `minute`."""
        return median(size for at, size in self.samples if minute - 1 < at / 60 <= minute)


@dataclass
class SoakLoad:
    """The number of commands sent so far, and the orders that they concern."""

    sent: int = 0
    orders: set[str] = field(default_factory=set)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--minutes", envvar="MINUTES", default=30, show_default=True, type=click.IntRange(6))
@click.option("--rate", envvar="RATE", default=200, show_default=True, help="Commands a second.")
def main(minutes: int, rate: int) -> None:
    """Load a fleet for some minutes; the exit status is 1 when memory grows or the audit is not
    clean.

    MINUTES and RATE are environment variables too.
    """
    with provide_servers() as servers, TemporaryDirectory(prefix="eventfleet-soak-") as folder:
        passed = _soak(servers, Path(folder), minutes, rate)
    raise SystemExit(not passed)


def _soak(servers: ServerAddresses, folder: Path, minutes: int, rate: int) -> bool:
    console = Console(highlight=False)
    with CommandFleet(
        (servers.kafka, servers.mongo_url, servers.redis_url),
        folder,
        "eventfleet.domains.orders",
        CACHED_AGGREGATES=str(CACHED_AGGREGATES),
    ) as fleet:
        memories = [WorkerMemory(worker) for worker in fleet.start(*ROLES)]
        load = asyncio.run(_send_load(servers.kafka, memories, minutes, rate))
        console.print(
            f"{load.sent:,} commands of {len(load.orders):,} orders; {CACHED_AGGREGATES} cached"
        )
        _wait_until_processed(fleet)
        text, report = fleet.audit()
        console.print(text)
    memory_passed = _show_memory(console, memories, minutes)
    return memory_passed and bool(report["clean"]) and not report["dead_letters"]


async def _send_load(
    kafka: str, memories: Sequence[WorkerMemory], minutes: int, rate: int
) -> SoakLoad:
    load, start = SoakLoad(), time.monotonic()
    sampling = asyncio.create_task(_sample_memory(memories, start))
    producer, commands = Producer(Connection(kafka)), _generate_commands()
    topic = orders.topics.commands
    try:
        while (elapsed := time.monotonic() - start) < minutes * 60:
            batch = list(islice(commands, max(1, int(rate * elapsed) - load.sent)))
            await producer.produce(
                [ProducerRecord(topic, c.aggregate_id.encode(), encode(c)) for c in batch]
            )
            load.sent += len(batch)
            load.orders.update(command.aggregate_id for command in batch)
            await asyncio.wait({sampling}, timeout=BATCH_INTERVAL_SECONDS)
            if sampling.done():
                break
    finally:
        await producer.close()
        sampling.cancel()
        await asyncio.wait({sampling})
    if not sampling.cancelled():
        sampling.result()
    return load


async def _sample_memory(memories: Sequence[WorkerMemory], start: float) -> None:
    """Sample all workers until cancelled."""
    for number in count(1):
        await asyncio.sleep(start + number * SAMPLE_INTERVAL_SECONDS - time.monotonic())
        for memory in memories:
            memory.sample(time.monotonic() - start)


def _generate_commands() -> Iterator[EventRecord]:
    """Yield the sample's commands for one seed after another, each with orders of its own."""
    for seed in count(1):
        for command, *_ in sample_orders(ORDERS_PER_SEED, seed):
            yield replace(command, aggregate_id=f"{command.aggregate_id}-of-{seed}")


def _wait_until_processed(fleet: CommandFleet) -> None:
    """Wait until every role has processed its topic; as long as it takes, while it advances."""
    for role, kind in (("command", "commands"), ("append", "events"), ("snapshot", "stored")):
        _wait_for_role(fleet, role, kind)
    _wait_for_role(fleet, "relay", "stored")


def _wait_for_role(fleet: CommandFleet, role: str, kind: str) -> None:
    group, topic = fleet.group(role), fleet.topic(kind)
    while fleet.kafka.waiting(group, topic):
        at = fleet.kafka.offsets(group, topic)
        wait_for(lambda at=at: fleet.kafka.offsets(group, topic) != at, f"{role} to advance")  # type: ignore[misc]


def _show_memory(console: Console, memories: Sequence[WorkerMemory], minutes: int) -> bool:
    """Print each worker's memory; return False when one has grown by more than MAX_GROWTH."""
    table = Table(
        "worker", f"minute {SETTLED_MINUTE}, MiB", "end, MiB", "most, MiB", "growth", "met"
    )
    growths = []
    for memory in memories:
        first, last = memory.median_until(SETTLED_MINUTE), memory.median_until(minutes)
        growths.append(last / first - 1)
        sizes = (first, last, max(size for _, size in memory.samples))
        table.add_row(
            " ".join(memory.worker.roles),
            *(f"{size / MEBIBYTE:.1f}" for size in sizes),
            f"{growths[-1]:+.1%}",
            "yes" if growths[-1] <= MAX_GROWTH else "no",
        )
    console.print(table)
    return max(growths) <= MAX_GROWTH


if __name__ == "__main__":
    main()
