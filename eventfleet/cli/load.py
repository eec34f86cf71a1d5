"""`eventfleet load`: a log from a file, as events or as commands."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from eventfleet.cli.output import as_json, console, print_json, printable

if TYPE_CHECKING:
    from eventfleet.log_files import LogFile
    from eventfleet.log_files.loader import LoadReport, Progress
    from eventfleet.model.domain import Domain
    from eventfleet.runtime.settings import Settings

REASONS_SHOWN = 20

# The names that process mining gives columns.
CASE, ACTIVITY, TIME = "case:concept:name", "concept:name", "time:timestamp"


@click.command()
@click.argument("file", type=click.Path())
@click.option("--domain", "name", metavar="DOMAIN", required=True, help="The domain to load into.")
@click.option("--case", default=CASE, show_default=True, help="Column of the aggregate's id.")
@click.option("--activity", default=ACTIVITY, show_default=True, help="Column of the event's type.")
@click.option("--time", default=TIME, show_default=True, help="Column of the event's time.")
@click.option(
    "--via",
    type=click.Choice(["events", "commands"]),
    default="events",
    show_default=True,
    help="What a row becomes; domains with rules take commands only.",
)
@as_json
def load(file: str, name: str, case: str, activity: str, time: str, via: str, json: bool) -> None:
    """Load a log (CSV, JSON lines or XES, each also with .gz) and say what became of its rows.

    As events: waits until append has come to all of it. As commands: the activity is the command's
    name; waits for the answers. A second load of the same file adds nothing. Status 1 when a row
    was refused, or has not been come to; rejected commands do not count as that.
    """
    from eventfleet.log_files import Columns, open_log
    from eventfleet.runtime import connections, settings
    from eventfleet.runtime.event_loop import run

    loaded = settings.load()
    domain = connections.chosen(loaded, [name])[name]
    with open_log(file, Columns.of(domain, case, activity, time)) as rows, _bar(rows) as progress:
        report = run(_load(loaded, domain, rows, progress, via == "commands"))
    if json:
        print_json(asdict(report))
    else:
        _print(domain.name, report, via)
    if report.refused or report.pending:
        raise click.exceptions.Exit(1)


async def _load(
    settings: "Settings",
    domain: "Domain[Any]",
    rows: "LogFile",
    progress: "Progress",
    commands: bool,
) -> "LoadReport":
    from eventfleet.log_files import replies
    from eventfleet.log_files.loader import (
        AppendProgress,
        GroupProgress,
        load,
        must_take_events,
        settle,
    )
    from eventfleet.runtime import connections
    from eventfleet.stores.clock import SystemClock
    from eventfleet.topics.names import consumer_group

    if not commands:
        must_take_events(domain)
    async with (
        connections.log_reader(settings) as reader,
        connections.log_writer(settings) as writer,
        connections.stores(settings, {domain.name: domain}) as stores,
    ):
        await connections.must_exist(reader, connections.topics_of(settings, domain))
        answers = await replies.ends(reader, domain.name)
        report = await load(rows, domain, writer, progress, commands=commands)
        role = "command" if commands else "append"
        name = consumer_group(settings.group_prefix, domain.name, role)
        following = GroupProgress(reader, name, SystemClock())
        if commands:
            await replies.settle(report, domain.name, following, answers, progress)
        else:
            appending = AppendProgress(stores[domain.name].events, following)
            await settle(report, domain, appending, progress)
        return report


@contextmanager
def _bar(rows: "LogFile") -> "Iterator[Progress]":
    """A bar on standard error, for people only: bytes of the file read, then rows done with."""
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        TextColumn("{task.description:>8}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[count]:,} rows, {task.fields[rate]:,.0f}/s"),
        TimeElapsedColumn(),
    )
    screen = console(stderr=True)
    hidden = not screen.is_terminal
    with Progress(*columns, console=screen, transient=True, disable=hidden) as bars:
        read = bars.add_task("read", total=rows.size, count=0, rate=0)
        through = bars.add_task("through", total=None, count=0, rate=0)
        seen = 0

        def show(report: "LoadReport") -> None:
            nonlocal seen
            seconds = report.seconds or 1.0
            if report.offered > seen:
                seen, rate = report.offered, report.offered / seconds
                bars.update(read, completed=rows.done, count=seen, rate=rate)
            produced = report.offered - report.refused
            done = produced - report.pending
            bars.update(
                through, completed=done, total=produced or None, count=done, rate=done / seconds
            )

        yield show


def _print(name: str, report: "LoadReport", via: str) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("rows", "count", box=None)
    table.columns[1].justify = "right"
    for label, count in (
        ("offered", report.offered),
        ("accepted", report.accepted),
        *rejections(report),
        ("repeated", report.repeated),
        ("refused", report.refused),
        ("not yet through", report.pending),
    ):
        table.add_row(Text(label), f"{count:,}")
    console().print(table)
    click.echo(f"into {name} in {report.seconds:.1f} s")
    for problem in report.problems:
        click.echo(printable(problem), err=True)
    more = report.refused - len(report.problems)
    if more > 0:
        click.echo(f"and {more:,} more refused", err=True)
    if report.pending:
        role = "command" if via == "commands" else "append"
        click.echo(f"{report.pending:,} wait: is {role} running?", err=True)


def rejections(report: "LoadReport") -> list[tuple[str, int]]:
    """Rows of a table: how many were rejected, and how many of them why, the most frequent first.

    None where nothing was rejected.
    """
    if not report.rejected:
        return []
    reasons = sorted(report.reasons.items(), key=lambda reason: (-reason[1], reason[0]))
    told = [(f"  {printable(reason)}", count) for reason, count in reasons[:REASONS_SHOWN]]
    rest = report.rejected - sum(count for _, count in reasons[:REASONS_SHOWN])
    return [
        ("rejected", report.rejected),
        *told,
        *([("  for other reasons", rest)] if rest else []),
    ]
