"""The extra fields of a log record."""

import logging
from typing import Any

STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime"}


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The fields that the caller gave the line, without those of no value."""
    given = vars(record).items()
    return {name: value for name, value in given if name not in STANDARD and value is not None}
