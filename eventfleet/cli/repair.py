"""`eventfleet rewind` and `eventfleet restore`: bring a store and its consumer group together."""

import asyncio
from typing import TYPE_CHECKING

import click

from eventfleet.cli.number_types import Integer

if TYPE_CHECKING:
    from eventfleet.roles.restore import RestoreReport
    from eventfleet.stores.contracts import OffsetRange


@click.command(short_help="Append records again that went into another store.")
@click.argument("name", metavar="DOMAIN")
@click.option("--partition", type=Integer(min=0), help="Rewind this partition alone.")
@click.option("--offset", type=Integer(min=0), help="Rewind it to this offset.")
def rewind(name: str, partition: int | None, offset: int | None) -> None:
    """Set append of DOMAIN back to where its store was filled up to, so that it goes on from there.

    For an asynchronous domain whose records went into another database, or whose store is an older
    copy. Append takes the records again, stores the events that the store misses, and emits only
    these; the rewind is recorded for `eventfleet audit`. With --partition and --offset from that
    offset on. Stop the domain's workers and services first. See also `eventfleet restore`.
    """
    if (partition is None) != (offset is None):
        raise click.UsageError("--partition and --offset go together")
    first = None if partition is None or offset is None else {partition: offset}
    ranges = asyncio.run(_rewind(name, first))
    for part, start, end in ranges:
        click.echo(f"{name}: partition {part} goes on from offset {start}; it was at {end}")
    if not ranges:
        click.echo(f"{name}: the store is as far as the consumer group; nothing was changed")


@click.command(short_help="Fill a store from the events that were published.")
@click.argument("name", metavar="DOMAIN")
def restore(name: str) -> None:
    """Fill the store of DOMAIN with what it misses, from DOMAIN.stored and DOMAIN.parked.

    For a store that is an older copy, or empty. Events keep their ids, versions and positions;
    nothing is emitted. What append parks, the discards and the epoch come back too; what was put,
    and waits in the log for append, is put again. Status 1 where something is in no topic: each is
    named. The restore is recorded for `eventfleet audit`. Stop the domain's workers and services
    first.
    """
    report = asyncio.run(_restore(name))
    click.echo(
        f"{name}: {report.restored:,} events restored, {report.found:,} were there; "
        f"{report.voided:,} of {report.read:,} records are void by a rewind"
    )
    for count, what in (
        (report.parked, "events that append parks were restored"),
        (report.marked, "discarded events have their mark again"),
        (report.put, "events that wait for append were put again"),
    ):
        if count:
            click.echo(f"{name}: {count:,} {what}")
    for part, start, end in report.ranges:
        click.echo(f"{name}: partition {part} is filled from offset {start} to {end}")
    for line in report.doubts + report.missing:
        click.echo(f"eventfleet: {name}: {line}", err=True)
    if report.missing:
        raise click.exceptions.Exit(1)


async def _rewind(name: str, first: dict[int, int] | None) -> "list[OffsetRange]":
    from eventfleet.roles import rewind
    from eventfleet.runtime import connections
    from eventfleet.runtime.repair_contexts import open_repair_context
    from eventfleet.runtime.settings import load_settings

    settings = load_settings()
    domain = connections.select_domains(settings, [name])[name]
    async with open_repair_context(settings, domain) as context:
        return await rewind.rewind(context, first)


async def _restore(name: str) -> "RestoreReport":
    from eventfleet.roles import restore
    from eventfleet.runtime import connections
    from eventfleet.runtime.repair_contexts import open_repair_context
    from eventfleet.runtime.settings import load_settings

    settings = load_settings()
    domain = connections.select_domains(settings, [name])[name]
    async with open_repair_context(settings, domain) as context:
        return await restore.restore(context)
