"""`python -m benchmarks.metrics_cost` measures the share of metrics in a chunk's CPU.

A chunk's CPU is that of a worker process on real servers, as `make bench` measures it, for as many
records as a chunk has. The CPU of metrics is that of all that counts and measures a chunk, by
itself.
"""

import asyncio
import time
import timeit
from collections.abc import Callable
from dataclasses import dataclass

import click
import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.runner import run_contender
from benchmarks.scenario import Scenario, ServerAddresses
from benchmarks.scenarios import append, relay
from benchmarks.servers import provide_servers
from eventfleet.roles.role import ChunkReport
from eventfleet.service.metric_definitions import COMMIT
from eventfleet.states.lru_cache import cache_statistics
from eventfleet.stores.histogram import Histogram
from eventfleet.stores.server_calls import timed_call
from eventfleet.topics.record import LogRecord
from eventfleet.workers.metrics import Metrics

LIMIT_PERCENT = 2.0
CHUNKS_RECORDS = (2_000, 100)
SCENARIOS = (append.SCENARIO, relay.SCENARIO)
REPEATS = 15


@dataclass(frozen=True)
class Cost:
    """The CPU seconds of a chunk of a role, and of its metrics."""

    role: str
    records: int
    chunk: float
    metrics: float

    @property
    def percent(self) -> float:
        return 100 * self.metrics / self.chunk


async def measure(scenario: Scenario, servers: ServerAddresses, records: int) -> Cost:
    """Measure the chunks of so many records of a scenario's role."""
    task = msgspec.structs.replace(await scenario.prepare(servers, scenario.ours, 0), chunk=records)
    result = await run_contender(scenario.ours, scenario.contenders[scenario.ours], task)
    chunk = result.cpu / result.events * records
    return Cost(scenario.name, records, chunk, metrics_seconds(scenario.name, records))


def metrics_seconds(role: str, count: int) -> float:
    """The CPU seconds of all that a worker does for metrics at a chunk of so many records."""
    now = time.time_ns() // 1_000_000
    records = [LogRecord("t", 0, n, b"k", b"v", (), now - 5_000 + n) for n in range(count)]
    meter, report = Metrics().of("ledger", role), ChunkReport(emitted=count)
    commits, cached = Histogram(COMMIT.bounds), cache_statistics("ledger", role, "heads")
    calls = [("kafka", "commit")]
    if role == "append":
        report.stored = count
        calls += [("mongodb", "heads"), ("mongodb", "write"), ("mongodb", "registry")]

    def count_chunk() -> None:
        for server, operation in calls:
            with timed_call(server, operation):
                pass
        cached.add(1, 1)
        commits.observe(0.01)
        meter.add_chunk(0.1, report, records)

    return _best(count_chunk, max(1, 20_000 // count))


def _best(work: Callable[[], None], number: int) -> float:
    times = timeit.repeat(work, timer=time.process_time, number=number, repeat=REPEATS)
    return min(times) / number


@click.command()
def main() -> None:
    """Print the share of metrics in a chunk; the status is 1 where it is above the limit.

    KAFKA, MONGO_URL and REDIS_URL name servers to use; the others are started.
    """
    with provide_servers() as servers:
        costs = [
            asyncio.run(measure(scenario, servers, records))
            for scenario in SCENARIOS
            for records in CHUNKS_RECORDS
        ]
    show(costs)
    if any(cost.percent > LIMIT_PERCENT for cost in costs):
        raise click.ClickException(f"metrics take more than {LIMIT_PERCENT:g} % of a chunk")


def show(costs: list[Cost]) -> None:
    """Print the costs as a table."""
    table = Table("role", "records", "chunk, us of CPU", "metrics, us of CPU", "share")
    for cost in costs:
        figures = (
            f"{cost.chunk * 1e6:,.0f}",
            f"{cost.metrics * 1e6:,.0f}",
            f"{cost.percent:.2f} %",
        )
        table.add_row(cost.role, f"{cost.records:,}", *figures)
    Console().print(table)


if __name__ == "__main__":
    main()
