"""`eventfleet worker`: run roles of domains in one process."""

import logging
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import click

from eventfleet.cli.output import log_progress

if TYPE_CHECKING:
    from eventfleet.model.domain import Domain
    from eventfleet.runtime.settings import Settings
    from eventfleet.stores.contracts import DomainStores
    from eventfleet.workers.duties import Duties, RoleName
    from eventfleet.workers.metrics import Metrics

logger = logging.getLogger(__name__)

ROLE = click.Choice(["append", "command", "snapshot", "relay"])


@click.command(short_help="Run roles: append, command, snapshot, relay.")
@click.argument("roles", metavar="ROLE...", type=ROLE, nargs=-1, required=True)
@click.option(
    "--domain", "names", multiple=True, help="Run roles of this domain only; may be repeated."
)
def worker(roles: "tuple[RoleName, ...]", names: tuple[str, ...]) -> None:
    """Run roles (append, command, snapshot, relay) until SIGTERM or Ctrl-C.

    Needs running servers, EVENTFLEET_DOMAINS, and topics (`eventfleet topics create`). When
    stopped, each role finishes its chunk, commits and leaves its consumer group. /metrics, /live
    and /ready are served for the whole process at EVENTFLEET_METRICS_HOST and
    EVENTFLEET_METRICS_PORT.
    """
    from eventfleet.runtime import connections
    from eventfleet.runtime.event_loop import run
    from eventfleet.runtime.settings import load_settings

    log_progress()
    settings = load_settings()
    run(_work(settings, connections.select_domains(settings, names), sorted(set(roles))))


async def _work(
    settings: "Settings", domains: "Mapping[str, Domain[Any]]", roles: "Iterable[RoleName]"
) -> None:
    from eventfleet.runtime import connections
    from eventfleet.runtime.event_services import decider
    from eventfleet.workers.duties import Duties
    from eventfleet.workers.metrics import Metrics
    from eventfleet.workers.stage_notifier import BackgroundNotifier

    async with (
        connections.log_admin(settings) as admin,
        connections.stores(settings, domains) as stores,
        AsyncExitStack() as stack,
    ):
        await connections.check_topics(settings, domains.values(), admin)
        for opened in stores.values():
            await opened.events.prepare()
            await opened.snapshots.prepare()
        metrics, deciders = Metrics(), {}
        if "command" in roles:
            for name, domain in domains.items():
                opening = decider(settings, domain, stores[name], metrics.tallies)
                deciders[name] = await stack.enter_async_context(opening)
        writer = await stack.enter_async_context(connections.log_writer(settings))
        connection, transactional = connections.connection(settings), await admin.transactional()
        notifier = BackgroundNotifier(
            connections.notices(settings), metrics.notices, metrics.notices_lost
        )
        await stack.enter_async_context(notifier.running())
        duties = Duties(settings, connection, transactional, deciders, writer, notifier)
        if "relay" in roles:
            async with connections.log_reader(settings) as reader:
                routes = [s for d in domains.values() for s in connections.routes_of(settings, d)]
                await connections.require_topics(reader, routes)
        parts = [(r, d, stores[d.name]) for d in domains.values() for r in roles]
        await _run(settings, duties, parts, metrics)


async def _run(
    settings: "Settings",
    duties: "Duties",
    parts: "list[tuple[RoleName, Domain[Any], DomainStores]]",
    metrics: "Metrics",
) -> None:
    from eventfleet.workers.app_runner import role_app, run_apps, stop_signals
    from eventfleet.workers.duties import source_of
    from eventfleet.workers.health_server import HealthServer

    connection = duties.connection
    apps = [
        role_app(settings, connection, duties.duty(*part), source_of(*part[:2]), metrics)
        for part in parts
    ]
    page = HealthServer(metrics, apps)
    async with (
        page.served(settings.metrics_host, settings.metrics_port) as url,
        stop_signals() as stop,
    ):
        for role, domain, _ in parts:
            logger.info(duties.guarantee(role, domain))
        logger.info("metrics, liveness and readiness: %s", url)
        await run_apps(apps, stop)
