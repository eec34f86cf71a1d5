"""Describes exceptions that a team's own functions raise, without the frames before its code."""

from collections.abc import Iterable
from pathlib import Path
from traceback import FrameSummary, TracebackException, extract_tb

PACKAGE = Path(__file__).parents[1]
SAMPLE_DOMAINS = PACKAGE / "domains"


def team_traceback(error: BaseException) -> str:
    """Format an exception's traceback from the first line of the team's on.

    The whole of it where no line is the team's, as for a payload that a decoder refuses.
    """
    formatted = TracebackException.from_exception(error)
    for each in _chain(formatted):
        frames = list(each.stack)
        first = next((i for i, frame in enumerate(frames) if is_the_teams(frame)), 0)
        each.stack[:] = frames[first:]
    return "".join(formatted.format()).rstrip()


def describe_error(error: BaseException) -> str:
    """Return type, text and the line of the team's code that raised, where there is one."""
    place = team_place(error)
    return f"{type(error).__name__}: {error}" + (f" ({place})" if place else "")


def team_place(error: BaseException) -> str:
    """Return file and number of the team's line that raised; empty where no line is the team's."""
    frames = [frame for frame in extract_tb(error.__traceback__) if is_the_teams(frame)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def _chain(formatted: TracebackException) -> Iterable[TracebackException]:
    """The exception and those that it was raised from or during."""
    each: TracebackException | None = formatted
    while each is not None:
        yield each
        each = each.__cause__ or each.__context__


def is_the_teams(frame: FrameSummary) -> bool:
    """Return whether a frame is of the team's code: of none of ours, but for the sample domains."""
    path = Path(frame.filename)
    return not path.is_relative_to(PACKAGE) or path.is_relative_to(SAMPLE_DOMAINS)
