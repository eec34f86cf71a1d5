"""Parses the times of process logs."""

import re
from datetime import UTC, datetime, tzinfo

from eventfleet.topics.event import truncate_to_milliseconds

# Year first with slashes or dots, a space before the offset, `UTC` or `GMT` as the offset.
_VARIANT = re.compile(
    r"(\d{4})([/.-])(\d\d)\2(\d\d)(?:[T ]([\d:.,]+))? ?(UTC|GMT|Z|[+-]\d\d(?::?\d\d)?)?", re.ASCII
)


def read_time(value: object) -> datetime:
    """Read a time as it is written: with its offset, or without one.

    Reads ISO 8601 (with `T` or a space; a date alone is its midnight), the same with `/` or `.` in
    the date, and `UTC` or `GMT` as offset. Day-first and month-first dates are refused, since
    they can't be told apart. ValueError gives the reason.
    """
    if value is None or value == "":
        raise ValueError("is missing" if value is None else "is empty")
    if not isinstance(value, str):
        raise ValueError(f"{_short(value)} is not a time written as text")
    try:
        moment = _read(value.strip())
        truncate_to_milliseconds(moment.replace(tzinfo=moment.tzinfo or UTC))
    except (ValueError, OverflowError):
        raise ValueError(f"{_short(value)} is not a time") from None
    return moment


def in_utc(moment: datetime, zone: tzinfo) -> datetime:
    """Return the moment in UTC, cut to whole milliseconds; the zone is for one without its own.

    ValueError: in UTC it is outside the years 1 to 9999.
    """
    return truncate_to_milliseconds(moment if moment.tzinfo else moment.replace(tzinfo=zone))


def _read(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        match = _VARIANT.fullmatch(text)
        if match is None:
            raise
    year, _, month, day, clock, offset = match.groups()
    zone = "+00:00" if offset in ("UTC", "GMT") else offset or ""
    return datetime.fromisoformat(f"{year}-{month}-{day}T{clock or '00:00'}{zone}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
