"""The HTTP service as a process: opened on the servers, served until it is to end."""

import asyncio
import logging
import re
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_address
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from eventfleet.model.domain import Domain
from eventfleet.runtime import connections
from eventfleet.runtime.event_services import event_service_over, waiting_room
from eventfleet.runtime.settings import Settings, variable
from eventfleet.service.decider_metrics import DeciderMetrics
from eventfleet.states.querier import Querier
from eventfleet.stores.clock import SystemClock
from eventfleet.topics.errors import EventfleetError
from eventfleet.web import (
    Access,
    Application,
    DomainServices,
    Limits,
    LocalAccess,
    TokenAccess,
    read_key,
)

BACKLOG = 1_024
KEEP_ALIVE = 60
MORE = 2.0
SERVING = re.compile(r"^\S+ \S+ INFO serving .* at (http://\S+)\n", re.MULTILINE)
"""What the process logs when it is about to serve."""


class NotServed(EventfleetError):
    """The service can't be opened at its address, or must not be."""


@asynccontextmanager
async def http_application(
    settings: Settings, domains: Mapping[str, Domain[Any]], access: Access | None = None
) -> AsyncIterator[Application]:
    """The ASGI application of these domains, on the servers that the settings name.

    Who may do what is said by `access`, and without it by the settings.

    Unreachable where one of them does not answer; Misconfigured where the topics are not there.
    """
    access = access or _access(settings)
    async with (
        connections.stores(settings, domains) as stores,
        connections.stores(settings, domains, long_reads=True) as reading,
        waiting_room(settings) as waiting,
        AsyncExitStack() as stack,
    ):
        served, tallies = {}, DeciderMetrics()
        for name, domain in domains.items():
            opened = stores[name]
            await opened.events.prepare()
            await opened.snapshots.prepare()
            opening = event_service_over(settings, domain, opened, waiting, tallies)
            commands = await stack.enter_async_context(opening)
            queries = Querier(domain, reading[name], SystemClock(), limit=settings.snapshot_bytes)
            served[name] = DomainServices(domain, commands, queries, reading[name].events)
        limits = Limits(requests=settings.http_requests, seconds=settings.http_timeout)
        yield Application(served, access, limits, tallies)


def _access(settings: Settings) -> Access:
    if not settings.token_key_file:
        return LocalAccess()
    key = read_key(settings.token_key_file)
    return TokenAccess(key, settings.token_issuer, settings.token_audience)


@asynccontextmanager
async def bound(settings: Settings, or_any: bool = False) -> AsyncIterator[socket.socket]:
    """The service's socket, at which callers wait already; with `or_any` at any port if need be.

    NotServed where it can't be had, or others could reach it without a token.
    """
    host, port = settings.http_host, settings.http_port
    if not settings.token_key_file and not is_loopback(host):
        needed = variable("token_key_file")
        raise NotServed(f"{variable('http_host')}={host} can be reached by others: set {needed}")
    try:
        listener = _bind(host, port, or_any)
    except OSError as error:
        hint = f"another port is chosen by {variable('http_port')}, any free one by 0"
        reason = f"the service can't be opened at {host}:{port} ({error.strerror}); {hint}"
        raise NotServed(reason) from error
    with listener:
        yield listener


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bind(host: str, port: int, or_any: bool) -> socket.socket:
    taken = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((host, port))
        taken.listen(BACKLOG)  # of two that are only bound, both might think to have the port
    except OSError:
        taken.close()
        if or_any and port:
            return _bind(host, 0, False)
        raise
    return taken


def address(listener: socket.socket) -> str:
    """The URL of a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


async def serve(
    app: ASGIApp, listener: socket.socket, settings: Settings, stop: asyncio.Event
) -> None:
    """Serve until `stop` is set; then take no more, and finish what is in hand."""
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        backlog=BACKLOG,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=int(settings.http_timeout + MORE),
    )
    server = uvicorn.Server(config)
    # `serve` itself would take the signals, and end the process by them.
    serving = asyncio.create_task(server._serve([listener]))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    stopping.cancel()
    await serving
