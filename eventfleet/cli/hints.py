"""Prints how to use a running local fleet from another terminal; the lines can be pasted."""

import os
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eventfleet.runtime.settings import Settings, masked_value, variable

if TYPE_CHECKING:
    from eventfleet.cli.local_fleet import LocalFleet

OF_FLEET_PROCESSES = ("metrics_", "http_", "service_", "token_", "chunk_", "cached_", "snapshot")
"""Starts of the settings that only workers and the HTTP service need."""

SAMPLE_MODULE = "eventfleet.domains.orders"
SAMPLE_COMMAND = """{"customer": "ann", "total": 1999, "currency": "EUR"}"""


def print_hints(fleet: "LocalFleet") -> None:
    """Print where the fleet is served, and commands that use it."""
    click.echo(f"\nThe fleet is up. Domains: {', '.join(fleet.domains)}")
    click.echo(f"  HTTP service:   {fleet.service_url}/domains")
    click.echo(f"  OpenAPI:        {fleet.service_url}/openapi.json")
    click.echo(f"  worker metrics: {fleet.metrics_url}/metrics")
    click.echo("Their logs, whose warnings and errors are also shown here:")
    for name, path in fleet.logs:
        click.echo(f"  {name}: {path}")
    click.echo("\nTo use it from another terminal, paste there once:")
    for line in _environment(fleet.settings, fleet.service_url):
        click.echo(f"  {line}")
    click.echo("then, for example:")
    for arguments in _examples(fleet):
        click.echo(f"  {_command()} {arguments}")
    click.echo(f"\n{fleet.kept}")
    click.echo("Ctrl-C ends the fleet")


def _environment(settings: Settings, service_url: str = "") -> Iterator[str]:
    """Shell lines that lead a process to the fleet; secrets are named and not shown."""
    yield f"cd {shlex.quote(os.getcwd())}"
    if path := os.environ.get("PYTHONPATH"):
        yield f"export PYTHONPATH={shlex.quote(path)}"
    if settings.data:  # which the fleet alone can use
        yield f"export {variable('service_url')}={service_url}"
    for name in _needed_settings(settings):
        value = getattr(settings, name)
        if masked_value(settings, name) == value:
            yield f"export {variable(name)}={shlex.quote(str(value))}"
        else:
            yield f"# and export {variable(name)} as it is set here: it holds a secret"


def _needed_settings(settings: Settings) -> list[str]:
    return [
        name
        for name, field in Settings.model_fields.items()
        if getattr(settings, name) != field.default
        and not name.startswith(OF_FLEET_PROCESSES)
        and name != "kafka_session_timeout"
    ]


def _command() -> str:
    """The program as a shell finds it: by name, by path, or as a module of this Python."""
    script = Path(sysconfig.get_path("scripts"), "eventfleet")
    if not script.is_file():
        return f"{shlex.quote(sys.executable)} -m eventfleet.cli"
    found = shutil.which("eventfleet")
    return "eventfleet" if found and script.samefile(found) else shlex.quote(str(script))


def _examples(fleet: "LocalFleet") -> Iterator[str]:
    *_, (name, domain) = fleet.domains.items()
    if SAMPLE_MODULE in fleet.settings.domains and "orders" in fleet.domains:
        yield f"send orders my-order Place {shlex.quote(SAMPLE_COMMAND)} --wait appended"
        yield "state orders my-order"
    if not fleet.settings.data:
        via = " --via commands" if domain.commands_only else ""
        yield f"load FILE --domain {shlex.quote(name)}{via}"
    yield "health"
