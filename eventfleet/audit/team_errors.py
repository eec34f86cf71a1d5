"""Describes exceptions that a team's own functions raise."""

from traceback import extract_tb

from eventfleet.model.team_traceback import is_the_teams


def describe_error(error: Exception) -> str:
    """Return type, text and the line of the team's code that raised, where there is one."""
    text = f"{type(error).__name__}: {error}"
    frames = [frame for frame in extract_tb(error.__traceback__) if is_the_teams(frame)]
    if not frames:
        return text
    return f"{text} ({frames[-1].filename}:{frames[-1].lineno})"
