"""`eventfleet serve`: run the HTTP service."""

import logging
from typing import TYPE_CHECKING

import click

from eventfleet.cli.output import log_progress

if TYPE_CHECKING:
    from eventfleet.runtime.settings import Settings

logger = logging.getLogger(__name__)


@click.command(short_help="Run the HTTP service.")
@click.argument("names", metavar="[DOMAIN]...", nargs=-1)
@click.option("--or-any", is_flag=True, help="Use any free port where the port is taken.")
def serve(names: tuple[str, ...], or_any: bool) -> None:
    """Serve commands and queries of the domains over HTTP until SIGTERM or Ctrl-C.

    Needs running servers, EVENTFLEET_DOMAINS, and topics (`eventfleet topics create`). When
    stopped, it finishes the requests in hand. /openapi.json describes all operations; /metrics,
    /live and /ready are for operators.
    """
    from eventfleet.runtime.event_loop import run
    from eventfleet.runtime.settings import load_settings

    log_progress()
    run(_serve(load_settings(), names, or_any))


async def _serve(settings: "Settings", names: tuple[str, ...], or_any: bool) -> None:
    from eventfleet.runtime import connections
    from eventfleet.runtime.http_server import http_application, listening_socket, serve, socket_url
    from eventfleet.workers.app_runner import stop_signals

    domains = connections.select_domains(settings, names)
    async with (
        listening_socket(settings, or_any) as listener,
        http_application(settings, domains) as app,
        stop_signals() as stop,
    ):
        logger.info("serving %s at %s", ", ".join(domains), socket_url(listener))
        await serve(app, listener, settings, stop)
