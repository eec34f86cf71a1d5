"""`eventfleet up` and `eventfleet run`: a whole fleet until Ctrl-C."""

import asyncio
import os
import shlex
import signal
import sys
import sysconfig
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eventfleet.cli.load import rejections
from eventfleet.cli.output import console, printable

if TYPE_CHECKING:
    from eventfleet.cli.local_fleet import LocalFleet
    from eventfleet.cli.log_run import RoleProgress, RunResult, Show
    from eventfleet.log_files.loader import LoadReport
    from eventfleet.model.domain import Domain
    from eventfleet.runtime.settings import Settings

VIOLATIONS_SHOWN = 20


PORT = click.option(
    "--port",
    envvar="PORT",
    type=click.IntRange(1, 65535),
    help="Of the HTTP service: 8080 if it is free, else any.",
)


@click.command()
@click.argument("names", metavar="[DOMAIN]...", nargs=-1)
@PORT
def up(names: tuple[str, ...], port: int | None) -> None:
    """Run all roles of the domains, the HTTP service, and the servers that the settings don't name.

    Until Ctrl-C.
    """

    async def work() -> None:
        from eventfleet.cli.local_fleet import ready, running

        async with running(_settings(port), names) as fleet:
            await fleet.during(ready(fleet))
            _tell(fleet)
            await _stay(fleet)

    _until_signal(work())


@click.command()
@click.option("--log", envvar="LOG", metavar="FILE", help="The log to load; else a sample.")
@click.option("--domain", envvar="DOMAIN", metavar="NAME", help="The domain to load it into.")
@click.option("--once", envvar="ONCE", is_flag=True, help="End after the table.")
@click.option("--summary", envvar="SUMMARY", metavar="FILE", help="Write the counts as JSON.")
@PORT
def run(
    log: str | None, domain: str | None, once: bool, summary: str | None, port: int | None
) -> None:
    """Run a whole fleet, load a log into it, follow it to the end and audit.

    The options can come from the environment: LOG, DOMAIN, ONCE, SUMMARY, PORT. With ONCE the
    status is 0 only if the audit is clean.
    """
    clean = _until_signal(_run(_settings(port), log or None, domain or None, once, summary or None))
    if not clean:
        raise click.exceptions.Exit(1)


def _settings(port: int | None) -> "Settings":
    """With this port for the HTTP service, where one is asked for."""
    from eventfleet.runtime.settings import Settings, load

    settings = load()
    if port is None:
        return settings
    given = settings.model_dump(include=settings.model_fields_set)
    return Settings(**(given | {"http_port": port}))


async def _run(
    settings: "Settings", log: str | None, name: str | None, once: bool, summary: str | None
) -> bool:
    from eventfleet.cli.local_fleet import ready, running
    from eventfleet.cli.log_run import run_log
    from eventfleet.runtime import connections

    if summary:
        _check_writable(summary)
    name = name or ("process_log" if log else "orders")
    domain = connections.chosen(settings, [name])[name]
    with _rows(log, domain) as rows:
        click.echo("starting the servers and the workers")
        async with running(settings, []) as fleet:
            await fleet.during(ready(fleet))
            with _progress() as show:
                work = run_log(fleet.settings, domain, rows, show)
                outcome = await fleet.during(work)
            _print(outcome)
            if summary:
                _write(summary, outcome)
            if not once:
                _tell(fleet)
                await _stay(fleet)
    return outcome.clean


@contextmanager
def _rows(log: str | None, domain: "Domain[Any]") -> Iterator[Any]:
    """The rows of the file, or the sample."""
    from eventfleet.cli.sample_orders import sample
    from eventfleet.log_files import Columns, open_log

    if log is None:
        if domain.name != "orders":
            raise click.UsageError(f"there is no sample for {domain.name}: name a LOG")
        yield sample()
        return
    with open_log(log, Columns.of(domain)) as rows:
        yield rows


@contextmanager
def _progress() -> "Iterator[Show]":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from eventfleet.cli.local_fleet import ROLES

    columns = (TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console(), transient=True) as bars:
        read = bars.add_task("read", total=None)
        roles = {role: bars.add_task(role, total=None, visible=False) for role in ROLES}
        audit = bars.add_task("audit", total=None, visible=False)

        def show(report: "LoadReport", stages: "list[RoleProgress]") -> None:
            bars.update(read, completed=report.offered)
            for stage in stages:
                total = stage.total or None
                bars.update(roles[stage.role], completed=stage.done, total=total, visible=True)
            bars.update(audit, visible=all(stage.through for stage in stages))

        yield show


def _print(outcome: "RunResult") -> None:
    from rich.table import Table
    from rich.text import Text

    load, audit = outcome.load, outcome.audit
    table = Table("", "count", "a second", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    rates = {stage.role: f"{outcome.rate(stage.seconds):,.0f}" for stage in outcome.stages}
    counts = outcome.summary()
    for name, count, rate in (
        ("rows read", load.offered, f"{outcome.rate(outcome.read_seconds):,.0f}"),
        ("stored", audit.stored, rates["append"]),
        ("aggregates", audit.aggregates, ""),
        ("snapshots", audit.snapshots, rates["snapshot"]),
        ("relayed", audit.relayed, rates["relay"]),
        *((reason, count, "") for reason, count in rejections(load)),
        ("repeated", load.repeated, ""),
        ("dead letters", counts["dead_letters"], ""),
    ):
        table.add_row(Text(name), f"{count:,}", rate)
    screen = console()
    screen.print(f"\n{audit.domain}, {outcome.seconds:.1f} s from the first row to the last role")
    screen.print(table)
    for problem in load.problems:
        click.echo(printable(problem))
    if load.refused > len(load.problems):
        click.echo(f"and {load.refused - len(load.problems):,} more refused")
    _verdict(outcome)


def _verdict(outcome: "RunResult") -> None:
    violations = outcome.audit.violations
    for found in violations[:VIOLATIONS_SHOWN]:
        where = printable(found.aggregate_id)
        click.echo(f"invariant {found.invariant}, {where}: {printable(found.fault)}")
    if outcome.load.pending:
        role = outcome.stages[0].role
        click.echo(f"{role} has not come to {outcome.load.pending:,} rows")
    click.echo(f"audit: {len(violations):,} violations" if violations else "audit: clean")


def _check_writable(path: str) -> None:
    """Before the work, not after it."""
    try:
        Path(path).touch()
    except OSError as error:
        raise click.UsageError(f"SUMMARY={path} can't be written: {error.strerror}") from error


def _write(path: str, outcome: "RunResult") -> None:
    import orjson

    Path(path).write_bytes(orjson.dumps(outcome.summary(), option=orjson.OPT_APPEND_NEWLINE))


def _tell(fleet: "LocalFleet") -> None:
    """How to use the fleet from another terminal."""
    command = os.path.relpath(Path(sysconfig.get_path("scripts"), "eventfleet"))
    variables = [f"{name}={shlex.quote(value)}" for name, value in fleet.variables.items()]
    click.echo(f"\nthe fleet is up: {', '.join(fleet.domains)}; its page {fleet.page}/metrics")
    click.echo(f"over HTTP: {fleet.url}/domains; all of it: {fleet.url}/openapi.json")
    click.echo(f"what the workers write: {fleet.workers.log}")
    click.echo("to load more, in another terminal:")
    name, domain = [*fleet.domains.items()][-1]
    via = ["--via commands"] if domain.commands_only else []
    click.echo("  " + " ".join([*variables, command, "load FILE --domain", name, *via]))
    click.echo("Ctrl-C ends it")


async def _stay(fleet: "LocalFleet") -> None:
    """Stay up; a signal is the way to end it, and no fault."""
    try:
        raise await fleet.failure()
    except asyncio.CancelledError:
        click.echo("\nending")


def _until_signal(work: Coroutine[Any, Any, Any]) -> Any:
    """Run it; SIGTERM and a closed terminal cancel it, as Ctrl-C does."""

    from eventfleet.runtime.event_loop import run

    async def main() -> Any:
        task = asyncio.current_task()
        assert task
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await work

    try:
        return run(main())
    except asyncio.CancelledError:
        sys.exit(128 + signal.SIGTERM)
