"""The command line `eventfleet`: one file for each group of commands."""

import traceback
from os.path import exists
from typing import Any

import click

from eventfleet.cli import (
    audit,
    backup,
    check,
    deadletters,
    health,
    learn,
    load,
    queries,
    repair,
    send,
    serve,
    settings,
    topics,
    up,
    views,
    worker,
)
from eventfleet.cli.logs import log_debug, log_last_error, logs_json
from eventfleet.cli.output import Failure, is_told
from eventfleet.topics.errors import EventfleetError, InvalidRecord
from eventfleet.topics.values import require_text

INTERRUPTED_STATUS = 130


class MissingPart(EventfleetError):
    """A part of the installation can't be imported."""

    def __init__(self, error: ImportError) -> None:
        super().__init__(
            f"a part of the installation is missing ({error}): install it by "
            "`pip install eventfleet`"
        )


class CommandGroup(click.Group):
    """Prints every error raised on purpose as lines on standard error, without a traceback.

    Where the log is JSON, the error is a line of the log.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse arguments in another encoding, but for the names of files."""
        for number, arg in enumerate(args, 1):
            try:
                arg.isascii() or exists(arg.removeprefix("@")) or require_text(arg)
            except InvalidRecord as error:
                raise click.UsageError(f"argument {number} {error.reason}") from None
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (EventfleetError, ImportError) as error:
            if is_told(error):
                ctx.exit(1)
            verbose = bool(ctx.params.get("verbose"))
            failure = Failure(MissingPart(error) if isinstance(error, ImportError) else error)
            if logs_json():
                log_last_error(failure.message, error if verbose else None)
                ctx.exit(failure.exit_code)
            if verbose:
                click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
            raise failure from error
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED_STATUS)
        except Exception as error:
            if is_told(error):
                ctx.exit(1)
            raise


EPILOG = """\b
Start here: `eventfleet up` runs everything on this machine.
Shell completion (bash; zsh_source and fish_source for other shells):
  eval "$(_EVENTFLEET_COMPLETE=bash_source eventfleet)"
"""


@click.group(
    cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG
)
@click.option(
    "-v", "--verbose", is_flag=True, help="Log debug messages, and print tracebacks of errors."
)
@click.version_option(
    package_name="eventfleet", prog_name="eventfleet", message="%(prog)s %(version)s"
)
def main(verbose: bool) -> None:
    """Run an event-sourcing worker fleet: decide commands, store events, answer queries.

    Settings come from environment variables, which `eventfleet settings` lists. EVENTFLEET_DOMAINS
    names the modules that declare your domains.
    """
    if verbose:
        log_debug()


for command in (
    audit.audit,
    backup.backup,
    check.check,
    deadletters.deadletters,
    health.health,
    learn.learn_rules,
    load.load,
    queries.diff,
    queries.events,
    queries.follow,
    queries.snapshot,
    queries.state,
    repair.restore,
    repair.rewind,
    send.send,
    serve.serve,
    settings.settings,
    topics.topics,
    up.run,
    up.up,
    views.rebuild,
    views.view,
    worker.worker,
):
    main.add_command(command)
