"""`eventfleet serve`: the HTTP service."""

import logging
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from eventfleet.runtime.settings import Settings

logger = logging.getLogger(__name__)


@click.command()
@click.argument("names", metavar="[DOMAIN]...", nargs=-1)
@click.option("--or-any", is_flag=True, help="Where the port is taken, take any free one.")
def serve(names: tuple[str, ...], or_any: bool) -> None:
    """Serve commands and queries of the domains over HTTP until SIGTERM or Ctrl-C.

    Needs running servers, and topics; it then finishes the requests in hand. /openapi.json
    describes what it takes; /metrics, /live and /ready are for operators.
    """
    from eventfleet.runtime.event_loop import run
    from eventfleet.runtime.settings import load

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logger.setLevel(logging.INFO)
    run(_serve(load(), names, or_any))


async def _serve(settings: "Settings", names: tuple[str, ...], or_any: bool) -> None:
    from eventfleet.runtime import connections
    from eventfleet.runtime.http_server import address, bound, http_application, serve
    from eventfleet.workers.app_runner import stop_signals

    domains = connections.chosen(settings, names)
    async with (
        bound(settings, or_any) as listener,
        http_application(settings, domains) as app,
        stop_signals() as stop,
    ):
        logger.info("serving %s at %s", ", ".join(domains), address(listener))
        await serve(app, listener, settings, stop)
