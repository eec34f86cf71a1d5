"""`eventfleet worker`: run roles of domains in one process."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from eventfleet.cli.logs import log_progress
from eventfleet.cli.output import tell_end
from eventfleet.workers.agents import ROLES

if TYPE_CHECKING:
    from eventfleet.model.domain import Domain
    from eventfleet.runtime.settings import Settings
    from eventfleet.workers.app import Tell


@click.command(short_help=f"Run roles: {', '.join(ROLES)}.")
@click.argument("roles", metavar="ROLE...", type=click.Choice(ROLES), nargs=-1, required=True)
@click.option(
    "--domain", "names", multiple=True, help="Run roles of this domain only; may be repeated."
)
def worker(roles: tuple[str, ...], names: tuple[str, ...]) -> None:
    """Run roles (append, command, snapshot, relay, project) until SIGTERM or Ctrl-C.

    Needs running servers, EVENTFLEET_DOMAINS, and topics (`eventfleet topics create`). When
    stopped, each role finishes its chunk, commits and leaves its consumer group. /metrics, /live
    and /ready are served for the whole process at EVENTFLEET_METRICS_HOST and
    EVENTFLEET_METRICS_PORT.
    """
    from eventfleet.cli.process import run_process
    from eventfleet.runtime import connections
    from eventfleet.runtime.settings import load_settings

    log_progress()
    settings = load_settings()
    domains = connections.select_domains(settings, names or None)
    run_process(run_worker(settings, domains, sorted(set(roles)), tell=tell_end))


async def run_worker(
    settings: "Settings",
    domains: "Mapping[str, Domain[Any]]",
    roles: Sequence[str],
    tell: "Tell | None" = None,
) -> None:
    """Run until a signal. An error that ends the apps is told before they are stopped."""
    from eventfleet.runtime.process_stop import run_until_stopped
    from eventfleet.workers.worker import work_roles

    await run_until_stopped(lambda stop: work_roles(settings, domains, roles, stop, tell))
