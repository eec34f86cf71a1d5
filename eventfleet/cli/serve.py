"""`eventfleet serve`: run the HTTP service."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eventfleet.cli.logs import log_progress
from eventfleet.cli.output import tell_end

if TYPE_CHECKING:
    from socket import socket

    from eventfleet.model.domain import Domain
    from eventfleet.runtime.process_stop import StopSignal
    from eventfleet.runtime.settings import Settings
    from eventfleet.web.feed_sockets import FeedPath
    from eventfleet.web.operation import Operation

logger = logging.getLogger(__name__)


@click.command(short_help="Run the HTTP service.")
@click.argument("names", metavar="[DOMAIN]...", nargs=-1)
@click.option("--or-any", is_flag=True, help="Use any free port where the port is taken.")
@click.option(
    "--url-file",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the service's URL to this file once it serves.",
)
def serve(names: tuple[str, ...], or_any: bool, url_file: Path | None) -> None:
    """Serve commands and queries of the domains over HTTP until SIGTERM or Ctrl-C.

    Needs EVENTFLEET_DOMAINS, and running servers with topics (`eventfleet topics create`). Where no
    server is named, it serves from the file in EVENTFLEET_DATA or ./eventfleet-data, and runs all
    roles, too. When stopped, it finishes the requests in hand. /openapi.json describes all
    operations; /metrics, /live and /ready are for operators, and with EVENTFLEET_HTTP_METRICS_PORT
    they are also served at a port of their own, at EVENTFLEET_METRICS_HOST and without a token.
    """
    from eventfleet.cli.process import run_process
    from eventfleet.runtime.settings import load_settings, with_data

    log_progress()
    run_process(_serve(with_data(load_settings()), names, or_any, url_file))


async def _serve(
    settings: "Settings", names: tuple[str, ...], or_any: bool, url_file: Path | None
) -> None:
    from eventfleet.runtime import connections
    from eventfleet.runtime.http_server import listening_socket, select_operations, socket_url
    from eventfleet.runtime.process_stop import StopSignal, run_until_stopped

    domains = connections.select_domains(settings, names or None)
    operations = select_operations(settings)

    async with listening_socket(settings, or_any) as listener, connections.opened(settings):

        def tell() -> None:
            url = socket_url(listener)
            logger.info("serving %s at %s", ", ".join(domains), url)
            if url_file:
                url_file.write_text(f"{url}\n")

        async def serve_until(stop: StopSignal) -> None:
            await serve_domains(settings, domains, operations, listener, stop, tell)

        async def work(stop: StopSignal) -> None:
            if settings.data:
                await _run_roles_beside(settings, domains, serve_until, stop)
            else:
                await serve_until(stop)

        await run_until_stopped(work)


async def _run_roles_beside(
    settings: "Settings",
    domains: "Mapping[str, Domain[Any]]",
    serve_until: "Callable[[StopSignal], Coroutine[Any, Any, None]]",
    stop: "StopSignal",
) -> None:
    """Run all roles, which no other process can, and serve. Where one ends, both do."""
    from eventfleet.runtime import connections
    from eventfleet.workers.agents import ROLES
    from eventfleet.workers.worker import work_roles

    await connections.create_topics(settings, domains.values())
    parts = [
        asyncio.create_task(work_roles(settings, domains, list(ROLES), stop, tell_end)),
        asyncio.create_task(serve_until(stop)),
    ]
    try:
        await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        stop.heeded = True  # nothing is to be cancelled: roles end by `stop` alone
        stop.set()
        await asyncio.wait(parts)
        await asyncio.gather(*parts)
    finally:
        for part in parts:
            part.cancel()


async def serve_domains(
    settings: "Settings",
    domains: "Mapping[str, Domain[Any]]",
    operations: "Sequence[Operation | FeedPath]",
    listener: "socket",
    stop: "StopSignal",
    tell: Callable[[], None],
) -> None:
    """Serve until `stop` is set, which is heeded once the servers are open; `tell` is called
    then."""
    from eventfleet.runtime.http_server import http_application, serve, served_probes
    from eventfleet.runtime.server_wait import StartLimit, wait_for_servers

    limit = StartLimit(settings)
    await wait_for_servers(settings, domains, markers=True, limit=limit)
    async with (
        limit.opened(lambda: http_application(settings, domains, operations=operations)) as app,
        served_probes(app.probes, settings) as probes_url,
    ):
        stop.heeded = True
        if probes_url:
            logger.info("metrics, liveness and readiness: %s", probes_url)
        tell()
        await serve(app, listener, settings, stop)
