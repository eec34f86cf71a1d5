"""`eventfleet topics offsets`: what groups, logs and store know of how far the roles have come."""

import asyncio
from typing import TYPE_CHECKING

import click

from eventfleet.cli.output import as_json, print_json

if TYPE_CHECKING:
    from eventfleet.runtime.group_offsets import GroupOffset


@click.command()
@click.argument("name", metavar="DOMAIN")
@as_json
def offsets(name: str, json: bool) -> None:
    """Show how far each role of DOMAIN has come: group's offset, log and the store's notes.

    To make sure before an offset is set or a store repaired, which may double or skip events. An
    offset that looks lost is asked for again for 15 seconds: Kafka may answer so for a while after
    a crash. Changes nothing.
    """
    lines = asyncio.run(_list(name))
    if json:
        print_json([each._asdict() for each in lines])
        return
    for each in lines:
        click.echo(f"{each.role} of {name}, partition {each.partition}: {_describe(each)}")


def _describe(line: "GroupOffset") -> str:
    offset = "no offset" if line.offset is None else f"offset {line.offset}"
    known = (
        f"noted {line.noted}" if line.begun is None else ("begun" if line.begun else "not begun")
    )
    return f"{offset}; log {line.oldest} to {line.end}; the store: {known}"


async def _list(name: str) -> "list[GroupOffset]":
    from eventfleet.roles.steady_offsets import STEADY_SECONDS
    from eventfleet.runtime import connections
    from eventfleet.runtime.group_offsets import OffsetList
    from eventfleet.runtime.settings import load_settings

    settings = load_settings()
    domains = connections.select_domains(settings, [name])
    async with (
        connections.log_reader(settings) as reader,
        connections.stores(settings, domains) as stores,
    ):
        registry, prefix = stores[name].events.registry, settings.group_prefix
        return await OffsetList(reader, registry, domains[name], prefix, STEADY_SECONDS).read()
