"""Output of commands: JSON for programs, tables and lines for people, errors on stderr."""

import sys
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from eventfleet.topics.errors import EventfleetError

if TYPE_CHECKING:
    from rich.console import Console

F = TypeVar("F", bound=Callable[..., Any])

WRONG_SETTINGS_STATUS = 2
PIPED_WIDTH_CHARACTERS = 200


class Failure(click.ClickException):
    """An error on standard error: each of its lines after the name of the program."""

    def __init__(self, error: EventfleetError) -> None:
        super().__init__(str(error))
        # Not imported: it may be what is missing, and help must stay fast.
        settings = sys.modules.get("eventfleet.runtime.settings")
        wrong_settings = settings is not None and isinstance(error, settings.SettingsError)
        self.exit_code = WRONG_SETTINGS_STATUS if wrong_settings else 1

    def show(self, file: IO[Any] | None = None) -> None:
        for line in self.message.splitlines():
            click.echo(f"eventfleet: {printable(line)}", file=file or sys.stderr)


def tell_end(error: BaseException) -> None:
    """Say why the process ends, before it stops what runs; its end does not say it again."""
    from eventfleet.cli.logs import log_last_error, logs_json

    if not isinstance(error, EventfleetError):
        sys.excepthook(type(error), error, error.__traceback__)
    elif logs_json():
        log_last_error(str(error), None)
    else:
        Failure(error).show()
    error.is_told = True  # type: ignore[attr-defined]


def is_told(error: BaseException) -> bool:
    return getattr(error, "is_told", False)


def as_json(command: F) -> F:
    """Add the option `--json`."""
    return click.option("--json", "json", is_flag=True, help="Print JSON, for programs.")(command)


def print_json(value: Any) -> None:
    """Print one line of JSON; takes dataclasses and plain values, writes times as RFC 3339."""
    import orjson

    click.echo(orjson.dumps(value, option=orjson.OPT_UTC_Z))


def indented(value: Any) -> str:
    """Format as indented JSON."""
    import orjson

    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z).decode()


def printable(text: str) -> str:
    """Escape control characters: data must not steer a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def console(stderr: bool = False) -> "Console":
    """A console for tables; wide where it is no terminal, so that lines stay whole."""
    from rich.console import Console

    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(
        stderr=stderr, highlight=False, width=None if terminal else PIPED_WIDTH_CHARACTERS
    )
