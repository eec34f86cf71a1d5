"""Numbers of the command line, written as JSON writes them: `1_000` is none."""

from typing import Any

import click

from eventfleet.topics.values import read_integer, read_number


class Integer(click.IntRange):
    """An integer within bounds."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return super().convert(_read(self, read_integer, value, param, ctx), param, ctx)


class Number(click.FloatRange):
    """A finite number within bounds."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return super().convert(_read(self, read_number, value, param, ctx), param, ctx)


def _read(kind: click.ParamType, read: Any, value: Any, param: Any, ctx: Any) -> Any:
    try:
        return read(value) if isinstance(value, str) else value
    except ValueError as error:
        kind.fail(str(error), param, ctx)
