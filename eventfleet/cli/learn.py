"""`eventfleet learn-rules`: learn from a log which activities may follow each other."""

from pathlib import Path

import click

from eventfleet.cli.load import ACTIVITY, CASE, TIME, file_options
from eventfleet.cli.output import printable


@click.command(
    name="learn-rules", short_help="Learn which activities may follow each other from a log."
)
@click.argument("log", type=click.Path())
@click.option("-o", "--output", metavar="FILE", help="File to write; by default standard output.")
@click.option("--case", default=CASE, show_default=True, help="Column with the case.")
@click.option("--activity", default=ACTIVITY, show_default=True, help="Column with the activity.")
@click.option("--time", default=TIME, show_default=True, help="Column with the time.")
@file_options
def learn_rules(
    log: str,
    output: str | None,
    case: str,
    activity: str,
    time: str,
    delimiter: str | None,
    encoding: str | None,
) -> None:
    """Learn from a log (CSV, JSON lines or XES, each also with .gz) what may follow each activity.

    Writes the rules as JSON: for each activity the activities that came directly before it in a
    case, "" where it came first. EVENTFLEET_RULES names a file of rules for process_log. Status 1
    if rows were left out.
    """
    from eventfleet.log_files import Columns, FileFormat, directly_follows, open_log

    if output:
        _check_writable(output)
    file_format = FileFormat(delimiter or "", encoding or "")
    with open_log(log, Columns(case, activity, time), file_format) as rows:
        learned = directly_follows.learn_rules(rows)
    written = directly_follows.format_rules(learned.rules)
    if output:
        Path(output).write_bytes(written)
    else:
        click.echo(written, nl=False)
    read = f"{learned.rows - learned.left_out:,} rows, {len(learned.rules):,} activities"
    successions = sum(map(len, learned.rules.values()))
    click.echo(f"learned from {read}: {successions:,} successions", err=True)
    for problem in learned.problems:
        click.echo(printable(problem), err=True)
    more = learned.left_out - len(learned.problems)
    if more > 0:
        click.echo(f"and {more:,} more left out", err=True)
    if learned.left_out:
        raise click.exceptions.Exit(1)


def _check_writable(path: str) -> None:
    """Fail before the work, not after it."""
    try:
        Path(path).touch()
    except OSError as error:
        raise click.UsageError(f"{path} can't be written: {error.strerror}") from error
