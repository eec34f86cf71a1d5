"""`eventfleet up` and `eventfleet run`: a whole fleet until Ctrl-C."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NoReturn

import click

from eventfleet.cli.audit import describe_findings, describe_verdict
from eventfleet.cli.load import rejections
from eventfleet.cli.logs import log_progress
from eventfleet.cli.number_types import Integer
from eventfleet.cli.output import console, printable

if TYPE_CHECKING:
    from eventfleet.cli.local_fleet import LocalFleet
    from eventfleet.cli.log_run import RoleProgress, RunResult, ShowProgress
    from eventfleet.log_files.loader import LoadReport
    from eventfleet.model.domain import Domain
    from eventfleet.runtime.settings import Settings

MAX_FINDINGS_SHOWN = 20
CUT_OFF_STATUS = 128 + signal.SIGTERM
"""Of a run whose audit is asked for and was not done."""

PORT = click.option(
    "--port",
    envvar="PORT",
    type=Integer(1, 65535),
    help="Port of the HTTP service; by default 8080, or any free port where that is taken.",
)


DATA = click.option(
    "--data",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the fleet's data; by default ./eventfleet-data.",
)
TEMPORARY = click.option(
    "--temporary", is_flag=True, help="Keep the data in a temporary folder, until the end."
)


@click.command(short_help="Run a whole fleet on this machine.")
@click.argument("names", metavar="[DOMAIN]...", nargs=-1)
@PORT
@DATA
@TEMPORARY
def up(names: tuple[str, ...], port: int | None, data: Path | None, temporary: bool) -> None:
    """Run all roles and the HTTP service: in one process, on a file, where no server is named.

    Runs until Ctrl-C, and prints how to use the fleet from another terminal. Ends with status 1
    where a fault has stopped a partition. The file keeps what the fleet has accepted. Without
    EVENTFLEET_DOMAINS the sample domains run; DOMAIN selects some of the domains.
    """

    async def work(settings: "Settings") -> None:
        from eventfleet.cli.hints import print_hints
        from eventfleet.cli.local_fleet import start_fleet, wait_until_ready
        from eventfleet.cli.process_logs import shown_logs

        _announce(settings)
        async with start_fleet(settings, names) as fleet, shown_logs(fleet.logs) as show_logs:
            await fleet.supervise(wait_until_ready(fleet), through_faults=True)
            print_hints(fleet)
            await _stay(fleet, show_logs)

    with _settings(port, data, temporary) as settings:
        _run_until_signal(work(settings))


@click.command(short_help="Run a whole fleet, load a log into it, and audit.")
@click.option(
    "--log", envvar="LOG", metavar="FILE", help="Log to load; by default a sample of orders."
)
@click.option(
    "--domain",
    envvar="DOMAIN",
    metavar="NAME",
    help="Domain to load it into; by default process_log, or orders for the sample.",
)
@click.option("--once", envvar="ONCE", is_flag=True, help="End after the table of counts.")
@click.option("--summary", envvar="SUMMARY", metavar="FILE", help="Write the counts as JSON.")
@PORT
@DATA
@TEMPORARY
def run(
    log: str | None,
    domain: str | None,
    once: bool,
    summary: str | None,
    port: int | None,
    data: Path | None,
    temporary: bool,
) -> None:
    """Run a fleet as `up` does, load a log into it, follow it through all roles, and audit.

    Prints what was read, stored, snapshotted and relayed, then stays up until Ctrl-C. With --once
    it ends, with status 0 only if the audit is clean. The options can come from the environment:
    LOG, DOMAIN, ONCE, SUMMARY, PORT.
    """
    with _settings(port, data, temporary) as settings:
        work = _run(settings, log or None, domain or None, once, summary or None)
        clean = _run_until_signal(work, CUT_OFF_STATUS if once else 0)
    if not clean:
        raise click.exceptions.Exit(1)


@contextmanager
def _settings(port: int | None, data: Path | None, temporary: bool) -> "Iterator[Settings]":
    """The settings, with this port for the HTTP service where one is given, and with the folder of
    the data where no server is named."""
    from eventfleet.runtime.settings import load_settings, with_data, with_values

    log_progress()
    settings = load_settings()
    if port is not None:
        settings = with_values(settings, http_port=port)
    if temporary and data:
        raise click.UsageError("--temporary and --data exclude each other")
    with ExitStack() as stack:
        if temporary:
            data = Path(stack.enter_context(TemporaryDirectory(prefix="eventfleet-")))
        yield with_values(settings, data=str(data.absolute())) if data else with_data(settings)


def _announce(settings: "Settings") -> None:
    if not settings.domains:
        click.echo("EVENTFLEET_DOMAINS is not set: running the sample domains")
    if settings.data:
        click.echo(f"the data is in {settings.data} ({_size(settings)})")
    click.echo("starting the fleet")


def _size(settings: "Settings") -> str:
    from eventfleet.runtime.file_backend import data_file

    path = data_file(settings)
    files = [each for each in (path, path.with_name(f"{path.name}-wal")) if each.is_file()]
    size = sum(each.stat().st_size for each in files)
    return f"{size / 1_000_000:,.1f} MB" if files else "new"


async def _run(
    settings: "Settings", log: str | None, name: str | None, once: bool, summary: str | None
) -> bool:
    from eventfleet.cli.hints import print_hints
    from eventfleet.cli.local_fleet import start_fleet, wait_until_ready
    from eventfleet.cli.log_run import run_log
    from eventfleet.cli.process_logs import shown_logs

    if summary:
        _check_writable(summary)
    domain = _select_domain(settings, log, name)
    with _open_rows(log, domain) as rows:
        _announce(settings)
        async with start_fleet(settings, []) as fleet, shown_logs(fleet.logs) as show_logs:
            await fleet.supervise(wait_until_ready(fleet), through_faults=True)
            with _progress() as show:
                work = run_log(fleet.settings, domain, rows, show)
                result = await fleet.supervise(work)
            _print(result)
            if summary:
                _write(summary, result)
            if not once:
                print_hints(fleet)
                await _stay(fleet, show_logs)
    return result.clean


def _select_domain(settings: "Settings", log: str | None, name: str | None) -> "Domain[Any]":
    from eventfleet.cli.local_fleet import with_domains
    from eventfleet.runtime import connections
    from eventfleet.runtime.errors import UnknownDomain

    default = "process_log" if log else "orders"
    known = connections.select_domains(with_domains(settings))
    if name is None and default not in known:
        raise click.UsageError(
            f"EVENTFLEET_DOMAINS does not declare {default}: name a log (--log or LOG) and the "
            f"domain to load it into (--domain or DOMAIN: {', '.join(known)})"
        )
    if name and name not in known:
        raise UnknownDomain(name, known)
    return known[name or default]


@contextmanager
def _open_rows(log: str | None, domain: "Domain[Any]") -> Iterator[Any]:
    """Open the rows of the log, or of the sample."""
    from eventfleet.cli.sample_orders import sample_orders
    from eventfleet.log_files import Columns, open_log

    if log is None:
        if domain.name != "orders":
            raise click.UsageError(f"{domain.name} has no sample: name a log (--log or LOG)")
        yield sample_orders()
        return
    with open_log(log, Columns.of(domain)) as rows:
        yield rows


@contextmanager
def _progress() -> "Iterator[ShowProgress]":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from eventfleet.cli.local_fleet import ROLES

    columns = (TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console(), transient=True) as bars:
        read = bars.add_task("read", total=None)
        roles = {role: bars.add_task(role, total=None, visible=False) for role in ROLES}
        audit = bars.add_task("audit", total=None, visible=False)

        def show(report: "LoadReport", progress: "list[RoleProgress]") -> None:
            bars.update(read, completed=report.offered)
            for each in progress:
                total = each.total or None
                bars.update(roles[each.role], completed=each.done, total=total, visible=True)
            bars.update(audit, visible=all(each.finished for each in progress))

        yield show


def _print(result: "RunResult") -> None:
    from rich.table import Table
    from rich.text import Text

    load, audit = result.load, result.audit
    table = Table("", "count", "per second", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    rates = {each.role: f"{result.rate(each.seconds):,.0f}" for each in result.roles}
    counts = result.summary()
    for name, count, rate in (
        ("rows read", load.offered, f"{result.rate(result.read_seconds):,.0f}"),
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
    screen.print(f"\n{audit.domain}: {result.seconds:.1f} s from the first row to the last role")
    screen.print(table)
    for problem in load.problems:
        click.echo(printable(problem))
    if load.refused > len(load.problems):
        click.echo(f"and {load.refused - len(load.problems):,} more refused")
    _print_verdict(result)


def _print_verdict(result: "RunResult") -> None:
    for line in describe_findings(result.audit, MAX_FINDINGS_SHOWN):
        click.echo(line)
    if result.load.pending:
        role = result.roles[0].role
        click.echo(f"the {role} role has not processed {result.load.pending:,} rows")
    click.echo(f"audit: {describe_verdict(result.audit)}")


def _check_writable(path: str) -> None:
    """Fail before the work, not after it."""
    try:
        Path(path).touch()
    except OSError as error:
        raise click.UsageError(f"--summary {path} can't be written: {error.strerror}") from error


def _write(path: str, result: "RunResult") -> None:
    import orjson

    Path(path).write_bytes(orjson.dumps(result.summary(), option=orjson.OPT_APPEND_NEWLINE))


async def _stay(fleet: "LocalFleet", show_logs: Callable[[], None]) -> None:
    """Stay up until a signal ends it; ProgramFailed where a process of the fleet ends before.

    Each stopped partition is shown when it stops, after what its process has warned of;
    PartitionsStopped at the end names them all.
    """
    from eventfleet.cli.local_fleet import PartitionsStopped

    faults: list[str] = []

    async def show_faults() -> NoReturn:
        async for fault in fleet.watch_faults():
            faults.append(fault)
            show_logs()
            click.echo(f"eventfleet: {printable(fault)}; see {fleet.workers.log}", err=True)
        raise AssertionError("watching has no end")

    try:
        await fleet.supervise(show_faults(), through_faults=True)
    except asyncio.CancelledError:
        click.echo("\nending the fleet")
        if faults:
            raise PartitionsStopped("\n".join(faults)) from None


def _run_until_signal(work: Coroutine[Any, Any, Any], status: int = 0) -> Any:
    """Run the work; SIGTERM and a closed terminal cancel it, as Ctrl-C does.

    `status` is that of a process which is cancelled before its work is done.
    """

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
        click.echo("\nended", err=True)
        sys.exit(status)
