"""`eventfleet check`: check code and settings against what is stored, before a deployment."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from eventfleet.cli.number_types import Integer
from eventfleet.cli.output import as_json, console, print_json, printable

if TYPE_CHECKING:
    from eventfleet.check.report import CheckReport, ShowProgress
    from eventfleet.model.domain import Domain
    from eventfleet.runtime.settings import Settings

MAX_SHOWN = 100
STANDARD_INPUT = "-"


@click.command(short_help="Check code and settings against what is stored, before a deployment.")
@click.argument("names", metavar="[DOMAIN]...", nargs=-1)
@click.option(
    "--sample",
    type=Integer(1),
    metavar="N",
    help="Check the events of N aggregates only, spread over the domain.",
)
@click.option(
    "--events",
    "file",
    metavar="FILE",
    type=click.Path(),
    help="Check a file of events (- for standard input), and reach no server.",
)
@as_json
def check(names: tuple[str, ...], sample: int | None, file: str | None, json: bool) -> None:
    """Check that this code, with these settings, fits what is stored; print each finding.

    Of all domains, or those named; with --json one report per line. All code that the fleet runs
    on stored and parked events is run: upcasters, evolve, the snapshot rule, conditions of routes,
    functions of views; decide is not. States are compared with stored snapshots, rows with the
    builds of views. The shapes of events and states, the topics, the partitions and the offsets
    of the consumer groups are compared with what the servers have. Nothing is written. Status 1
    if anything is found.

    `eventfleet events DOMAIN --all --json` writes the FILE of --events.
    """
    from eventfleet.runtime import connections
    from eventfleet.runtime.settings import load_settings

    if sample and file:
        raise click.UsageError("--sample is for stored events: the file of --events is read whole")
    settings = load_settings()
    chosen = connections.select_domains(settings, names or None)
    with _bar() as show:
        if file:
            reports = _check_file(file, settings, names, show)
        else:
            reports = asyncio.run(_check_servers(settings, chosen, sample, show))
    for report in reports:
        _print_json(report) if json else _print(report)
    if not all(report.clean for report in reports):
        raise click.exceptions.Exit(1)


async def _check_servers(
    settings: "Settings",
    domains: "Mapping[str, Domain[Any]]",
    sample: int | None,
    show: "ShowProgress",
) -> "list[CheckReport]":
    from eventfleet.check.deployment import check_deployment

    return [report async for report in check_deployment(settings, domains, show, sample)]


def _check_file(
    file: str, settings: "Settings", names: Sequence[str], show: "ShowProgress"
) -> "list[CheckReport]":
    from pathlib import Path

    from eventfleet.check.event_file import EventFileCheck
    from eventfleet.log_files.byte_source import ByteSource
    from eventfleet.runtime import connections

    domains, partitions = connections.select_domains(settings), settings.partitions
    if file == STANDARD_INPUT:
        check = EventFileCheck("standard input", domains, names, show, partitions)
        return check.run(click.get_binary_stream("stdin"))
    source = ByteSource(Path(file), zipped=file.endswith(".gz"))
    try:
        return EventFileCheck(file, domains, names, show, partitions).run(source.bytes)
    finally:
        source.close()


@contextmanager
def _bar() -> "Iterator[ShowProgress]":
    """A progress bar on standard error if that is a terminal: the events that were folded."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,} events"),
        TimeElapsedColumn(),
    )
    screen = console(stderr=True)
    hidden = not screen.is_terminal
    with Progress(*columns, console=screen, transient=True, disable=hidden) as bars:
        task = bars.add_task("check", total=None)

        def show(report: "CheckReport") -> None:
            bars.update(
                task,
                description=report.domain,
                completed=report.events,
                total=report.stored or None,
            )

        yield show


def _print_json(report: "CheckReport") -> None:
    print_json(
        {
            "domain": report.domain,
            "clean": report.clean,
            "events": report.events,
            "aggregates": report.aggregates,
            "snapshots": report.snapshots,
            "rows": report.rows,
            "parked_aggregates": report.parked_aggregates,
            "parked": [each._asdict() for each in report.parked],
            "findings": [asdict(finding) for finding in report.findings],
            "counts": {kind.value: count for kind, count in report.counts.items()},
            "notes": dict(report.notes),
        }
    )


def _print(report: "CheckReport") -> None:
    """Print the counts, and a line for each note and finding, each with the domain's name."""
    from eventfleet.check.report import count_of

    folded = f"{count_of(report.events, 'events')} of {count_of(report.aggregates, 'aggregates')}"
    compared = count_of(report.snapshots, "snapshots")
    if report.rows:
        compared += f" and {count_of(report.rows, 'rows')}"
    click.echo(f"{report.domain}: {folded} folded, {compared} compared")
    for note, count in sorted(report.notes.items()):
        times = f" ({count:,})" if count > 1 else ""
        click.echo(f"{report.domain}: note: {printable(note)}{times}")
    for parked in [each for each in report.parked if not each.fault][:MAX_SHOWN]:
        where = f"{parked.role} parks {printable(parked.aggregate_id)!r}"
        click.echo(f"{report.domain}: {where} from version {parked.version} on: it can go on")
    for finding in report.findings[:MAX_SHOWN]:
        click.echo(f"{report.domain}: {printable(str(finding))}")
    found = report.counts.total()
    if more := max(found - MAX_SHOWN, 0):
        click.echo(f"{report.domain}: and {more:,} more")
    click.echo(f"{report.domain}: {count_of(found, 'findings') if found else 'clean'}")
