"""`python -m benchmarks.autoscale` rehearses scaling by lag with worker processes.

A load of commands steps up and down. For each role the lag of its consumer group is read from Kafka
as KEDA does, and worker processes are started, or stopped by SIGTERM, as the autoscaler of
Kubernetes would. Its times are divided by TIME_FACTOR: minutes show what takes an hour.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from rich.console import Console
from rich.table import Table

from benchmarks.autoscale.checks import find_differences, find_problems
from benchmarks.autoscale.rehearsal import Rehearsal
from benchmarks.autoscale.scaler import HorizontalAutoscaler, ScalingRule
from benchmarks.autoscale.workload import Plan, StepFigures, Workload
from benchmarks.scale import TOPIC_KINDS, parse_roles
from benchmarks.scenario import ServerAddresses
from benchmarks.servers import provide_servers
from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import ROOT
from tests.faults.fleet_oracle import ROUTED

RATES = "10,40,70,20,4"
"""Commands a second, step by step; eight workers of RECORDS_PER_SECOND take 160."""
RECORDS_PER_SECOND = 20.0
LAG_THRESHOLD = 400
"""What a worker does in 20 s: more than its start takes, else far too many are started."""
CHUNK_RECORDS = 10
GRACE_SECONDS = 45.0

TIME_FACTOR = 30
SYNC_SECONDS = 15 / TIME_FACTOR
SCALE_UP = ScalingRule(replicas=4, period=60 / TIME_FACTOR, window=30 / TIME_FACTOR)
SCALE_DOWN = ScalingRule(replicas=1, period=300 / TIME_FACTOR, window=600 / TIME_FACTOR)
"""The rules of the chart's values."""


class OrderFleet(CommandFleet):
    """A fleet for the orders; it also removes the topics of their routes."""

    def _remove(self) -> None:
        super()._remove()
        self.kafka.delete(ROUTED)


def parse_rates(_: click.Context, __: click.Parameter, numbers: str) -> list[int]:
    """Return the rates; BadParameter for one that is no positive number."""
    rates = [int(each) if each.strip().isdigit() else 0 for each in numbers.split(",")]
    if not all(rates):
        raise click.BadParameter(f"{numbers} is not a list of positive numbers")
    return rates


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--partitions", envvar="PARTITIONS", default=8, show_default=True, type=click.IntRange(1)
)
@click.option("--step-seconds", envvar="STEP_SECONDS", default=90.0, show_default=True)
@click.option(
    "--rates",
    envvar="RATES",
    default=RATES,
    show_default=True,
    callback=parse_rates,
    help="Commands a second, step by step, separated by commas.",
)
@click.option(
    "--roles",
    envvar="ROLES",
    default="command,append,snapshot,relay",
    show_default=True,
    callback=parse_roles,
    help="Roles that are scaled; the others run in one worker.",
)
def main(partitions: int, step_seconds: float, rates: list[int], roles: list[str]) -> None:
    """Rehearse scaling by lag; the exit status is 1 when anything is not as it should be.

    PARTITIONS, STEP_SECONDS, RATES and ROLES are environment variables too. KAFKA, MONGO_URL and
    REDIS_URL name servers to use; the others are started.
    """
    plan = Plan(RECORDS_PER_SECOND, LAG_THRESHOLD, GRACE_SECONDS, partitions)
    with (
        provide_servers() as servers,
        TemporaryDirectory(prefix="eventfleet-autoscale-") as folder,
        _make_fleet(servers, Path(folder), partitions) as fleet,
    ):
        workloads = [_make_workload(fleet, role, role in roles, plan) for role in TOPIC_KINDS]
        rehearsal = Rehearsal(fleet, workloads, SYNC_SECONDS)
        load = asyncio.run(rehearsal.run(rates, step_seconds))
        text, report = fleet.audit()
    figures = [step for step in rehearsal.figures if step.role in roles]
    _print(figures)
    click.echo(f"lag when nothing waits: {rehearsal.idle_lag}")
    click.echo(f"{load.sent:,} commands, {load.expectation.accepted:,} to be accepted\n{text}")
    problems = [problem for workload in workloads for problem in workload.problems]
    problems += find_problems(figures, plan)
    problems += find_differences(report, rehearsal.replies, load.sent, load.expectation.accepted)
    for problem in problems:
        click.echo(problem, err=True)
    raise SystemExit(bool(problems))


def _make_fleet(servers: ServerAddresses, folder: Path, partitions: int) -> CommandFleet:
    fleet = OrderFleet(
        (servers.kafka, servers.mongo_url, servers.redis_url),
        folder,
        "benchmarks.autoscale.orders",
        PARTITIONS=str(partitions),
        CHUNK_RECORDS=str(CHUNK_RECORDS),
    )
    fleet.environment["PYTHONPATH"] = str(ROOT)
    return fleet


def _make_workload(fleet: CommandFleet, role: str, is_scaled: bool, plan: Plan) -> Workload:
    scaler = HorizontalAutoscaler(1, plan.partitions, SCALE_UP, SCALE_DOWN) if is_scaled else None
    return Workload(fleet, role, plan, scaler)


def _print(figures: Sequence[StepFigures]) -> None:
    names = "commands/s", "role", "workers", "enough after, s", "peak lag", "drained after, s"
    table = Table(*names, "rebalances")
    for step in figures:
        workers = f"{step.first_workers} → {step.most_workers} → {step.workers}"
        enough, drained = (
            "-" if each is None else f"{each:.0f}"
            for each in (step.enough_after, step.drained_after)
        )
        lag, rebalances = f"{step.peak_lag:,}", str(step.rebalances)
        table.add_row(str(step.rate), step.role, workers, enough, lag, drained, rebalances)
    Console(highlight=False, width=120).print(table)


if __name__ == "__main__":
    main()
