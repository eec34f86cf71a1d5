"""`eventfleet events`, `snapshot`, `state` and `diff`: queries of one aggregate."""

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING

import click

from eventfleet.cli.number_types import Integer
from eventfleet.cli.output import as_json, indented, print_json, printable
from eventfleet.topics.errors import EventfleetError

if TYPE_CHECKING:
    from eventfleet.check.role_entries import RoleEntries
    from eventfleet.cli.domain_queries import DomainQueries
    from eventfleet.feeds.feed_follower import FeedUpdate
    from eventfleet.states.querier import StateDiff
    from eventfleet.topics.event import EventRecord

DOMAIN = click.argument("name", metavar="DOMAIN")
AGGREGATE = click.argument("aggregate_id", metavar="ID")
PAGE_AGGREGATES = 1000


class NothingFound(EventfleetError):
    """No such aggregate, version or snapshot is stored."""


@click.command(short_help="Print the events of an aggregate, or of all.")
@DOMAIN
@click.argument("aggregate_id", metavar="[ID]", required=False)
@click.option("--all", "every", is_flag=True, help="The events of all aggregates, instead of ID.")
@click.option("--after", type=Integer(0), default=0, help="Only events with a version above this.")
@click.option("--limit", type=Integer(1), help="Print at most this many events.")
@click.option(
    "--types",
    multiple=True,
    metavar="TYPE,...",
    help="Only events of these types, comma-separated; may be repeated.",
)
@click.option("--type", "former_types", multiple=True, hidden=True)
@as_json
def events(
    name: str,
    aggregate_id: str | None,
    every: bool,
    after: int,
    limit: int | None,
    types: tuple[str, ...],
    former_types: tuple[str, ...],
    json: bool,
) -> None:
    """Print the events of an aggregate by version; with --json one CloudEvent a line.

    With --all those of all aggregates, one aggregate after another, also those that append parks;
    with --json lines on what roles park, too: a file that `eventfleet check --events` reads.
    """
    if every == bool(aggregate_id):
        raise click.UsageError("give the ID of one aggregate, or --all")
    if every and (after or limit or types or former_types):
        raise click.UsageError("--all prints every event: no --after, --limit or --types with it")
    if aggregate_id is None:
        asyncio.run(_print_all(name, json))
        return

    from eventfleet.cli.domain_queries import domain_queries
    from eventfleet.runtime.settings import split

    wanted = [*(name for each in types for name in split(each)), *former_types]
    if types and not wanted:
        raise click.UsageError("--types names no type: leave it out to mean any")

    async def run() -> None:
        async with domain_queries(name) as queries:
            show = _print_cloud_event if json else _print_event
            found = queries.events(aggregate_id, after=after, limit=limit, types=wanted or None)
            count = 0
            async for event in found:
                show(event)
                count += 1
            if not count:
                await _require_aggregate(queries, name, aggregate_id)

    asyncio.run(run())


@click.command(short_help="Print the events of a domain, or of an aggregate, as they come.")
@DOMAIN
@click.argument("aggregate_id", metavar="[ID]", required=False)
@click.option("--types", default="", metavar="TYPE,...", help="Only events of these types.")
@click.option("--all", "every", is_flag=True, help="Begin with the domain's first event.")
@click.option("--cursor", default="", help="Go on from a cursor, as --json prints them.")
@as_json
def follow(
    name: str, aggregate_id: str | None, types: str, every: bool, cursor: str, json: bool
) -> None:
    """Print the events of a domain as they come; those of an aggregate from its first one on.

    By way of the HTTP service, until Ctrl-C; where the connection is lost it is opened again. With
    --json an object a line: its kind, data and cursor.
    """
    if every and (aggregate_id or cursor):
        raise click.UsageError("--all is for a whole domain, and without --cursor")

    from eventfleet.cli.http_client import http_client
    from eventfleet.runtime.settings import load_settings, split, variable

    settings = load_settings()
    if not settings.service_url:
        raise click.UsageError(f"{variable('service_url')} names no HTTP service to follow")

    async def run() -> None:
        async with http_client(settings, name) as client:
            latest = not (every or aggregate_id)
            feed = client.follow(aggregate_id, split(types), cursor, latest=latest)
            async for update in feed:
                _print_update(update, json)

    asyncio.run(run())


@click.command()
@DOMAIN
@AGGREGATE
@as_json
def snapshot(name: str, aggregate_id: str, json: bool) -> None:
    """Print the newest snapshot of an aggregate."""

    from eventfleet.cli.domain_queries import domain_queries

    async def run() -> None:
        async with domain_queries(name) as queries:
            found = await queries.snapshot(aggregate_id)
            if found is None:
                await _require_aggregate(queries, name, aggregate_id)
                raise NothingFound(f"{name} {aggregate_id!r} has no snapshot yet")
            if json:
                print_json(found)
            else:
                taken = f"taken {found.taken_at.isoformat()}, state version {found.state_version}"
                _print_state(name, aggregate_id, found.version, found.state, taken)

    asyncio.run(run())


@click.command(short_help="Print the latest state of an aggregate, or an earlier one.")
@DOMAIN
@AGGREGATE
@click.option("--version", type=Integer(1), help="The state at this version.")
@click.option("--at", metavar="TIME", help="The state at this time (RFC 3339).")
@as_json
def state(name: str, aggregate_id: str, version: int | None, at: str | None, json: bool) -> None:
    """Print the latest state of an aggregate, or its state at a version or time.

    The latest state is saved as a snapshot. The state at a time is that of the highest version
    whose event is not later.
    """
    if version and at:
        raise click.UsageError("--version and --at: only one of them")
    moment = _moment(at) if at else None

    from eventfleet.cli.domain_queries import domain_queries

    async def run() -> None:
        async with domain_queries(name) as queries:
            if moment:
                found = await queries.at_time(aggregate_id, moment)
            elif version:
                found = await queries.at(aggregate_id, version)
            else:
                found = await queries.latest(aggregate_id)
            if found is None:
                await _require_aggregate(queries, name, aggregate_id)
                what = f"event at {at} or before" if at else f"version {version} yet"
                raise NothingFound(f"{name} {aggregate_id!r} has no {what}")
            if json:
                about = {"aggregate_id": aggregate_id, "version": found.version}
                print_json(about | {"state": found.data})
            else:
                _print_state(name, aggregate_id, found.version, found.data)

    asyncio.run(run())


@click.command(short_help="Print the changes between two versions of an aggregate.")
@DOMAIN
@AGGREGATE
@click.argument("first", type=Integer(0))
@click.argument("second", type=Integer(0), required=False)
@as_json
def diff(name: str, aggregate_id: str, first: int, second: int | None, json: bool) -> None:
    """Print the changes from the state at version FIRST to that at SECOND, by default the latest.

    Version 0 is the state before any event. With --json a JSON Patch (RFC 6902).
    """

    from eventfleet.cli.domain_queries import domain_queries

    async def run() -> None:
        async with domain_queries(name) as queries:
            latest = (await queries.missing(aggregate_id, 0, limit=0)).latest
            found = await queries.diff(aggregate_id, first, latest if second is None else second)
            if not (latest and found):
                await _require_aggregate(queries, name, aggregate_id)
                raise NothingFound(f"{name} {aggregate_id!r} has only {latest} versions")
            if json:
                print_json(found)
            else:
                _print_diff(name, found)

    asyncio.run(run())


async def _print_all(name: str, json: bool) -> None:
    """Print the events of a domain, aggregate by aggregate, straight from its store."""
    from eventfleet.check.role_entries import StoredEntries, read_parked_events
    from eventfleet.runtime import connections
    from eventfleet.runtime.settings import load_settings, variable
    from eventfleet.stores.aggregate_batches import aggregate_pages

    settings = load_settings()
    if settings.service_url:
        raise click.UsageError(f"--all reads the store: unset {variable('service_url')}")
    domains = connections.select_domains(settings, [name])
    async with connections.stores(settings, domains, long_reads=True) as stores:
        store, entries = stores[name].events, StoredEntries(name, stores[name])
        await entries.read()
        async for page in aggregate_pages(store, PAGE_AGGREGATES):
            heads = await store.heads(page)
            for aggregate_id in page:
                head = heads.get(aggregate_id)
                if json:
                    _print_entries(entries.of(aggregate_id, head))
                async for event in store.read(aggregate_id):
                    _print_of_all(event, json)
                async for event in read_parked_events(store, aggregate_id, head):
                    _print_of_all(event, json)


def _print_of_all(event: "EventRecord", json: bool) -> None:
    if json:
        _print_cloud_event(event)
    else:
        click.echo(f"{printable(event.aggregate_id)}  ", nl=False)
        _print_event(event)


def _print_entries(entries: "RoleEntries") -> None:
    from eventfleet.check.role_entries import encode_entry

    for entry in (*entries.parked, *entries.discarded):
        click.echo(encode_entry(entry))


async def _require_aggregate(queries: "DomainQueries", name: str, aggregate_id: str) -> None:
    async for _ in queries.events(aggregate_id, limit=1):
        return
    raise NothingFound(f"{name} has no aggregate {aggregate_id!r}")


def _moment(text: str) -> datetime:
    from eventfleet.topics.codec import convert
    from eventfleet.topics.errors import InvalidRecord
    from eventfleet.topics.event import Instant

    try:
        moment: datetime = convert(text, Instant, "--at")
    except InvalidRecord as error:
        why = f"{error}; write a time with its offset, such as 2026-01-31T09:00:00Z"
        raise InvalidRecord("--at", why.removeprefix("--at: ")) from None
    return moment


def _print_update(update: "FeedUpdate", json: bool) -> None:
    from eventfleet.topics.codec import convert
    from eventfleet.topics.event import EventRecord

    if json:
        print_json(update._asdict())
    elif update.kind == "reload":
        click.echo(f"load anew: {update.data['reason']}")
    else:
        event = convert(update.data, EventRecord)
        click.echo(f"{printable(event.aggregate_id)}  ", nl=False)
        _print_event(event)


def _print_cloud_event(event: "EventRecord") -> None:
    from eventfleet.topics.codec import encode

    click.echo(encode(event))


def _print_event(event: "EventRecord") -> None:
    import orjson

    moment = event.time.isoformat(timespec="milliseconds")
    data = orjson.dumps(event.data).decode()
    click.echo(f"{event.version:>6}  {moment}  {printable(event.type)}  {data}")


def _print_state(
    name: str, aggregate_id: str, version: int, state: dict[str, object], more: str = ""
) -> None:
    about = [name, printable(aggregate_id), f"version {version}"]
    click.echo("  ".join([*about, more] if more else about))
    click.echo(indented(state))


def _print_diff(name: str, diff: "StateDiff") -> None:
    import orjson

    versions = f"version {diff.first} to {diff.second}"
    click.echo("  ".join([name, printable(diff.aggregate_id), versions]))
    if not diff.patch:
        click.echo("no changes")
    for step in diff.patch:
        value = orjson.dumps(step["value"]).decode() if "value" in step else ""
        click.echo(f"{step['op']:<8} {printable(step['path'])}  {value}".rstrip())
