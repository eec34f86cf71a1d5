"""`eventfleet learn-rules`: what may follow what, as a log shows it."""

from pathlib import Path

import click

from eventfleet.cli.load import ACTIVITY, CASE, TIME
from eventfleet.cli.output import printable


@click.command(name="learn-rules")
@click.argument("log", type=click.Path())
@click.option("-o", "--output", metavar="FILE", help="Where to write; else standard output.")
@click.option("--case", default=CASE, show_default=True, help="Column of the case.")
@click.option("--activity", default=ACTIVITY, show_default=True, help="Column of the activity.")
@click.option("--time", default=TIME, show_default=True, help="Column of the time.")
def learn_rules(log: str, output: str | None, case: str, activity: str, time: str) -> None:
    """Learn from a log (CSV, JSON lines or XES, each also with .gz) what may follow what.

    Writes the rules as JSON: for each activity those that came directly before it in a case, ""
    where it was a case's first. EVENTFLEET_RULES names a file of rules for process_log. Status 1
    when rows were left out.
    """
    from eventfleet.log_files import Columns, directly_follows, open_log

    if output:
        _check_writable(output)
    with open_log(log, Columns(case, activity, time)) as rows:
        learnt = directly_follows.learn(rows)
    written = directly_follows.text(learnt.rules)
    if output:
        Path(output).write_bytes(written)
    else:
        click.echo(written, nl=False)
    kinds = f"{learnt.rows - learnt.left_out:,} rows, {len(learnt.rules):,} activities"
    successions = sum(map(len, learnt.rules.values()))
    click.echo(f"learnt from {kinds}: {successions:,} successions", err=True)
    for problem in learnt.problems:
        click.echo(printable(problem), err=True)
    more = learnt.left_out - len(learnt.problems)
    if more > 0:
        click.echo(f"and {more:,} more left out", err=True)
    if learnt.left_out:
        raise click.exceptions.Exit(1)


def _check_writable(path: str) -> None:
    """Before the work, not after it."""
    try:
        Path(path).touch()
    except OSError as error:
        raise click.UsageError(f"{path} can't be written: {error.strerror}") from error
