"""`eventfleet view` and `eventfleet rebuild`: query the views of a domain, and build one anew."""

import asyncio
from typing import TYPE_CHECKING, Any

import click

from eventfleet.cli.number_types import Integer, Number
from eventfleet.cli.output import as_json, console, print_json, printable

if TYPE_CHECKING:
    from eventfleet.web.bodies import ViewPage, ViewPageRow


@click.command(short_help="Print the rows of a view.")
@click.argument("name", metavar="DOMAIN")
@click.argument("view", metavar="VIEW")
@click.argument("filters", metavar="[FILTER]...", nargs=-1)
@click.option("--order", metavar="FIELD", help="Order by a field; -FIELD for the highest first.")
@click.option("--limit", type=Integer(1, 1_000), default=100, help="Print at most this many rows.")
@click.option("--from", "cursor", default="", help="The cursor that the page before ended with.")
@as_json
def view(
    name: str,
    view: str,
    filters: tuple[str, ...],
    order: str | None,
    limit: int,
    cursor: str,
    json: bool,
) -> None:
    """Print the rows of a view of DOMAIN, or its totals, that pass all filters.

    A FILTER is FIELD=VALUE, or FIELD.COMPARISON=VALUE with lt, lte, gt, gte or in (values separated
    by commas): `eventfleet view orders orders status.in=paid,shipped total.gte=1000`.
    """
    where = dict(_read_filter(each) for each in filters)
    page = asyncio.run(_find(name, view, where, order, limit, cursor))
    if json:
        import msgspec

        click.echo(msgspec.json.encode(page))
    else:
        _print(page)


def _read_filter(text: str) -> tuple[str, str]:
    field, separator, value = text.partition("=")
    if not (field and separator):
        raise click.UsageError(f"{text!r} is not FIELD=VALUE")
    return field, value


async def _find(
    name: str, view: str, where: dict[str, str], order: str | None, limit: int, cursor: str
) -> "ViewPage":
    from eventfleet.cli.http_client import http_client
    from eventfleet.runtime import connections
    from eventfleet.runtime.queriers import querier
    from eventfleet.runtime.settings import load_settings
    from eventfleet.web.bodies import to_view_page

    settings = load_settings()
    if settings.service_url:
        async with http_client(settings, name) as client:
            return await client.rows(view, where, order, limit, cursor)
    domain = connections.select_domains(settings, [name])[name]
    async with querier(settings, domain) as queries:
        found = await queries.views.find(view, where, order_by=order, limit=limit, cursor=cursor)
        return to_view_page(found)


def _print(page: "ViewPage") -> None:
    from rich.table import Table
    from rich.text import Text

    rows = [_columns(each) for each in page.rows]
    table = Table(*dict.fromkeys(name for row in rows for name in row), box=None)
    names = [str(column.header) for column in table.columns]
    for row in rows:
        table.add_row(*(Text(printable(str(row.get(name, "")))) for name in names))
    if rows:
        console().print(table)
    else:
        click.echo("no rows")
    if page.next:
        click.echo(f"\nmore: --from {page.next}")


def _columns(row: "ViewPageRow") -> dict[str, Any]:
    import msgspec

    plain = msgspec.to_builtins(row)
    place = {name: plain[name] for name in ("aggregate_id", "key") if plain.get(name)}
    return {**place, **plain["row"]}


@click.command(short_help="Build a view anew beside the present one.")
@click.argument("name", metavar="DOMAIN")
@click.argument("view", metavar="VIEW")
@click.option(
    "--patience",
    type=Number(1),
    default=60.0,
    help="Give up watching after this many seconds without progress.",
)
@as_json
def rebuild(name: str, view: str, patience: float, json: bool) -> None:
    """Build VIEW of DOMAIN anew from the event store, beside the present one.

    The running workers of the role project build it, each the partitions that it owns; queries read
    the present build until the new one is ready in all partitions. Ends with the change of builds;
    interrupted, it goes on in the workers.
    """
    from eventfleet.runtime import connections
    from eventfleet.runtime.settings import load_settings

    settings = load_settings()
    domain = connections.select_domains(settings, [name])[name]

    async def run() -> int:
        from eventfleet.runtime.view_builds import begin_build, watch_build

        async with connections.stores(settings, {name: domain}) as stores:
            number = await begin_build(domain, stores[name], view)
            async for ready in watch_build(domain, stores[name], view, number, patience):
                if not json:
                    click.echo(f"{name} {view}: build {number} is ready in {ready} partitions")
        return number

    number = asyncio.run(run())
    if json:
        print_json({"domain": name, "view": view, "build": number})
    else:
        click.echo(f"{name} {view}: queries read build {number}")
