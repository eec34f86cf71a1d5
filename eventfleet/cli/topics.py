"""`eventfleet topics create` and `eventfleet topics raise-epoch`."""

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
    """Make the topics of the domains, and check them."""


@topics.command()
@click.argument("names", metavar="[DOMAIN]...", nargs=-1)
@as_json
def create(names: tuple[str, ...], json: bool) -> None:
    """Create what is absent, then check that the domains' topics are set up to lose nothing.

    All domains, when none is named. Topics that routes write to belong to others: they are created
    where absent, and not checked. Status 1 when a topic differs from its declaration.
    """
    from eventfleet.runtime import connections
    from eventfleet.runtime.settings import load

    settings = load()
    domains = list(connections.chosen(settings, names).values())
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
    """Say that DOMAIN's events topic was made anew, so that its offsets start again.

    Positions carry the epoch: without it, new events would claim the positions of stored ones, and
    append stops. Stop the domain's append workers first.
    """
    from eventfleet.runtime import connections
    from eventfleet.runtime.settings import load

    settings = load()
    click.echo(
        f"{name}: epoch {asyncio.run(_raise(settings, connections.chosen(settings, [name])))}"
    )


async def _raise(settings: "Settings", domains: "dict[str, Domain[Any]]") -> int:
    from eventfleet.runtime import connections

    async with connections.stores(settings, domains) as opened:
        [store] = opened.values()
        return await store.events.raise_epoch()


async def _create(
    settings: "Settings", specs: "list[TopicSpec]", routes: "list[TopicSpec]"
) -> tuple[list[str], list[str]]:
    from eventfleet.runtime import connections

    async with connections.log_admin(settings) as admin, connections.log_reader(settings) as reader:
        absent = await connections.absent(reader, [*specs, *routes])
        created = await admin.create(absent) if absent else []
        return created, await admin.check(specs)


def _report(declared: int, created: list[str], differences: list[str]) -> None:
    for name in created:
        click.echo(f"created {name}")
    for difference in differences:
        click.echo(f"eventfleet: {difference}", err=True)
    if not differences:
        click.echo(f"{declared} topics are as declared")
