"""The HTTP service as a process: connects to the servers, and serves until it is stopped."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext, suppress
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from eventfleet.feeds.feed_hub import EventBroadcast
from eventfleet.feeds.feed_session import MAX_FRAME_BYTES
from eventfleet.model.domain import Domain
from eventfleet.model.registry import find_declared
from eventfleet.runtime import connections
from eventfleet.runtime.connections import prefixed
from eventfleet.runtime.event_services import event_service_over, stage_waiters
from eventfleet.runtime.feeds import event_feed, followed_domains, open_channels
from eventfleet.runtime.http_protocol import HttpProtocol
from eventfleet.runtime.server_checks import server_checks
from eventfleet.runtime.settings import Settings, is_loopback, split, variable
from eventfleet.runtime.topic_watch import TopicWatch
from eventfleet.service.decider_metrics import DeciderMetrics
from eventfleet.service.parked_aggregates import ParkedAggregates
from eventfleet.states.live_state import LiveState
from eventfleet.states.lru_cache import LruCache
from eventfleet.states.querier import Querier
from eventfleet.stores.clock import SystemClock
from eventfleet.topics.errors import EventfleetError
from eventfleet.web import (
    Access,
    Application,
    DomainServices,
    KeyFile,
    Limits,
    LocalAccess,
    TokenAccess,
)
from eventfleet.web.failure_log import StreamCutOff
from eventfleet.web.feed_sockets import FeedPath, feed_sockets
from eventfleet.web.key_set_url import KeySetAccess, KeySetUrl
from eventfleet.web.operation import Operation

BACKLOG_CONNECTIONS = 1_024
KEEP_ALIVE_SECONDS = 60
PING_SECONDS = 20.0
SHUTDOWN_MARGIN_SECONDS = 2.0
"""Added to a request's timeout at shutdown, for sending the response."""


class ListenFailed(EventfleetError):
    """The service cannot or must not listen at its address."""


@asynccontextmanager
async def http_application(
    settings: Settings,
    domains: Mapping[str, Domain[Any]],
    access: Access | None = None,
    operations: Sequence[Operation | FeedPath] = (),
) -> AsyncIterator[Application]:
    """Opens the ASGI application of these domains on the servers of the settings.

    Without `access`, the settings decide who may do what. `operations` of a team's own are served,
    too, but for those of other domains. Unreachable: a server does not answer;
    Misconfigured: topics are missing.
    """
    async with (
        nullcontext(access) if access else _opened_access(settings) as access,
        connections.stores(settings, domains) as stores,
        connections.stores(settings, domains, long_reads=True) as reading,
        stage_waiters(settings) as waiters,
        open_channels(settings) as channels,
        AsyncExitStack() as stack,
    ):
        services, metrics = {}, DeciderMetrics()
        reader = connections.backend(settings).reader()
        stack.push_async_callback(reader.close)
        watch = TopicWatch(settings, reader)
        for name, declared in domains.items():
            domain, opened = prefixed(settings, declared), stores[name]
            cache: LruCache[LiveState] = LruCache(settings.cached_aggregates)
            queries = Querier(
                domain, reading[name], SystemClock(), limit=settings.snapshot_bytes, cache=cache
            )
            announce = None
            if domain.followed:
                broadcast = EventBroadcast(channels, name)
                announce = (await stack.enter_async_context(broadcast.running())).announce
            opening = event_service_over(
                *(settings, domain, opened, queries, waiters, metrics, cache, announce, watch)
            )
            commands = await stack.enter_async_context(opening)
            assert opened.dead_letters is not None
            parked = ParkedAggregates(name, opened.dead_letters, SystemClock())
            events = reading[name].events
            feed = event_feed(settings, domain, queries, events)
            await stack.enter_async_context(feed.running())
            services[name] = DomainServices(domain, commands, queries, events, parked, feed)
        limits = Limits(
            concurrent_requests=settings.http_requests, timeout_seconds=settings.http_timeout
        )
        checks = await stack.enter_async_context(server_checks(settings, services))
        followed = await stack.enter_async_context(followed_domains(settings, services, channels))
        if services:
            await stack.enter_async_context(watch.running())
        origins = split(settings.http_origins)
        own = [each for each in operations if not each.domain or each.domain in services]
        yield Application(
            services,
            access,
            limits,
            metrics,
            checks,
            [each for each in own if isinstance(each, Operation)],
            feed_sockets(
                access, followed, [each for each in own if isinstance(each, FeedPath)], origins
            ),
            access_log=settings.http_access_log,
            origins=origins,
        )


def select_operations(settings: Settings) -> list[Operation | FeedPath]:
    """Imports the operations of a team's own that the settings name.

    DeclarationError: a module can't be imported or has none.
    """
    found: list[Operation | FeedPath] = []
    for module in split(settings.http_operations):
        found += find_declared(module, Operation, FeedPath)
    return found


@asynccontextmanager
async def _opened_access(settings: Settings) -> AsyncIterator[Access]:
    if settings.token_key_url:
        keys = KeySetUrl(settings.token_key_url)
        async with keys.running():
            yield KeySetAccess(keys, settings.token_issuer, settings.token_audience)
    else:
        yield _file_access(settings) if settings.token_key_file else LocalAccess()


def _file_access(settings: Settings) -> Access:
    key_file = KeyFile(settings.token_key_file)
    return TokenAccess(key_file, settings.token_issuer, settings.token_audience)


@asynccontextmanager
async def listening_socket(
    settings: Settings, or_any: bool = False
) -> AsyncIterator[socket.socket]:
    """Opens the service's socket; callers can connect at once and wait.

    With `or_any` any free port is used if the configured one is taken. ListenFailed: the address
    is not available, or other machines could reach it without a token. InvalidKeyFile: there is
    no key for tokens, or no audience beside one that needs it.
    """
    host = settings.http_host
    if settings.token_key_file:
        _file_access(settings)
    if not (settings.token_key_file or settings.token_key_url) and not is_loopback(host):
        needed = f"{variable('token_key_file')} or {variable('token_key_url')}"
        reason = f"{variable('http_host')}={host} is reachable from other machines: set {needed}"
        raise ListenFailed(reason)
    with _open_socket(host, settings.http_port, "http_port", or_any) as listener:
        yield listener


@asynccontextmanager
async def served_probes(app: ASGIApp, settings: Settings) -> AsyncIterator[str | None]:
    """Serves the probes and metrics at their own port within the block; its value is the URL.

    None where no port is set. ListenFailed: the port is not available.
    """
    port, stop = settings.http_metrics_port, asyncio.Event()
    if port is None:
        yield None
        return
    with _open_socket(settings.metrics_host, port, "http_metrics_port") as listener:
        serving = asyncio.create_task(serve(app, listener, settings, stop))
        try:
            yield socket_url(listener)
        finally:
            stop.set()
            await serving


def _open_socket(host: str, port: int, field: str, or_any: bool = False) -> socket.socket:
    """Opens a socket; `field` names the setting of its port."""
    try:
        return _bind_socket(host, port, or_any)
    except OSError as error:
        hint = f"set {variable(field)} to another port, or to 0 for any free one"
        reason = f"cannot listen at {host}:{port} ({error.strerror}); {hint}"
        raise ListenFailed(reason) from error


def _bind_socket(host: str, port: int, or_any: bool) -> socket.socket:
    opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
        # Two processes may bind the same port; only one of them can listen.
        opened.listen(BACKLOG_CONNECTIONS)
    except OSError:
        opened.close()
        if or_any and port:
            return _bind_socket(host, 0, False)
        raise
    return opened


def socket_url(listener: socket.socket) -> str:
    """Returns the URL of a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _is_unforeseen(record: logging.LogRecord) -> bool:
    """Leaves out the server's traceback of a stream whose end is logged by its reason."""
    return not (record.exc_info and isinstance(record.exc_info[1], StreamCutOff))


async def serve(
    app: ASGIApp, listener: socket.socket, settings: Settings, stop: asyncio.Event
) -> None:
    """Serves until `stop` is set, then refuses new connections and finishes active requests."""
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    logging.getLogger("uvicorn.error").addFilter(_is_unforeseen)
    config = uvicorn.Config(
        app,
        http=HttpProtocol,
        ws="websockets-sansio",
        ws_max_size=MAX_FRAME_BYTES,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        backlog=BACKLOG_CONNECTIONS,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(settings.http_timeout + SHUTDOWN_MARGIN_SECONDS),
    )
    # Its public `serve` would install signal handlers of its own and end the process by them.
    await _Server(config, stop, app)._serve([listener])


class _Server(uvicorn.Server):
    """Ends once `stop` is set; wakes up each second, for the header with the date."""

    def __init__(self, config: uvicorn.Config, stop: asyncio.Event, app: ASGIApp) -> None:
        super().__init__(config)
        self._stop, self._app = stop, app

    async def main_loop(self) -> None:
        while not (self._stop.is_set() or await self.on_tick(0)):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), 1.0)
        if isinstance(self._app, Application):
            self._app.end_feeds()
