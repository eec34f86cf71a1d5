"""`eventfleet audit`: verify that stored and published events satisfy the invariants."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from eventfleet.cli.number_types import Integer
from eventfleet.cli.output import as_json, print_json, printable

if TYPE_CHECKING:
    from eventfleet.audit import AuditReport, Observation
    from eventfleet.model.domain import Domain
    from eventfleet.runtime.settings import Settings
    from eventfleet.stores.contracts import Markers

MAX_SHOWN = 100
FINDINGS = {"problems": "problem", "explained": "explained", "information": "information"}
"""The classes of findings beside violations, and their names in lines."""


@click.command(short_help="Verify that events and snapshots satisfy the invariants.")
@click.argument("names", metavar="[DOMAIN]...", nargs=-1)
@click.option(
    "--views",
    multiple=True,
    metavar="VIEW,...",
    help="Compare only these views with their events, comma-separated; may be repeated.",
)
@click.option(
    "--sample",
    type=Integer(1),
    metavar="N",
    help="Compare the views' rows of N aggregates only, spread over the domain, and no totals.",
)
@as_json
def audit(names: tuple[str, ...], views: tuple[str, ...], sample: int | None, json: bool) -> None:
    """Verify that stored and published events satisfy the invariants; print each finding.

    Of all domains, or those named; with --json one report per line. Views and totals are compared
    with a fold of their events. Status 1 on a violation or a problem, such as an event that the
    present code can't read, or a missing topic. What an operator's act explains, and what was not
    judged, is printed and leaves the status 0.
    """
    from eventfleet.runtime import connections
    from eventfleet.runtime.settings import load_settings, split

    settings = load_settings()
    domains = connections.select_domains(settings, names or None)
    compared = [view for each in views for view in split(each)]
    if views and not compared:
        raise click.UsageError("--views names no view: leave it out to mean all")
    _require_views(domains, compared)

    async def run() -> bool:
        clean = True
        async for report in _audit(settings, domains, compared, sample):
            clean = clean and report.clean
            _print_json(report) if json else _print(report)
        return clean

    if not asyncio.run(run()):
        raise click.exceptions.Exit(1)


def _require_views(domains: "Mapping[str, Domain[Any]]", names: Sequence[str]) -> None:
    known = sorted({view.name for domain in domains.values() for view in domain.views})
    for name in names:
        if name not in known:
            declared = ", ".join(known) or "none"
            raise click.UsageError(f"--views: {name!r} is no view; known: {declared}")


async def _audit(
    settings: "Settings",
    domains: "Mapping[str, Domain[Any]]",
    views: Sequence[str],
    sample: int | None,
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
            async with AsyncExitStack() as opened:
                yield await Auditor(
                    domain,
                    stores[name],
                    reader,
                    group_prefix=settings.group_prefix,
                    exactly_once=exactly_once,
                    markers=await _open_markers(settings, domain, opened),
                    views=views,
                    sample=sample,
                ).run()


async def _open_markers(
    settings: "Settings", domain: "Domain[Any]", opened: AsyncExitStack
) -> "Markers | None":
    """Open the domain's markers, where it has any and Redis answers."""
    from eventfleet.runtime import connections
    from eventfleet.runtime.errors import Unreachable
    from eventfleet.stores.errors import Misconfigured

    if not domain.uses_marker:
        return None
    try:
        return await opened.enter_async_context(connections.markers(settings, domain.name))
    except (Unreachable, Misconfigured):
        return None


def _print_json(report: "AuditReport") -> None:
    plain = asdict(report) | {"clean": report.clean}
    for name in ("violations", *FINDINGS):
        plain[name] = [finding._asdict() for finding in getattr(report, name)]
    plain["counts"] = {name: report.counts[name] for name in ("violations", *FINDINGS)}
    plain["unjudged"] = dict(report.unjudged)
    plain["oldest"] = {
        topic: {str(partition): offset for partition, offset in offsets.items()}
        for topic, offsets in report.oldest.items()
    }
    print_json(plain)


def _print(report: "AuditReport") -> None:
    counts = ["stored", "aggregates", "snapshots", "relayed", "dead_letters", "superseded"]
    counts += ["rows"] if report.rows else []
    printed = [f"{getattr(report, name):,} {name.replace('_', ' ')}" for name in counts]
    click.echo(f"{report.domain}: {', '.join(printed)}")
    for topic, offsets in report.oldest.items():
        if any(offsets.values()):
            oldest = ", ".join(f"{partition}: {offset}" for partition, offset in offsets.items())
            click.echo(f"  {topic} read from the oldest offset kept ({oldest})")
    for reason, count in sorted(report.unjudged.items()):
        click.echo(f"  not judged: {count:,} {reason}")
    for line in describe_findings(report):
        click.echo(f"  {line}")
    click.echo(f"  {describe_verdict(report)}")


def describe_findings(report: "AuditReport", limit: int = MAX_SHOWN) -> "Iterator[str]":
    """Yield a line for each finding, and one for those beyond the limit of a class."""
    classes: dict[str, Sequence[tuple[str, str, str]]] = {
        "violations": [(f"invariant {v.invariant}", *v[1:]) for v in report.violations]
    }
    for name, label in FINDINGS.items():
        found: Sequence[Observation] = getattr(report, name)
        classes[name] = [(f"{label}, {each.kind}", *each[1:]) for each in found]
    for name, findings in classes.items():
        for label, subject, detail in findings[:limit]:
            yield f"{label}, {printable(subject)}: {printable(detail)}"
        if (more := report.counts[name] - limit) > 0:
            yield f"and {more:,} more {name}"


def describe_verdict(report: "AuditReport") -> str:
    """Count violations and problems; without any the report is clean."""
    found = [
        f"{report.counts[name]:,} {name}"
        for name in ("violations", "problems")
        if report.counts[name]
    ]
    return ", ".join(found) or "clean"
