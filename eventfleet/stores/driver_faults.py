"""Tells what a driver raises from our own mistakes, by where it was raised.

In an outage a driver may raise anything: an assertion, a bare KeyError. Whatever it raises within a
call to a server means that this server is unavailable; the same error of our own code is a bug.
"""

import asyncio
from collections.abc import Collection
from traceback import walk_tb

OUR_PACKAGE = __name__.partition(".")[0]


def is_outage(drivers: Collection[str], error: BaseException) -> bool:
    """Return whether a driver, by its packages, has raised the error or cancelled what we await."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and not task.cancelling()
    return _is_raised_by(drivers, error)


def _is_raised_by(drivers: Collection[str], error: BaseException) -> bool:
    """Return whether code of these packages raised the error, and not our own.

    Its class may tell, as errors come through futures without a traceback. Else the innermost frame
    of either side does; those of the libraries that both call are passed over.
    """
    if _package(type(error).__module__) in drivers:
        return True
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    for frame in reversed(frames):
        package = _package(frame.f_globals.get("__name__", ""))
        if package in drivers or package == OUR_PACKAGE:
            return package != OUR_PACKAGE
    return False


def describe(error: BaseException) -> str:
    """Return the class and the text of an error."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _package(module: str) -> str:
    return module.partition(".")[0]
