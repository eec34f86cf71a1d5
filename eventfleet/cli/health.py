"""`eventfleet health`: check that the servers answer and the topics are as declared."""

import asyncio
import time
from collections.abc import Awaitable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from eventfleet.cli.output import as_json, print_json, printable
from eventfleet.topics.errors import EventfleetError

if TYPE_CHECKING:
    from eventfleet.model.domain import Domain
    from eventfleet.runtime.settings import Settings

CHECK_TIMEOUT_SECONDS = 15.0


@dataclass(frozen=True)
class CheckResult:
    """The result of a check; `needed` is false where the commands work without the server."""

    check: str
    address: str
    healthy: bool
    needed: bool
    detail: str
    seconds: float


@click.command(short_help="Check that servers answer and topics are as declared.")
@click.argument("names", metavar="[DOMAIN]...", nargs=-1)
@as_json
def health(names: tuple[str, ...], json: bool) -> None:
    """Check that Kafka, MongoDB, Redis, and the HTTP service if its URL is set, answer.

    Also that the topics of the domains exist and are as declared: of all domains, or those named.
    Ends within seconds, with status 0 if all that is needed is well. Redis is needed for domains
    that validate commands by markers, and for --wait.
    """
    from eventfleet.runtime import connections
    from eventfleet.runtime.settings import load_settings

    settings = load_settings()
    named = bool(settings.domains or names)
    domains = connections.select_domains(settings, names or None) if named else {}
    results = asyncio.run(_check_all(settings, domains))
    if json:
        print_json([asdict(result) for result in results])
    else:
        _print(results, named)
    if not all(result.healthy for result in results if result.needed):
        raise click.exceptions.Exit(1)


async def _check_all(
    settings: "Settings", domains: "Mapping[str, Domain[Any]]"
) -> list[CheckResult]:
    """Run the checks at the same time; the results have a fixed order."""
    from eventfleet.runtime import connections

    uses_redis = not domains or any(domain.uses_marker for domain in domains.values())
    checks = [
        _check(each.name, each.address, each.run(), each.needed)
        for each in connections.backend(settings).checks(markers=uses_redis)
    ]
    if domains:
        checks.append(_check("topics", ", ".join(domains), _check_topics(settings, domains)))
    if settings.service_url:
        url = settings.service_url.rstrip("/")
        checks.append(_check("HTTP service", url, _check_service(url, settings.service_token)))
    return list(await asyncio.gather(*checks))


async def _check(
    name: str, address: str, work: Awaitable[str | None], needed: bool = True
) -> CheckResult:
    from eventfleet.runtime.errors import Unreachable

    started = time.monotonic()
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            detail, healthy = await work or "answers", True
    except TimeoutError:
        detail, healthy = f"no answer within {CHECK_TIMEOUT_SECONDS:.0f} s", False
    except Unreachable as error:
        detail, healthy = f"does not answer: {error.reason}", False
    except EventfleetError as error:
        detail, healthy = str(error), False
    return CheckResult(name, address, healthy, needed, detail, round(time.monotonic() - started, 3))


async def _check_topics(settings: "Settings", domains: "Mapping[str, Domain[Any]]") -> str:
    from eventfleet.runtime import connections
    from eventfleet.stores.errors import FileInUse

    routes = [spec for each in domains.values() for spec in connections.routes_of(settings, each)]
    specs = [spec for each in domains.values() for spec in connections.topics_of(settings, each)]
    try:
        async with (
            connections.log_admin(settings) as admin,
            connections.log_reader(settings) as reader,
        ):
            await connections.check_topics(settings, domains.values(), admin)
            await connections.require_topics(reader, routes)
    except FileInUse:
        return "checked by the fleet that runs"
    return f"{len(specs)} as declared, {len(routes)} of routes"


async def _check_service(url: str, token: str = "") -> str:
    import aiohttp

    from eventfleet.cli.http_client import ServiceFailed
    from eventfleet.stores.readiness_report import read_reasons

    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        timeout = aiohttp.ClientTimeout(total=CHECK_TIMEOUT_SECONDS / 2)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{url}/ready", headers=headers) as answer,
        ):
            if answer.status != 200:
                reasons = read_reasons(await answer.read())
                why = "; ".join(each.reason for each in reasons if each.blocking)
                raise ServiceFailed(why or f"answers /ready with status {answer.status}")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ServiceFailed(f"does not answer: {error or type(error).__name__}") from error
    return "ready"


def _print(results: list[CheckResult], named: bool) -> None:
    address_width = max(len(result.address) for result in results)
    for result in results:
        verdict = "ok" if result.healthy else "FAILED" if result.needed else "not needed"
        address = printable(result.address).ljust(address_width)
        detail = "; ".join(printable(line) for line in result.detail.splitlines())
        took = f"{result.seconds * 1000:,.0f} ms"
        click.echo(f"{verdict:<10}  {result.check:<12}  {address}  {took:>9}  {detail}")
    if not named:
        click.echo("the topics are not checked: EVENTFLEET_DOMAINS is not set")
