"""`eventfleet topics`: create them, raise an epoch, set offsets."""

import asyncio
from typing import TYPE_CHECKING, Any

import click

from eventfleet.cli.offsets import offsets
from eventfleet.cli.output import as_json, print_json

if TYPE_CHECKING:
    from eventfleet.model.domain import Domain
    from eventfleet.runtime.group_offsets import Where
    from eventfleet.runtime.settings import Settings
    from eventfleet.topics.topic_specs import TopicSpec

ROLES = ("command", "snapshot", "relay", "project")


@click.group()
def topics() -> None:
    """Create and check the topics of the domains."""


topics.add_command(offsets)


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
    domains = list(connections.select_domains(settings, names or None).values())
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
    ones, and the append role stops. Refused where the topic still has what append took from it.
    Stop the domain's workers and services first.
    """
    epoch = asyncio.run(_raise_epoch(name))
    click.echo(f"{name}: epoch {epoch}")


@topics.command()
@click.argument("name", metavar="DOMAIN")
@click.argument("role", metavar="ROLE", type=click.Choice(ROLES))
@click.argument("where", metavar="WHERE", type=click.Choice(["earliest", "latest"]))
def set_offset(name: str, role: str, where: "Where") -> None:
    """Set offsets of ROLE (command, snapshot, relay or project) that are lost or not in the log.

    Only those of partitions in which the role has stopped for it; all others stay. WHERE is
    earliest, to do again all that the log keeps (commands are decided again, routes get repeats),
    or latest, to give up what was not read. Stop the workers of the role first.
    """
    from eventfleet.runtime import connections
    from eventfleet.runtime.settings import load_settings

    settings = load_settings()
    domains = connections.select_domains(settings, [name])
    offsets = asyncio.run(_set_offset(settings, domains, role, where))
    for partition, offset in offsets.items():
        click.echo(f"{role} of {name}, partition {partition}: offset {offset}")
    if not offsets:
        click.echo(f"{role} of {name}: each offset is in the log; none was set")


async def _set_offset(
    settings: "Settings", domains: "dict[str, Domain[Any]]", role: str, where: "Where"
) -> "dict[int, int]":
    from eventfleet.roles.steady_offsets import STEADY_SECONDS
    from eventfleet.runtime import connections
    from eventfleet.runtime.group_offsets import SOURCES, find_begun, set_unusable_offsets
    from eventfleet.topics.names import consumer_group

    [(name, domain)] = domains.items()
    group, topic = consumer_group(settings.group_prefix, name, role), SOURCES[role](domain.topics)
    async with (
        connections.log_admin(settings) as admin,
        connections.log_reader(settings) as reader,
        connections.stores(settings, domains) as stores,
    ):
        partitions = range(await reader.partition_count(topic))
        begun = await find_begun(stores[name].events.registry, role, partitions)
        return await set_unusable_offsets(reader, admin, group, topic, where, begun, STEADY_SECONDS)


async def _raise_epoch(name: str) -> int:
    from eventfleet.roles import raised_epoch
    from eventfleet.runtime import connections
    from eventfleet.runtime.repair_contexts import open_repair_context
    from eventfleet.runtime.settings import load_settings

    settings = load_settings()
    domain = connections.select_domains(settings, [name])[name]
    async with open_repair_context(settings, domain, requires_topics=False) as context:
        return await raised_epoch.raise_epoch(context)


async def _create(
    settings: "Settings", specs: "list[TopicSpec]", routes: "list[TopicSpec]"
) -> tuple[list[str], list[str]]:
    from eventfleet.runtime import connections

    async with connections.log_admin(settings) as admin, connections.log_reader(settings) as reader:
        created = await connections.create_missing_topics(admin, reader, [*specs, *routes])
        return created, await admin.check(specs)


def _report(declared: int, created: list[str], differences: list[str]) -> None:
    for name in created:
        click.echo(f"created {name}")
    for difference in differences:
        click.echo(f"eventfleet: {difference}", err=True)
    if not differences:
        click.echo(f"{declared} topics are as declared")
