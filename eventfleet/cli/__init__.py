"""The command line `eventfleet`: one file for each group of commands."""

from typing import Any

import click

from eventfleet.cli import audit, learn, load, queries, send, serve, settings, topics, up, worker
from eventfleet.cli.output import Failure
from eventfleet.topics.errors import EventfleetError

INTERRUPTED = 130


class CommandGroup(click.Group):
    """Every fault raised on purpose ends as lines on standard error and a status, no traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EventfleetError as error:
            raise Failure(error) from error
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(
    package_name="eventfleet", prog_name="eventfleet", message="%(prog)s %(version)s"
)
def main() -> None:
    """Turns commands into stored, versioned events, keeps snapshots, and feeds events on.

    Settings come from the environment: see `eventfleet settings`.
    """


for command in (
    audit.audit,
    learn.learn_rules,
    load.load,
    queries.diff,
    queries.events,
    queries.snapshot,
    queries.state,
    send.send,
    serve.serve,
    settings.settings,
    topics.topics,
    up.run,
    up.up,
    worker.worker,
):
    main.add_command(command)
