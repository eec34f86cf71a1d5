"""`eventfleet settings`."""

import click

from eventfleet.cli.output import as_json, console, print_json


@click.command()
@as_json
def settings(json: bool) -> None:
    """Show each setting, its value, and where that comes from."""
    from eventfleet.runtime.settings import describe, load

    rows = describe(load())
    if json:
        print_json([row._asdict() for row in rows])
        return
    from rich.table import Table
    from rich.text import Text

    table = Table("variable", "value", "source", "description", box=None)
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console().print(table)
