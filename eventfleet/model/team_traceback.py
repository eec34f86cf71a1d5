"""Describes exceptions that a team's own functions raise, without the frames before its code."""

import inspect
from collections.abc import Iterable
from functools import lru_cache, partial
from pathlib import Path
from sysconfig import get_path
from traceback import FrameSummary, TracebackException, extract_tb
from types import TracebackType
from typing import Any

PACKAGE = Path(__file__).parents[1]
SAMPLE_DOMAINS = PACKAGE / "domains"
INSTALLED, STANDARD = (
    [Path(get_path(name)) for name in names]
    for names in (("purelib", "platlib"), ("stdlib", "platstdlib"))
)
"""The folders of installed packages, and of the standard library (which may hold the former)."""


def team_traceback(error: BaseException) -> str:
    """Format an exception's traceback from the first line of the team's on.

    The whole of it where no line is the team's, as for a payload that a decoder refuses.
    """
    formatted = TracebackException(type(error), error, _from_the_team_on(error.__traceback__))
    for each in _chain(formatted):
        frames = list(each.stack)
        first = next((i for i, frame in enumerate(frames) if is_the_teams(frame)), 0)
        each.stack[:] = frames[first:]
    return "".join(formatted.format()).rstrip()


def error_line(error: BaseException) -> str:
    """Return type and text of an exception; one of a team's own may have no text."""
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except Exception as raised:
        return f"{name}, whose text raises {type(raised).__name__}"


def describe_error(error: BaseException, called: object = None) -> str:
    """Return type, text and the line of the team's code that raised, where there is one.

    Else that of the function which was `called`: it may have returned what it must not.
    """
    place = team_place(error, called)
    return error_line(error) + (f" ({place})" if place else "")


def team_place(error: BaseException, called: object = None) -> str:
    """Return file and number of the team's line that raised, or that can't be compiled.

    Where no line is the team's, those of the function that was `called`; without one nothing. The
    team's package may be installed: what is not is preferred, as the rest may be a library's.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [frame for frame in extract_tb(error.__traceback__) if is_the_teams(frame)]
    frames = [frame for frame in frames if not _is_below(frame.filename, INSTALLED)] or frames
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else place_of(called)


def error_key(error: BaseException, called: object = None) -> str:
    """Return what errors of one cause share: their texts may hold an event's values."""
    place = team_place(error, called)
    return f"{type(error).__name__} {place}" if place else error_line(error)


def place_of(function: object) -> str:
    """Return file and number of the line that a team's function begins at; nothing for others."""
    while isinstance(function, partial):
        function = function.func
    plain: Any = inspect.unwrap(function) if callable(function) else function
    code = getattr(plain, "__code__", None) or getattr(type(plain).__call__, "__code__", None)
    if code is None or not _is_the_teams_file(code.co_filename):
        return ""
    return f"{code.co_filename}:{code.co_firstlineno}"


def _chain(formatted: TracebackException) -> Iterable[TracebackException]:
    """The exception and those that it was raised from or during."""
    each: TracebackException | None = formatted
    while each is not None:
        yield each
        each = each.__cause__ or each.__context__


def _from_the_team_on(traceback: TracebackType | None) -> TracebackType | None:
    """Skip the frames before the team's first; reading the lines of a frame takes longest."""
    each = traceback
    while each is not None and not _is_the_teams_file(each.tb_frame.f_code.co_filename):
        each = each.tb_next
    return each or traceback


def is_the_teams(frame: FrameSummary) -> bool:
    """Return whether a frame is of the team's code: of none of ours, but for the sample domains."""
    return _is_the_teams_file(frame.filename)


@lru_cache(maxsize=1000)
def _is_the_teams_file(name: str) -> bool:
    if _is_below(name, [PACKAGE]):
        return _is_below(name, [SAMPLE_DOMAINS])
    return not name.startswith("<") and (
        _is_below(name, INSTALLED) or not _is_below(name, STANDARD)
    )


def _is_below(name: str, folders: Iterable[Path]) -> bool:
    return any(map(Path(name).is_relative_to, folders))
