"""`eventfleet audit`: verify that stored and published events satisfy the invariants."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from eventfleet.cli.output import as_json, print_json, printable

if TYPE_CHECKING:
    from eventfleet.audit import AuditReport
    from eventfleet.model.domain import Domain
    from eventfleet.runtime.settings import Settings


@click.command(short_help="Verify that events and snapshots satisfy the invariants.")
@click.argument("names", metavar="[DOMAIN]...", nargs=-1)
@as_json
def audit(names: tuple[str, ...], json: bool) -> None:
    """Verify that stored and published events satisfy the invariants; print each violation.

    Of all domains, or those named; with --json one report per line. Status 1 on any violation.
    """
    from eventfleet.runtime import connections
    from eventfleet.runtime.settings import load_settings

    settings = load_settings()
    domains = connections.select_domains(settings, names)

    async def run() -> bool:
        clean = True
        async for report in _audit(settings, domains):
            clean = clean and report.clean
            _print_json(report) if json else _print(report)
        return clean

    if not asyncio.run(run()):
        raise click.exceptions.Exit(1)


async def _audit(
    settings: "Settings", domains: "Mapping[str, Domain[Any]]"
) -> "AsyncIterator[AuditReport]":
    from eventfleet.audit import Auditor
    from eventfleet.runtime import connections

    async with (
        connections.log_reader(settings) as reader,
        connections.log_admin(settings) as admin,
        connections.stores(settings, domains, long_reads=True) as stores,
    ):
        exactly_once = await admin.transactional()
        for name, domain in domains.items():
            yield await Auditor(
                domain,
                stores[name],
                reader,
                group_prefix=settings.group_prefix,
                exactly_once=exactly_once,
            ).run()


def _print_json(report: "AuditReport") -> None:
    violations = [violation._asdict() for violation in report.violations]
    plain = asdict(report) | {"violations": violations, "clean": report.clean}
    plain["oldest"] = {
        topic: {str(partition): offset for partition, offset in offsets.items()}
        for topic, offsets in report.oldest.items()
    }
    print_json(plain)


def _print(report: "AuditReport") -> None:
    counts = ("stored", "aggregates", "snapshots", "relayed", "dead_letters", "superseded")
    printed = [f"{getattr(report, name):,} {name.replace('_', ' ')}" for name in counts]
    click.echo(f"{report.domain}: {', '.join(printed)}")
    for topic, offsets in report.oldest.items():
        oldest = ", ".join(f"{partition}: {offset}" for partition, offset in offsets.items())
        click.echo(
            f"  {topic} read from the oldest offset kept ({oldest or 'the topic does not exist'})"
        )
    for invariant, aggregate_id, fault in report.violations:
        click.echo(f"  invariant {invariant}, {printable(aggregate_id)}: {printable(fault)}")
    click.echo(f"  {len(report.violations):,} violations" if report.violations else "  clean")
