"""Gaps: places where this process may have lost events, as its metrics and readiness tell them."""

import logging
from typing import NamedTuple

MAX_GAPS = 100
"""Places that are told apart; of more the oldest is forgotten."""

logger = logging.getLogger(__name__)


class Gap(NamedTuple):
    """A place, how many times events may have been lost there, and the text of the last time."""

    place: str
    times: int
    text: str


_gaps: dict[str, Gap] = {}


def tell_gap(place: str, text: str) -> None:
    """Log that events may be lost at a place, and keep it for the metrics and readiness."""
    logger.error("%s: %s", place, text)
    known = _gaps.pop(place, Gap(place, 0, ""))
    _gaps[place] = Gap(place, known.times + 1, text)
    if len(_gaps) > MAX_GAPS:
        _gaps.pop(next(iter(_gaps)))


def gaps() -> list[Gap]:
    """Return the gaps of this process, the latest last."""
    return [*_gaps.values()]
