"""`eventfleet load`: load a log from a file, as events or as commands."""

import codecs
import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click
from click.core import ParameterSource

from eventfleet.cli.output import as_json, console, print_json, printable

if TYPE_CHECKING:
    from eventfleet.log_files import LogFile
    from eventfleet.log_files.loader import LoadReport, ProgressCallback, RefusedRow
    from eventfleet.model.domain import Domain
    from eventfleet.runtime.settings import Settings

MAX_REASONS_SHOWN = 20

# The column names of process mining (XES).
CASE, ACTIVITY, TIME = "case:concept:name", "concept:name", "time:timestamp"

Command = TypeVar("Command", bound=Callable[..., Any])
OnRefusal = Callable[["RefusedRow"], object] | None


class DelimiterType(click.ParamType):
    """A character between the cells of CSV; `tab` for a tab."""

    name = "character"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        character = "\t" if value == "tab" else str(value)
        if len(character) != 1 or character.isalnum() or character in '"\r\n':
            self.fail(f"{value!r} is no character that separates cells, such as ; or tab")
        return character


class EncodingType(click.ParamType):
    """The name of an encoding of text."""

    name = "name"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        try:
            "a".encode(value)
            return codecs.lookup(value).name
        except LookupError:
            self.fail(f"{value!r} is not the name of an encoding, such as windows-1252")


class ZoneType(click.ParamType):
    """A zone by name, such as Europe/Berlin, or by its offset, such as +01:00."""

    name = "zone"

    def convert(self, value: Any, param: Any, ctx: Any) -> tzinfo:
        from zoneinfo import ZoneInfo

        if value == "UTC":
            return UTC
        try:
            if value[:1] in ("+", "-"):
                return datetime.fromisoformat(f"2000-01-01T00:00{value}").tzinfo or UTC
            return ZoneInfo(value)
        except (ValueError, LookupError, OSError):
            self.fail(f"{value!r} is no zone known here, such as Europe/Berlin or +01:00")


def file_options(command: Command) -> Command:
    """Add the options on how a file is written, which its beginning tells otherwise."""
    command = click.option(
        "--encoding",
        type=EncodingType(),
        help="The file's encoding; by default its byte order mark tells, or it is UTF-8.",
    )(command)
    return click.option(
        "--delimiter",
        type=DelimiterType(),
        help="The character between cells of CSV; by default of , ; tab | that of the header.",
    )(command)


@click.command(short_help="Load a log into a domain, as events or commands.")
@click.argument("file", type=click.Path())
@click.option("--domain", "name", metavar="DOMAIN", required=True, help="Domain to load into.")
@click.option("--case", default=CASE, show_default=True, help="Column with the aggregate's id.")
@click.option(
    "--activity", default=ACTIVITY, show_default=True, help="Column with the event's type."
)
@click.option(
    "--command",
    metavar="NAME",
    default="",
    help="The command of every row, instead of a column; with --via commands.",
)
@click.option("--time", default=TIME, show_default=True, help="Column with the event's time.")
@click.option("--id", default="", help="Column with the command's or event's id.")
@click.option("--actor", default="", help="Column with the event's actor.")
@click.option(
    "--via",
    type=click.Choice(["events", "commands"]),
    default="events",
    show_default=True,
    help="What each row becomes; a domain with command rules accepts commands only.",
)
@file_options
@click.option(
    "--decimal",
    type=click.Choice([".", ","]),
    help="The decimal mark of numbers in CSV; by default a comma where semicolons separate cells.",
)
@click.option(
    "--zone",
    type=ZoneType(),
    default="UTC",
    show_default=True,
    help="Zone of times that are written without one: a name, or an offset such as +01:00.",
)
@click.option(
    "--refused",
    metavar="CSV",
    type=click.File("w", encoding="utf-8", lazy=False),
    help="File to write each refused or rejected row to: its number, aggregate and reason.",
)
@as_json
def load(
    file: str,
    name: str,
    command: str,
    via: str,
    delimiter: str | None,
    encoding: str | None,
    decimal: str | None,
    zone: tzinfo,
    refused: TextIO | None,
    json: bool,
    **columns: str,
) -> None:
    """Load a log (CSV, JSON lines or XES, each also with .gz) and print the outcome of its rows.

    Rows become events; the command waits until the append role has processed them. With --via
    commands the activity is the command's name, and it waits for the replies. The other columns are
    the payload; so are those of --case, --time, --id and --actor where it has fields of their
    names. Loading a file again adds nothing; with --id a row is known by its id, without by its
    content. A command's row needs no time: its event gets that of the load. Status 1 if a row was
    refused or not processed in time; rejected commands don't count.
    """
    from eventfleet.log_files import Columns, FileFormat, open_log
    from eventfleet.runtime import connections, settings
    from eventfleet.runtime.event_loop import run

    given = settings.load_settings()
    domain = connections.select_domains(given, [name])[name]
    if command:
        _check_command(command, domain, via)
    source = click.get_current_context().get_parameter_source("time")
    optional = via == "commands" and source is ParameterSource.DEFAULT
    named = Columns.of(domain, fixed_activity=command, time_optional=optional, **columns)
    file_format = FileFormat(delimiter or "", encoding or "", decimal or "", zone)
    with open_log(file, named, file_format) as rows, _bar(rows) as progress:
        loading = _load(given, domain, rows, progress, via == "commands", _row_writer(refused))
        report = run(loading)
    if json:
        print_json(asdict(report))
    else:
        _print(domain.name, report, via)
        _print_assumptions(rows, report, zone)
    if report.refused or report.pending:
        raise click.exceptions.Exit(1)


def _check_command(command: str, domain: "Domain[Any]", via: str) -> None:
    """Fail once, and not at each row."""
    from eventfleet.topics.errors import InvalidRecord

    source = click.get_current_context().get_parameter_source("activity")
    if via != "commands":
        raise click.UsageError("--command names a command: give --via commands too")
    if source is ParameterSource.COMMANDLINE:
        raise click.UsageError("--command is every row's command, --activity its column: give one")
    try:
        domain.rule(command)
    except InvalidRecord as error:
        raise click.BadParameter(error.reason, param_hint="--command") from None


async def _load(
    settings: "Settings",
    domain: "Domain[Any]",
    rows: "LogFile",
    progress: "ProgressCallback",
    commands: bool,
    on_refusal: OnRefusal,
) -> "LoadReport":
    from eventfleet.log_files import replies
    from eventfleet.log_files.loader import (
        AppendProgress,
        GroupProgress,
        await_append,
        load,
        require_event_loading,
    )
    from eventfleet.runtime import connections
    from eventfleet.runtime.partitions import require_domain_topics
    from eventfleet.stores.clock import SystemClock
    from eventfleet.topics.names import consumer_group

    if not commands:
        require_event_loading(domain)
    async with (
        connections.log_reader(settings) as reader,
        connections.log_writer(settings) as writer,
        connections.stores(settings, {domain.name: domain}) as stores,
    ):
        registry = stores[domain.name].events.registry
        await require_domain_topics(settings, domain, reader, registry)
        reply_starts = await replies.end_offsets(reader, domain.topics.replies)
        partitions = settings.partitions
        report = await load(
            *(rows, domain, writer, progress),
            partitions=partitions,
            commands=commands,
            on_refusal=on_refusal,
        )
        role = "command" if commands else "append"
        name = consumer_group(settings.group_prefix, domain.name, role)
        group_progress = GroupProgress(reader, name, SystemClock())
        if commands:
            waiting = report, domain.topics, group_progress, reply_starts
            await replies.await_replies(*waiting, progress)
        else:
            appending = AppendProgress(stores[domain.name].events, group_progress)
            await await_append(report, domain, appending, progress)
        return report


@contextmanager
def _bar(rows: "LogFile") -> "Iterator[ProgressCallback]":
    """Progress bars on standard error if that is a terminal: bytes read, then rows processed."""
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
        stored = bars.add_task("stored", total=None, count=0, rate=0)
        seen = 0

        def show(report: "LoadReport") -> None:
            nonlocal seen
            seconds = report.seconds or 1.0
            if report.offered > seen:
                seen, rate = report.offered, report.offered / seconds
                bars.update(read, completed=rows.bytes_read, count=seen, rate=rate)
            produced = report.offered - report.refused
            done = produced - report.pending
            bars.update(
                stored, completed=done, total=produced or None, count=done, rate=done / seconds
            )

        yield show


def _row_writer(file: TextIO | None) -> OnRefusal:
    """Write refused rows to a file, if there is one."""
    if file is None:
        return None
    table = csv.writer(file, lineterminator="\n")
    table.writerow(("row", "aggregate_id", "outcome", "reason"))
    return table.writerow


def _print_assumptions(rows: "LogFile", report: "LoadReport", zone: tzinfo) -> None:
    if rows.without_zone:
        count = f"{rows.without_zone:,} times have no zone"
        click.echo(f"{count} and were taken as {zone} (name another by --zone)", err=True)
    if rows.without_time:
        click.echo(f"{rows.without_time:,} rows have no time and got that of the load", err=True)
    if any("is not UTF-8" in problem for problem in report.problems):
        click.echo("a file in another encoding: name it by --encoding", err=True)


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
        ("not processed", report.pending),
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
        click.echo(
            f"{report.pending:,} rows are in the log and not processed: is a worker with the "
            f"{role} role running?",
            err=True,
        )


def rejections(report: "LoadReport") -> list[tuple[str, int]]:
    """Rows of a table: rejections in all and by reason, the most frequent first.

    Empty where nothing was rejected.
    """
    if not report.rejected:
        return []
    reasons = sorted(report.reasons.items(), key=lambda reason: (-reason[1], reason[0]))
    counts = [(f"  {printable(reason)}", count) for reason, count in reasons[:MAX_REASONS_SHOWN]]
    rest = report.rejected - sum(count for _, count in reasons[:MAX_REASONS_SHOWN])
    return [
        ("rejected", report.rejected),
        *counts,
        *([("  for other reasons", rest)] if rest else []),
    ]
