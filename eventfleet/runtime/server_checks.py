"""Checks of the servers that an HTTP service needs, which its readiness asks."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from eventfleet.runtime import connections
from eventfleet.runtime.settings import Settings
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.refusals import refused_operations
from eventfleet.web import DomainServices
from eventfleet.web.readiness import Check, WritesRefused

Call = Callable[[], Awaitable[object]]


@asynccontextmanager
async def server_checks(
    settings: Settings, services: Mapping[str, DomainServices]
) -> AsyncIterator[dict[str, Check]]:
    """Opens checks of the servers that these domains need; all domains are on the same servers.

    Each reads, then writes what nobody reads, where the server has a place for it, and then looks
    at what became of the commands' own calls.
    """
    registry = next(iter(services.values())).events.registry
    events_topic = next(iter(services.values())).domain.topics.events
    marked = [name for name, each in services.items() if each.domain.uses_marker]
    async with AsyncExitStack() as stack:
        reader = await stack.enter_async_context(connections.log_reader(settings))
        log, stores, others = connections.backend(settings).names
        checks = {stores: _check(stores, registry.epoch, lambda: registry.check_writable())}
        if log not in checks:
            checks[log] = _check(log, lambda: reader.watermarks(events_topic))
        if others not in checks and marked:
            markers = await stack.enter_async_context(connections.markers(settings, marked[0]))
            checks[others] = _check(others, markers.incarnation, lambda: markers.check_writable())
        elif others not in checks and any(each.domain.followed for each in services.values()):
            checks[others] = _check(others)
        yield checks


def _check(server: str, read: Call | None = None, write: Call | None = None) -> Check:
    async def check() -> None:
        if read:
            await read()
        if write:
            await _write(write)
        if refused := refused_operations(server):
            raise WritesRefused(", ".join(refused))

    return check


async def _write(write: Call) -> None:
    try:
        await write()
    except ServerUnavailable as error:
        raise WritesRefused(str(error)) from error
