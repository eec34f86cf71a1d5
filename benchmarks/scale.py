"""`python -m benchmarks.scale` measures each role in several workers over eight partitions.

No other role runs beside the measured one. Its figures count from when all of its workers are
ready until the last commit. Afterwards the stored data is audited.
"""

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import click
from rich.console import Console
from rich.table import Table

from benchmarks import data
from benchmarks.contenders.command_data import age_redis, sample_commands, split_batches, to_record
from benchmarks.scenario import ServerAddresses
from benchmarks.servers import provide_servers
from eventfleet.runtime import connections
from eventfleet.runtime.settings import PREFIX, Settings
from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import ROOT, Fleet, Worker
from tests.acceptance.kafka_by_hand import wait_for

PARTITIONS = 8
EVENTS_PER_AGGREGATE = 20
COMMANDS_PER_ORDER = 4
"""About as many as the sample has."""
TOPIC_KINDS = {"command": "commands", "append": "events", "snapshot": "stored", "relay": "stored"}
"""The topic that each role consumes."""
LEDGER_MODULE = (
    "from benchmarks.data import declare_ledger\naccounts = declare_ledger('accounts')\n"
)
MEBIBYTE = 1024 * 1024
CHUNK_VARIABLE = f"{PREFIX}CHUNK_RECORDS"
CLOCK_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class RunSize(NamedTuple):
    """The numbers of events and workers, and the most records in a chunk."""

    events: int
    workers: int
    chunk_records: int


class RoleRun(NamedTuple):
    """The records processed after all workers were ready, the seconds until the last commit, the
    CPU seconds of all workers in that time, and the most memory that one of them has had."""

    records: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int

    def figures(self) -> tuple[str, str, str]:
        """Format records a second, CPU microseconds a record, and MiB; "-" without a record."""
        memory = f"{self.peak_bytes / MEBIBYTE:.0f}"
        if not self.records:
            return "-", "-", memory
        cost = self.cpu_seconds / self.records * 1e6
        return f"{self.records / self.seconds:,.0f}", f"{cost:.1f}", memory


class RoleRuns(NamedTuple):
    """The runs by role, and the result of the audit."""

    by_role: dict[str, RoleRun]
    clean: bool


def parse_roles(_: click.Context, __: click.Parameter, names: str) -> list[str]:
    """Return the named roles; BadParameter for an unknown one."""
    roles = [name.strip() for name in names.split(",")]
    if unknown := sorted(set(roles).difference(TOPIC_KINDS)):
        raise click.BadParameter(
            f"no role is named {', '.join(unknown)}; the roles are {', '.join(TOPIC_KINDS)}"
        )
    return roles


def parse_counts(_: click.Context, __: click.Parameter, numbers: str) -> list[int]:
    """Return the numbers of workers; BadParameter for one that is none from 1 to PARTITIONS."""
    counts = [int(each) if each.strip().isdigit() else 0 for each in numbers.split(",")]
    if not all(1 <= count <= PARTITIONS for count in counts):
        raise click.BadParameter(f"{numbers} is not a list of numbers from 1 to {PARTITIONS}")
    return counts


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--events",
    envvar="EVENTS",
    default=100_000,
    show_default=True,
    type=click.IntRange(EVENTS_PER_AGGREGATE),
    help="Number of events, and about the number of commands.",
)
@click.option(
    "--roles",
    envvar="ROLES",
    default="append,snapshot,relay,command",
    show_default=True,
    callback=parse_roles,
    help="Names of roles, separated by commas.",
)
@click.option(
    "--workers",
    "counts",
    envvar="WORKERS",
    default="1,2,4",
    show_default=True,
    callback=parse_counts,
    help="Numbers of workers, separated by commas.",
)
@click.option("--chunk-records", envvar="CHUNK_RECORDS", default=2_000, show_default=True)
def main(events: int, roles: list[str], counts: list[int], chunk_records: int) -> None:
    """Measure the roles; the exit status is 1 when an audit is not clean.

    EVENTS, ROLES, WORKERS and CHUNK_RECORDS are environment variables too. KAFKA, MONGO_URL and
    REDIS_URL name servers to use; the others are started.
    """
    table = Table("role", "workers", "records/s", "CPU us a record", "most MiB", "audit")
    clean = True
    with provide_servers() as servers:
        for workers in counts:
            for runs in _measure(servers, roles, RunSize(events, workers, chunk_records)):
                clean = clean and runs.clean
                audit = "clean" if runs.clean else "NOT CLEAN"
                for role, run in runs.by_role.items():
                    if role in roles:
                        table.add_row(role, str(workers), *run.figures(), audit)
    Console(highlight=False).print(table)
    raise SystemExit(not clean)


def _measure(servers: ServerAddresses, roles: list[str], size: RunSize) -> list[RoleRuns]:
    """Measure the roles on fleets of their own: command on orders, the others on a ledger."""
    measured = []
    if set(roles) - {"command"}:
        with TemporaryDirectory(prefix="eventfleet-scale-") as folder:
            measured.append(_measure_event_roles(servers, Path(folder), size))
    if "command" in roles:
        with TemporaryDirectory(prefix="eventfleet-scale-") as folder:
            measured.append(_measure_command_role(servers, Path(folder), size))
    return measured


def _measure_event_roles(servers: ServerAddresses, folder: Path, run: RunSize) -> RoleRuns:
    """Measure append, then snapshot and relay on what append has stored."""
    (folder / "accounts.py").write_text(LEDGER_MODULE)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(folder)])
    sys.path.insert(0, str(folder))
    size = data.DatasetSize(run.events, run.events // EVENTS_PER_AGGREGATE, PARTITIONS)
    with Fleet(servers.kafka, servers.mongo_url, folder, "accounts", PARTITIONS) as fleet:
        fleet.environment[CHUNK_VARIABLE] = str(run.chunk_records)
        placed_events = data.make_events("accounts", size)
        asyncio.run(data.produce_events(_read_settings(fleet), "accounts", placed_events))
        runs = {
            role: _measure_role(fleet, role, run.workers, run.events)
            for role in ("append", "snapshot", "relay")
        }
        _, report = fleet.audit()
    return RoleRuns(runs, bool(report["clean"]) and report["stored"] == run.events)


def _measure_command_role(servers: ServerAddresses, folder: Path, run: RunSize) -> RoleRuns:
    """Measure command on the sample's orders, then append its events for the audit."""
    with CommandFleet(
        (servers.kafka, servers.mongo_url, servers.redis_url),
        folder,
        "eventfleet.domains.orders",
        PARTITIONS=str(PARTITIONS),
        CHUNK_RECORDS=str(run.chunk_records),
    ) as fleet:
        commands = asyncio.run(_produce_commands(fleet, run.events // COMMANDS_PER_ORDER))
        measured = _measure_role(fleet, "command", run.workers, commands)
        fleet.start("append")
        fleet.settle("append")
        _, report = fleet.audit()
    return RoleRuns({"command": measured}, bool(report["clean"]) and not report["dead_letters"])


async def _produce_commands(fleet: CommandFleet, orders: int) -> int:
    """Produce the commands of so many orders and return their number."""
    settings = fleet.settings
    await age_redis(settings)
    records = [to_record(fleet.topic("commands"), each) for each in sample_commands(orders)]
    async with connections.log_writer(settings) as writer:
        for batch in split_batches(records):
            await writer.produce(batch)
    return len(records)


def _read_settings(fleet: Fleet) -> Settings:
    named = {name.removeprefix(PREFIX).lower(): v for name, v in fleet.environment.items()}
    return Settings(**{k: v for k, v in named.items() if k in Settings.model_fields})  # type: ignore[arg-type]


def _measure_role(fleet: Fleet, role: str, workers: int, records: int) -> RoleRun:
    """Start the workers, and wait until their group has committed all records."""
    group, topic = fleet.group(role), fleet.topic(TOPIC_KINDS[role])

    def committed() -> int:
        return sum(fleet.kafka.offsets(group, topic).values())

    def is_done() -> bool:
        return committed() >= records and not fleet.kafka.waiting(group, topic)

    started = fleet.start(*[role] * workers)
    first, cpu, start = committed(), _cpu_seconds(started), time.monotonic()
    wait_for(is_done, f"{role} to commit {records} records")
    seconds, cpu = time.monotonic() - start, _cpu_seconds(started) - cpu
    run = RoleRun(max(0, records - first), seconds, cpu, _peak_bytes(started))
    click.echo(
        f"{role}, {workers} workers: {run.seconds:.1f} s for {run.records:,} records", err=True
    )
    for worker in started:
        worker.stop()
    return run


def _cpu_seconds(workers: Sequence[Worker]) -> float:
    """Return the processes' CPU seconds so far, user and system."""
    fields = [
        Path(f"/proc/{w.process.pid}/stat").read_text().rpartition(")")[2].split() for w in workers
    ]
    return sum(int(each[11]) + int(each[12]) for each in fields) / CLOCK_TICKS_PER_SECOND


def _peak_bytes(workers: Sequence[Worker]) -> int:
    """Return the largest resident memory that any of the processes has had."""
    statuses = [Path(f"/proc/{w.process.pid}/status").read_text() for w in workers]
    return max(int(each.partition("VmHWM:")[2].split()[0]) for each in statuses) * 1024


if __name__ == "__main__":
    main()
