"""JsonLogFormatter: log lines as JSON objects, for programs that collect logs."""

import logging
from datetime import UTC, datetime
from typing import Any

from pythonjsonlogger.json import JsonFormatter

NAMES = {
    "asctime": "time",
    "levelname": "level",
    "name": "logger",
    "exc_info": "exception",
    "stack_info": "stack",
}


class JsonLogFormatter(JsonFormatter):
    """Formats a record as one line: time, level, logger, message, exception and extra fields.

    An extra field `exception` is a traceback as text, which the message may end with for people.
    """

    def __init__(self) -> None:
        super().__init__(["asctime", "levelname", "name", "message"], rename_fields=NAMES)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        log_data["level"] = log_data["level"].lower()
        if isinstance(traceback := log_data.get("exception"), str):
            log_data["message"] = log_data["message"].removesuffix(f"\n{traceback}")
        return {name: value for name, value in log_data.items() if value is not None}
