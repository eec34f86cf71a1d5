"""`eventfleet deadletters`: what roles, publishers and subscribers could not handle."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from eventfleet.cli.number_types import Integer
from eventfleet.cli.output import as_json, console, print_json, printable

if TYPE_CHECKING:
    from eventfleet.service.parked_aggregates import ParkedAggregates, ParkedPage
    from eventfleet.service.subscriber_letters import SubscriberLetters
    from eventfleet.topics.parked import ParkedAggregate

NAME = click.argument("name", metavar="NAME")
COLLECTION = click.option(
    "--collection", "is_collection", is_flag=True, help="NAME is a collection of documents."
)
BUS = click.option(
    "--bus", "bus_url", metavar="URL", help="NAME is a channel or stream of this Redis or NATS."
)
ROLE = click.argument("role", metavar="ROLE")
AGGREGATE = click.argument("aggregate_id", metavar="ID")


def _condition(context: click.Context, option: click.Parameter, given: str | None) -> str:
    """Refuse an empty condition, which a script's empty variable makes; it would hold for all."""
    if given == "":
        raise click.BadParameter("is empty: leave it out to mean any")
    return given or ""


OF_ROLE = click.option("--role", callback=_condition, help="Only of this role.")
OF_AGGREGATE = click.option(
    "--aggregate", callback=_condition, metavar="ID", help="Only this aggregate."
)
OF_REASON = click.option(
    "--reason", callback=_condition, metavar="TEXT", help="Only with a reason that begins so."
)


class Source(NamedTuple):
    """The keeper of dead letters that a command line names."""

    name: str
    is_collection: bool
    bus_url: str | None

    def __str__(self) -> str:
        return f"{self.name}{' --collection' * self.is_collection}" + (
            " --bus URL" if self.bus_url else ""
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator["ParkedAggregates | SubscriberLetters"]:
        from eventfleet.buses.opening import open_bus
        from eventfleet.runtime import connections
        from eventfleet.runtime.settings import load_settings
        from eventfleet.service.parked_aggregates import ParkedAggregates
        from eventfleet.service.subscriber_letters import SubscriberLetters
        from eventfleet.stores.clock import SystemClock

        if self.bus_url:
            async with open_bus(self.bus_url, self.name) as bus:
                yield SubscriberLetters(self.name, bus)
            return
        settings = load_settings()
        if not self.is_collection:
            connections.select_domains(settings, [self.name])
        async with connections.dead_letters(settings, self.name) as letters:
            yield ParkedAggregates(self.name, letters, SystemClock())


def of_source(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument and the options that name a source, which the command gets."""

    @wraps(command)
    def run(name: str, is_collection: bool, bus_url: str | None, **options: Any) -> Any:
        return command(Source(name, is_collection, bus_url), **options)

    return NAME(COLLECTION(BUS(run)))


@click.group()
def deadletters() -> None:
    """Look at dead letters, and redrive or discard them.

    A role parks an aggregate at the event that your code raises on; the aggregate's later events
    wait behind it, and all other aggregates go on. So does a publisher of documents (--collection).
    A subscriber's dead letter (--bus) holds up nothing. Once the code is mended and deployed, a
    redrive handles what waits, in order.
    """


@deadletters.command("list", short_help="List the dead letters of a domain, a collection or a bus.")
@of_source
@OF_ROLE
@OF_AGGREGATE
@OF_REASON
@click.option("--limit", type=Integer(1, 1_000), default=100, help="At most so many.")
@click.option("--from", "cursor", default="", help="The cursor that the page before ended with.")
@as_json
def list_parked(
    source: Source, role: str, aggregate: str, reason: str, limit: int, cursor: str, json: bool
) -> None:
    """List what is parked, by role and aggregate."""

    async def run() -> "ParkedPage":
        async with source.open() as parked:
            return await parked.page(role, aggregate, reason, limit=limit, cursor=cursor)

    page = asyncio.run(run())
    if json:
        import msgspec

        click.echo(msgspec.json.encode({"dead_letters": page.items, "next": page.next}))
    else:
        _print(page)


@deadletters.command(short_help="Show why an aggregate is parked.")
@of_source
@ROLE
@AGGREGATE
@as_json
def show(source: Source, role: str, aggregate_id: str, json: bool) -> None:
    """Show the event that ROLE parks the aggregate at, and your own lines of the traceback."""

    async def run() -> "ParkedAggregate":
        async with source.open() as parked:
            return await parked.find(role, aggregate_id)

    found = asyncio.run(run())
    if json:
        import msgspec

        click.echo(msgspec.json.encode(found))
        return
    click.echo(f"{role} of {source.name} parks {printable(aggregate_id)} since {found.parked_at}")
    event = printable(f"{found.event_type} {found.event_id}")
    click.echo(f"at version {found.first}: {event}")
    click.echo(f"waiting: {_waiting(found)}; attempts: {found.attempts}")
    if found.builds:
        builds = [f"{name} from version {first} on" for name, first in sorted(found.builds.items())]
        click.echo(f"missing in builds of views: {', '.join(builds)}")
    click.echo("\n".join(printable(line) for line in found.details.splitlines()))


@deadletters.command(short_help="Handle parked events again, in order.")
@of_source
@OF_ROLE
@OF_AGGREGATE
@OF_REASON
@click.option("--all", "everything", is_flag=True, help="Redrive all that is parked.")
@as_json
def redrive(
    source: Source, role: str, aggregate: str, reason: str, everything: bool, json: bool
) -> None:
    """Request a redrive of the parked aggregates that all options hold for.

    The running workers do it within seconds. What fails again stays parked.
    """
    if everything == bool(role or aggregate or reason):
        raise click.UsageError("say which: --role, --aggregate, --reason; or --all, without these")

    async def run() -> int:
        async with source.open() as parked:
            return await parked.redrive(role, aggregate, reason, everything=everything)

    count = asyncio.run(run())
    if json:
        print_json({"domain": source.name, "requested": count})
    else:
        requested = f"a redrive of {count:,} aggregate{'s' * (count > 1)} is requested"
        click.echo(f"{source.name}: {requested if count else 'nothing of that is parked'}")
        if count:
            click.echo(f"what is left then: eventfleet deadletters list {source}")


@deadletters.command(short_help="Pass over the event that an aggregate is parked at.")
@of_source
@ROLE
@AGGREGATE
@click.option(
    "--version",
    type=Integer(1),
    required=True,
    help="The version of that event, as `show` prints it.",
)
@click.option("--why", required=True, help="The reason, which a tombstone keeps.")
@click.option("--by", help="Who decides so; by default the user of this machine.")
@as_json
def discard(
    source: Source, role: str, aggregate_id: str, version: int, why: str, by: str | None, json: bool
) -> None:
    """Request that ROLE passes over the event that it parks an aggregate at, for ever.

    What waits behind it is redriven. In the role snapshot, no state is folded with the event from
    then on; relay does not pass it on. A tombstone keeps who has decided so, when and why. With
    --bus the letter is dropped, and no record is kept.
    """
    import getpass

    decided_by = by or getpass.getuser()

    async def run() -> "ParkedAggregate":
        async with source.open() as parked:
            return await parked.discard(role, aggregate_id, version, why=why, by=decided_by)

    found = asyncio.run(run())
    if json:
        print_json({"domain": source.name, "event_id": found.event_id})
    else:
        event = printable(f"{found.event_type} {found.event_id}")
        click.echo(f"{source.name}: {role} is to pass over {event}")


def _print(page: "ParkedPage") -> None:
    from rich.table import Table
    from rich.text import Text

    if not page.items:
        click.echo("nothing is parked")
        return
    table = Table("role", "aggregate", "at", "event", "waiting", "attempts", "reason", box=None)
    for each in page.items:
        cells = [
            *(each.role, each.aggregate_id, f"version {each.first}", each.event_type),
            *(_waiting(each), str(each.attempts), each.reason),
        ]
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console().print(table)
    if page.next:
        click.echo(f"\nmore: --from {page.next}")


def _waiting(parked: "ParkedAggregate") -> str:
    """Return how many events wait; snapshot does not count those behind the first."""
    count = parked.last - parked.first + 1
    return f"{count}+" if parked.role == "snapshot" else str(count)
