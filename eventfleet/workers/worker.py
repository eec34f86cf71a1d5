"""A worker: roles of domains in one process."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from eventfleet.deciders.decider import Decider
from eventfleet.model.domain import Domain
from eventfleet.runtime import connections
from eventfleet.runtime.event_services import decider, stage_waiters
from eventfleet.runtime.event_shapes import register_event_shapes
from eventfleet.runtime.partitions import register_partitions, require_partition_setting
from eventfleet.runtime.process_stop import STOP_SECONDS, StopSignal
from eventfleet.runtime.server_wait import StartLimit, wait_for_servers
from eventfleet.runtime.settings import Settings
from eventfleet.runtime.topic_watch import TopicWatch
from eventfleet.service.decider_metrics import DeciderMetrics
from eventfleet.stores.contracts import DomainStores, LogAdmin, LogReader, StoresByDomain
from eventfleet.stores.errors import Misconfigured
from eventfleet.topics.errors import EventfleetError
from eventfleet.workers.agent import DomainAgent, WorkerContext
from eventfleet.workers.agents import ROLES, agent_class
from eventfleet.workers.app import Tell
from eventfleet.workers.app_runner import role_app, run_apps, worker_timeouts
from eventfleet.workers.health_server import HealthServer
from eventfleet.workers.metrics import Metrics
from eventfleet.workers.stage_notifier import BackgroundNotifier
from eventfleet.workers.worker_log import worker_log

logger = logging.getLogger(__name__)


class NothingToDo(EventfleetError):
    """None of the domains has work for the roles."""


@asynccontextmanager
async def running_roles(settings: Settings, domains: Iterable[Domain[Any]]) -> AsyncIterator[None]:
    """Runs all roles of the domains in this process, within the block; creates missing topics.

    So a program of your own is a whole fleet on a file, which no second process can use. An error
    that ends the roles is logged, and raised at the end of the block.
    """
    named = {each.name: connections.prefixed(settings, each) for each in domains}
    if "metrics_port" not in settings.model_fields_set:
        settings = settings.model_copy(update={"metrics_port": 0})
    stop = StopSignal()
    async with connections.opened(settings):
        await connections.create_topics(settings, named.values())
        working = asyncio.create_task(work_roles(settings, named, list(ROLES), stop, _log_end))
        try:
            yield
        finally:
            stop.set()
            if not stop.heeded:
                working.cancel()
            await asyncio.wait({working}, timeout=STOP_SECONDS)
            working.cancel()
        if not working.cancelled():
            working.result()


def _log_end(error: Exception) -> None:
    logger.error("the roles end: %s", error)


async def work_roles(
    settings: Settings,
    domains: Mapping[str, Domain[Any]],
    roles: Sequence[str],
    stop: StopSignal,
    tell: Tell | None = None,
) -> None:
    """Run until `stop` is set, which is heeded once the servers are open."""
    limit = StartLimit(settings)
    await wait_for_servers(settings, domains, markers="command" in roles, limit=limit)
    async with limit.opened(lambda: _opened(settings, domains, roles)) as opened:
        stop.heeded = True
        await _run(settings, *opened, stop, limit.seconds_left, tell)


@asynccontextmanager
async def _opened(
    settings: Settings, domains: Mapping[str, Domain[Any]], roles: Sequence[str]
) -> AsyncIterator[tuple[WorkerContext, list[DomainAgent], dict[str, Misconfigured]]]:
    """Open the servers, check what is declared there, and make the agents; with the domains of
    which it is not as they need it."""
    async with (
        connections.log_admin(settings) as admin,
        connections.stores(settings, domains) as stores,
        AsyncExitStack() as stack,
    ):
        refused = await _check(settings, domains, admin, stores, roles)
        metrics = Metrics()
        deciders: dict[str, Decider] = {}
        if "command" in roles:
            fit = {name: domain for name, domain in domains.items() if name not in refused}
            deciders = await _open_deciders(settings, fit, stores, metrics, stack)
        context = await _open_context(settings, admin, deciders, metrics, stack)
        agents = [
            agent_class(role)(domain, stores[domain.name], context)
            for domain in domains.values()
            for role in roles
            if agent_class(role).serves(domain)
        ]
        if not agents:
            raise NothingToDo(f"no domain among {', '.join(domains)} declares views")
        yield context, agents, refused


async def _check(
    settings: Settings,
    domains: Mapping[str, Domain[Any]],
    admin: LogAdmin,
    stores: StoresByDomain,
    roles: Sequence[str],
) -> dict[str, Misconfigured]:
    """Return the domains of which something is not as they need it, with what it is.

    Misconfigured where that is so of all.
    """
    refused: dict[str, Misconfigured] = {}
    async with connections.log_reader(settings) as reader:
        for name, domain in domains.items():
            try:
                await _check_domain(settings, domain, admin, reader, stores[name], roles)
            except Misconfigured as error:
                refused[name] = error
    if len(refused) < len(domains):
        return refused
    if len(refused) == 1:
        raise next(iter(refused.values()))
    lines = [line for error in refused.values() for line in str(error).splitlines()]
    raise Misconfigured("\n".join(dict.fromkeys(lines)))


async def _check_domain(
    settings: Settings,
    domain: Domain[Any],
    admin: LogAdmin,
    reader: LogReader,
    opened: DomainStores,
    roles: Sequence[str],
) -> None:
    """Misconfigured for topics and indexes that are absent or not as declared, and for another
    number of partitions, or other shapes of events, than those of the stored events."""
    registry = opened.events.registry
    counts = await require_partition_setting(settings, domain, reader, registry)
    await connections.check_topics(settings, [domain], admin, counts)
    await opened.events.prepare()
    await opened.snapshots.prepare()
    if opened.dead_letters:
        await opened.dead_letters.prepare()
    await register_partitions(settings, domain, registry)
    await register_event_shapes(domain, opened.events, roles)


async def _open_deciders(
    settings: Settings,
    domains: Mapping[str, Domain[Any]],
    stores: StoresByDomain,
    metrics: Metrics,
    stack: AsyncExitStack,
) -> dict[str, Decider]:
    decider_metrics = DeciderMetrics()
    metrics.register(decider_metrics)
    waiters = await stack.enter_async_context(stage_waiters(settings))
    return {
        name: await stack.enter_async_context(
            decider(settings, domain, stores[name], decider_metrics, waiters=waiters)
        )
        for name, domain in domains.items()
    }


async def _open_context(
    settings: Settings,
    admin: LogAdmin,
    deciders: Mapping[str, Decider],
    metrics: Metrics,
    stack: AsyncExitStack,
) -> WorkerContext:
    notifier = BackgroundNotifier(
        connections.backend(settings).notices(), metrics.notices, metrics.notices_lost
    )
    return WorkerContext(
        settings,
        worker_log(settings, await admin.transactional()),
        await stack.enter_async_context(connections.log_writer(settings)),
        await stack.enter_async_context(connections.log_reader(settings)),
        deciders,
        await stack.enter_async_context(notifier.running()),
        metrics=metrics,
    )


async def _run(
    settings: Settings,
    context: WorkerContext,
    agents: Sequence[DomainAgent],
    refused: Mapping[str, Misconfigured],
    stop: asyncio.Event,
    start_seconds: float,
    tell: Tell | None,
) -> None:
    metrics, timeouts = context.metrics, worker_timeouts(settings)
    apps = [
        role_app(settings, context.log, agent, metrics, timeouts, start_seconds) for agent in agents
    ]
    watch = TopicWatch(settings, context.reader)
    working = []
    for agent, app in zip(agents, apps, strict=True):
        if error := refused.get(agent.domain_name):
            app.halt(str(error))
            continue
        watch.add(agent.topic_uses, app.halt)
        working.append(app)
    health = HealthServer(metrics, apps)
    async with health.served(settings.metrics_host, settings.metrics_port) as url:
        for agent in agents:
            if agent.domain_name not in refused:
                logger.info(agent.guarantee)
        logger.info("metrics, liveness and readiness: %s", url)
        async with watch.running(), context.log.kept(settings):
            await run_apps(working, stop, tell)
