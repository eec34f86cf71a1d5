"""`eventfleet serve`: the HTTP service."""

import logging
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from eventfleet.runtime.settings import Settings

logger = logging.getLogger(__name__)


@click.command()
@click.argument("names", metavar="[DOMAIN]...", nargs=-1)
@click.option("--or-any", is_flag=True, help="Use any free port if the configured one is taken.")
def serve(names: tuple[str, ...], or_any: bool) -> None:
    """Serve commands and queries of the domains over HTTP until SIGTERM or Ctrl-C.

    Without names, all configured domains are served. The servers must be running, with the topics
    created. At the end the service finishes the active requests. /openapi.json describes all
    operations; /metrics, /live and /ready are for operators.
    """
    from eventfleet.runtime.event_loop import run
    from eventfleet.runtime.settings import load

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logger.setLevel(logging.INFO)
    run(_serve(load(), names, or_any))


async def _serve(settings: "Settings", names: tuple[str, ...], or_any: bool) -> None:
    from eventfleet.runtime import connections
    from eventfleet.runtime.http_server import http_application, listening_socket, serve, socket_url
    from eventfleet.workers.app_runner import stop_signals

    domains = connections.chosen(settings, names)
    async with (
        listening_socket(settings, or_any) as listener,
        http_application(settings, domains) as app,
        stop_signals() as stop,
    ):
        logger.info("serving %s at %s", ", ".join(domains), socket_url(listener))
        await serve(app, listener, settings, stop)
