"""`eventfleet settings`: show the settings."""

import click

from eventfleet.cli.output import as_json, console, print_json


@click.command(short_help="Show each setting, its value and source.")
@as_json
def settings(json: bool) -> None:
    """Show each setting: its environment variable, value, source and description."""
    from eventfleet.runtime.settings import describe, load_settings

    rows = describe(load_settings())
    if json:
        print_json([row._asdict() for row in rows])
        return
    from rich.table import Table
    from rich.text import Text

    table = Table("variable", "value", "source", "description", box=None)
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console().print(table)
