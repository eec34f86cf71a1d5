"""`eventfleet topics create` and `eventfleet topics raise-epoch`: manage the topics."""

import asyncio
from typing import TYPE_CHECKING, Any

import click

from eventfleet.cli.output import as_json, print_json

if TYPE_CHECKING:
    from eventfleet.model.domain import Domain
    from eventfleet.runtime.settings import Settings
    from eventfleet.topics.topic_specs import TopicSpec


@click.group()
def topics() -> None:
    """Create and check the topics of the domains."""


@topics.command()
@click.argument("names", metavar="[DOMAIN]...", nargs=-1)
@as_json
def create(names: tuple[str, ...], json: bool) -> None:
    """Create missing topics, then check that the domains' topics are set up to lose nothing.

    Of all domains, or those named. Topics that routes write to belong to others: they are created
    where missing, and not checked. Status 1 if a topic differs from its declaration.
    """
    from eventfleet.runtime import connections
    from eventfleet.runtime.settings import load_settings

    settings = load_settings()
    domains = list(connections.select_domains(settings, names).values())
    specs = [spec for domain in domains for spec in connections.topics_of(settings, domain)]
    routes = [spec for domain in domains for spec in connections.routes_of(settings, domain)]
    created, differences = asyncio.run(_create(settings, specs, routes))
    if json:
        print_json({"created": created, "differences": differences})
    else:
        _report(len(specs), created, differences)
    if differences:
        raise click.exceptions.Exit(1)


@topics.command()
@click.argument("name", metavar="DOMAIN")
def raise_epoch(name: str) -> None:
    """Raise the epoch of DOMAIN, after its events topic was recreated and offsets start again.

    Positions carry the epoch: in the old epoch, new events would claim the positions of stored
    ones, and the append role stops. Stop the domain's append workers first.
    """
    from eventfleet.runtime import connections
    from eventfleet.runtime.settings import load_settings

    settings = load_settings()
    epoch = asyncio.run(_raise_epoch(settings, connections.select_domains(settings, [name])))
    click.echo(f"{name}: epoch {epoch}")


async def _raise_epoch(settings: "Settings", domains: "dict[str, Domain[Any]]") -> int:
    from eventfleet.runtime import connections

    async with connections.stores(settings, domains) as opened:
        [store] = opened.values()
        return await store.events.registry.raise_epoch()


async def _create(
    settings: "Settings", specs: "list[TopicSpec]", routes: "list[TopicSpec]"
) -> tuple[list[str], list[str]]:
    from eventfleet.runtime import connections

    async with connections.log_admin(settings) as admin, connections.log_reader(settings) as reader:
        missing = await connections.find_missing_topics(reader, [*specs, *routes])
        created = await admin.create(missing) if missing else []
        return created, await admin.check(specs)


def _report(declared: int, created: list[str], differences: list[str]) -> None:
    for name in created:
        click.echo(f"created {name}")
    for difference in differences:
        click.echo(f"eventfleet: {difference}", err=True)
    if not differences:
        click.echo(f"{declared} topics are as declared")
