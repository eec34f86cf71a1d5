"""What commands print: JSON for programs, tables and plain lines for people, faults on stderr."""

import sys
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from eventfleet.topics.errors import EventfleetError

if TYPE_CHECKING:
    from rich.console import Console

F = TypeVar("F", bound=Callable[..., Any])

WRONG_SETTINGS = 2
PIPED_WIDTH = 200


class Failure(click.ClickException):
    """A fault on standard error: each line of it by itself, under the name of the program."""

    def __init__(self, error: EventfleetError) -> None:
        from eventfleet.runtime.settings import SettingsError

        super().__init__(str(error))
        self.exit_code = WRONG_SETTINGS if isinstance(error, SettingsError) else 1

    def show(self, file: IO[Any] | None = None) -> None:
        for line in self.message.splitlines():
            click.echo(f"eventfleet: {printable(line)}", file=file or sys.stderr)


def as_json(command: F) -> F:
    """The option `--json`."""
    return click.option("--json", "json", is_flag=True, help="Print JSON, for programs.")(command)


def print_json(value: Any) -> None:
    """One line of JSON: dataclasses, msgspec's plain values, times as RFC 3339."""
    import orjson

    click.echo(orjson.dumps(value, option=orjson.OPT_UTC_Z))


def indented(value: Any) -> str:
    """JSON for people to read."""
    import orjson

    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z).decode()


def printable(text: str) -> str:
    """The text with control characters escaped: data must not steer a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def console(stderr: bool = False) -> "Console":
    """A screen for tables; wide where nobody watches, so that lines stay whole."""
    from rich.console import Console

    watched = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, highlight=False, width=None if watched else PIPED_WIDTH)
