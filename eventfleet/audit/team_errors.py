"""Describes exceptions that a team's own functions raise."""

from pathlib import Path
from traceback import extract_tb

import eventfleet
from eventfleet import domains

_PACKAGE = str(Path(eventfleet.__file__).parent)
_SAMPLES = str(Path(domains.__file__).parent)


def describe_error(error: Exception) -> str:
    """Return type, text and the line of the team's code that raised, where there is one."""
    text = f"{type(error).__name__}: {error}"
    frames = [
        frame
        for frame in extract_tb(error.__traceback__)
        if frame.filename.startswith(_SAMPLES) or not frame.filename.startswith(_PACKAGE)
    ]
    if not frames:
        return text
    return f"{text} ({frames[-1].filename}:{frames[-1].lineno})"
