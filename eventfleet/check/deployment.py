"""Checks domains and settings against the servers that the settings name."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

from eventfleet.check.log_check import OffsetCheck, check_partitions, check_topics
from eventfleet.check.report import CheckReport, Finding, Kind, ShowProgress
from eventfleet.check.shape_check import check_event_shapes, check_state_shapes
from eventfleet.check.store_check import StoreCheck
from eventfleet.model.domain import Domain
from eventfleet.roles.steady_offsets import STEADY_SECONDS
from eventfleet.runtime import connections
from eventfleet.runtime.errors import Unreachable
from eventfleet.runtime.settings import Settings
from eventfleet.stores.contracts import LogAdmin, LogReader, StoresByDomain
from eventfleet.stores.errors import Misconfigured

T = TypeVar("T")


@dataclass
class Servers:
    """The servers that answer; `faults`: by server, why one can't be used.

    `steady`: for how many seconds an offset is asked for again that looks lost or wrong.
    """

    reader: LogReader | None = None
    admin: LogAdmin | None = None
    stores: StoresByDomain | None = None
    faults: dict[str, str] = field(default_factory=dict)
    steady: float = 0.0


async def check_deployment(
    settings: Settings,
    domains: Mapping[str, Domain[Any]],
    show: ShowProgress,
    sample: int | None = None,
) -> AsyncIterator[CheckReport]:
    """Yield the report of each domain. ServerUnavailable: a server went away meanwhile."""
    async with AsyncExitStack() as opened:
        servers = await _open(settings, domains, opened)
        for domain in domains.values():
            yield await check_domain(settings, domain, servers, show, sample)


async def check_domain(
    settings: Settings,
    domain: Domain[Any],
    servers: Servers,
    show: ShowProgress,
    sample: int | None = None,
) -> CheckReport:
    """Check one domain against the servers that answer."""
    report = CheckReport(domain.name)
    for server, fault in servers.faults.items():
        if server != "Redis" or domain.uses_marker:
            advice = "the rest that needs it was not checked"
            report.add(Finding(Kind.SERVER, server, fault, advice))
    if servers.reader and servers.admin:
        await check_topics(settings, domain, servers.reader, servers.admin, report)
    if not servers.stores:
        return report
    stores = servers.stores[domain.name]
    registry = stores.events.registry
    await check_partitions(settings, domain, registry, report)
    if servers.reader:
        offsets = OffsetCheck(settings, domain, servers.reader, registry, report, servers.steady)
        await offsets.run()
    await check_event_shapes(domain, stores.events, report, sampled=sample is not None)
    await check_state_shapes(domain, stores.snapshots, report)
    partitions = await registry.partition_count() or settings.partitions
    await StoreCheck(domain, stores, report, show, partitions).run(sample)
    return report


async def _open(
    settings: Settings, domains: Mapping[str, Domain[Any]], opened: AsyncExitStack
) -> Servers:
    steady = 0.0 if settings.data else STEADY_SECONDS  # a file's answer does not change
    servers, names = Servers(steady=steady), connections.backend(settings).names

    async def enter(server: str, context: AbstractAsyncContextManager[T]) -> T | None:
        try:
            return await opened.enter_async_context(context)
        except (Unreachable, Misconfigured) as error:
            servers.faults[server] = str(error)
            return None

    servers.reader = await enter(names.log, connections.log_reader(settings))
    if servers.reader:
        servers.admin = await enter(names.log, connections.log_admin(settings))
    stores = connections.stores(settings, domains, long_reads=True)
    servers.stores = await enter(names.stores, stores)
    if marked := next((name for name, each in domains.items() if each.uses_marker), None):
        await enter(names.markers, connections.markers(settings, marked))
    return servers
