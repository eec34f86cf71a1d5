"""`eventfleet events`, `snapshot`, `state` and `diff`: what is stored of one aggregate."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from eventfleet.cli.output import as_json, indented, print_json, printable
from eventfleet.topics.errors import EventfleetError

if TYPE_CHECKING:
    from eventfleet.cli.http_client import HttpClient
    from eventfleet.states.querier import Querier, StateDiff
    from eventfleet.topics.event import EventRecord

DOMAIN = click.argument("name", metavar="DOMAIN")
AGGREGATE = click.argument("aggregate_id", metavar="ID")


class NothingFound(EventfleetError):
    """What was asked for is not stored."""


@click.command()
@DOMAIN
@AGGREGATE
@click.option("--after", type=click.IntRange(0), default=0, help="Only versions above this one.")
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
@click.option("--type", "types", multiple=True, help="Only events of this type; may be repeated.")
@as_json
def events(
    name: str, aggregate_id: str, after: int, limit: int | None, types: tuple[str, ...], json: bool
) -> None:
    """Print the events of an aggregate by version; with --json one CloudEvent a line."""

    async def run() -> None:
        async with _querier(name) as querier:
            show = _print_cloud_event if json else _print_event
            found = querier.events(aggregate_id, after=after, limit=limit, types=types or None)
            count = 0
            async for event in found:
                show(event)
                count += 1
            if not count:
                await _must_exist(querier, name, aggregate_id)

    asyncio.run(run())


@click.command()
@DOMAIN
@AGGREGATE
@as_json
def snapshot(name: str, aggregate_id: str, json: bool) -> None:
    """Print the newest snapshot of an aggregate."""

    async def run() -> None:
        async with _querier(name) as querier:
            found = await querier.snapshot(aggregate_id)
            if found is None:
                await _must_exist(querier, name, aggregate_id)
                raise NothingFound(f"{name} {aggregate_id!r} has no snapshot yet")
            if json:
                print_json(found)
            else:
                taken = f"taken {found.taken_at.isoformat()}, state version {found.state_version}"
                _print_state(name, aggregate_id, found.version, found.state, taken)

    asyncio.run(run())


@click.command()
@DOMAIN
@AGGREGATE
@click.option("--version", type=click.IntRange(1), help="As of this version, not the latest.")
@click.option("--at", metavar="TIME", help="As of this time (RFC 3339), not the latest.")
@as_json
def state(name: str, aggregate_id: str, version: int | None, at: str | None, json: bool) -> None:
    """Print the latest state of an aggregate (and save it as a snapshot), or an earlier one.

    At a time it is that of the highest version whose event is not later.
    """
    if version and at:
        raise click.UsageError("--version and --at: only one of them")
    moment = _moment(at) if at else None

    async def run() -> None:
        async with _querier(name) as querier:
            if moment:
                found = await querier.at_time(aggregate_id, moment)
            elif version:
                found = await querier.at(aggregate_id, version)
            else:
                found = await querier.latest(aggregate_id)
            if found is None:
                await _must_exist(querier, name, aggregate_id)
                what = f"event at {at} or before" if at else f"version {version} yet"
                raise NothingFound(f"{name} {aggregate_id!r} has no {what}")
            if json:
                about = {"aggregate_id": aggregate_id, "version": found.version}
                print_json(about | {"state": found.data})
            else:
                _print_state(name, aggregate_id, found.version, found.data)

    asyncio.run(run())


@click.command()
@DOMAIN
@AGGREGATE
@click.argument("first", type=click.IntRange(0))
@click.argument("second", type=click.IntRange(0), required=False)
@as_json
def diff(name: str, aggregate_id: str, first: int, second: int | None, json: bool) -> None:
    """Print what turns the state at version FIRST into that at SECOND (without it: the latest).

    Version 0 is the state before any event. With --json a JSON Patch (RFC 6902).
    """

    async def run() -> None:
        async with _querier(name) as querier:
            latest = (await querier.missing(aggregate_id, 0, limit=0)).latest
            found = await querier.diff(aggregate_id, first, latest if second is None else second)
            if not (latest and found):
                await _must_exist(querier, name, aggregate_id)
                raise NothingFound(f"{name} {aggregate_id!r} has only {latest} versions")
            if json:
                print_json(found)
            else:
                _print_difference(name, found)

    asyncio.run(run())


@asynccontextmanager
async def _querier(name: str) -> "AsyncIterator[Querier[Any] | HttpClient]":
    from eventfleet.cli.http_client import http_client
    from eventfleet.runtime import connections
    from eventfleet.runtime.queriers import querier
    from eventfleet.runtime.settings import load

    settings = load()
    if settings.service_url:
        async with http_client(settings, name) as asked:
            yield asked
        return
    async with querier(settings, connections.chosen(settings, [name])[name]) as opened:
        yield opened


async def _must_exist(querier: "Querier[Any] | HttpClient", name: str, aggregate_id: str) -> None:
    async for _ in querier.events(aggregate_id, limit=1):
        return
    raise NothingFound(f"{name} has no aggregate {aggregate_id!r}")


def _moment(text: str) -> datetime:
    from eventfleet.topics.codec import convert
    from eventfleet.topics.event import Instant

    moment: datetime = convert(text, Instant, "--at")
    return moment


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


def _print_difference(name: str, difference: "StateDiff") -> None:
    import orjson

    versions = f"version {difference.first} to {difference.second}"
    click.echo("  ".join([name, printable(difference.aggregate_id), versions]))
    for step in difference.patch:
        value = orjson.dumps(step["value"]).decode() if "value" in step else ""
        click.echo(f"{step['op']:<8} {printable(step['path'])}  {value}".rstrip())
