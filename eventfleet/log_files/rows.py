"""The rows of a log file in any format, and the errors of rows and files."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from eventfleet.log_files.times import parse_time
from eventfleet.model.domain import Domain
from eventfleet.topics.errors import EventfleetError
from eventfleet.topics.event import MAX_ID_CHARS

CASE = "case:concept:name"
ACTIVITY = "concept:name"
TIME = "time:timestamp"


class UnusableFile(EventfleetError):
    """Nothing can be loaded from a file: which, and why."""


class Origin(NamedTuple):
    """The source of rows: the file, the unit that numbers count, whether all values are text."""

    file: str
    unit: str
    textual: bool = False


class Row(NamedTuple):
    """An event of a log; `data` holds the columns besides case, activity and time."""

    origin: Origin
    number: int
    case: str
    activity: str
    time: datetime
    data: dict[str, Any]


class RowProblem(NamedTuple):
    """A row that can't be used, and why. `number` counts lines (in XES: events) from 1."""

    origin: Origin
    number: int
    field: str
    reason: str

    def __str__(self) -> str:
        why = f"{self.field}: {self.reason}" if self.field else self.reason
        return f"{self.origin.file}, {self.origin.unit} {self.number}: {why}"


@dataclass(frozen=True)
class Columns:
    """The columns that hold an event's case, activity and time.

    Where the activity column is missing, the column `activity_fallback` is read.
    """

    case: str = CASE
    activity: str = ACTIVITY
    time: str = TIME
    activity_fallback: str = ""

    @classmethod
    def of(
        cls, domain: Domain[Any], case: str = CASE, activity: str = ACTIVITY, time: str = TIME
    ) -> "Columns":
        """The columns for a domain; in a typed domain `type` may name the activity, too."""
        return cls(case, activity, time, activity_fallback="" if domain.schema_free else "type")

    def missing(self, header: Collection[str]) -> list[tuple[str, str]]:
        """The columns that a header lacks, each with the option that names another."""
        needed = [(self.case, "--case"), (self.activity, "--activity"), (self.time, "--time")]
        return [
            (name, option)
            for name, option in needed
            if name not in header
            and not (option == "--activity" and self.activity_fallback in header)
        ]


def to_row(
    origin: Origin, number: int, values: dict[str, Any], columns: Columns
) -> Row | RowProblem:
    """Make a row of `values`, which it consumes, or a problem."""
    activity_column = columns.activity
    if activity_column not in values and columns.activity_fallback in values:
        activity_column = columns.activity_fallback
    try:
        field = columns.case
        case = _identifier(values.pop(field, None))
        field = activity_column
        activity = _identifier(values.pop(field, None))
        field = columns.time
        time = parse_time(values.pop(field, None))
    except ValueError as error:
        return RowProblem(origin, number, field, str(error))
    return Row(origin, number, case, activity, time, values)


def _identifier(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value is None:
        raise ValueError("is missing")
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")
    if not value or value.isspace():
        raise ValueError("is empty")
    if len(value) > MAX_ID_CHARS:
        raise ValueError(f"has {len(value)} characters, the limit is {MAX_ID_CHARS}")
    return value
