"""`eventfleet backup`: copy the data of a fleet in one process."""

from pathlib import Path

import click


@click.command(short_help="Copy the data of a fleet in one process, also while it runs.")
@click.argument("copy", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--data",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the fleet's data; by default EVENTFLEET_DATA or ./eventfleet-data.",
)
def backup(copy: Path, data: Path | None) -> None:
    """Copy what the fleet has stored to a new FILE, also while the fleet runs.

    All that was answered before is in it. To use it, name it fleet.sqlite in a folder of its own.
    """
    from eventfleet.runtime.file_backend import data_file
    from eventfleet.runtime.settings import load_settings, with_data, with_values
    from eventfleet.stores.sqlite.backup import back_up

    settings = load_settings()
    settings = with_values(settings, data=str(data)) if data else with_data(settings)
    if not settings.data:
        raise click.UsageError(
            "the settings name servers, which are copied as docs/guides/back-up-and-restore.md says"
        )
    path = data_file(settings)
    events, size = back_up(path, copy), copy.stat().st_size
    each = f", {size / events:,.0f} bytes per event" if events else ""
    click.echo(f"{path} is copied to {copy} ({size / 1_000_000:,.1f} MB{each})")
