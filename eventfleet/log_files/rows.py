"""What every kind of file comes down to: rows, problems in place of rows, and faults of a file."""

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
    """A file that nothing can be loaded from: which, and why."""


class Origin(NamedTuple):
    """Where rows come from: the file, what is counted in it, whether all values are text."""

    file: str
    unit: str
    textual: bool = False


class Row(NamedTuple):
    """One event as its file has it; `data` is what remains of its columns."""

    origin: Origin
    number: int
    case: str
    activity: str
    time: datetime
    data: dict[str, Any]


class RowProblem(NamedTuple):
    """Why a row can't be used. `number` counts lines (CSV, JSON lines) or events (XES) from 1."""

    origin: Origin
    number: int
    field: str
    reason: str

    def __str__(self) -> str:
        why = f"{self.field}: {self.reason}" if self.field else self.reason
        return f"{self.origin.file}, {self.origin.unit} {self.number}: {why}"


@dataclass(frozen=True)
class Columns:
    """Which columns hold an event's case, activity and time.

    Where there is no activity column, the one named `otherwise` is read in its place.
    """

    case: str = CASE
    activity: str = ACTIVITY
    time: str = TIME
    otherwise: str = ""

    @classmethod
    def of(
        cls, domain: Domain[Any], case: str = CASE, activity: str = ACTIVITY, time: str = TIME
    ) -> "Columns":
        """The columns for a domain: a typed one also takes its event types from `type`."""
        return cls(case, activity, time, otherwise="" if domain.schema_free else "type")

    def missing(self, header: Collection[str]) -> list[tuple[str, str]]:
        """The needed columns that a header lacks, each with the option that names another."""
        needed = [(self.case, "--case"), (self.activity, "--activity"), (self.time, "--time")]
        return [
            (name, option)
            for name, option in needed
            if name not in header and not (option == "--activity" and self.otherwise in header)
        ]


def to_row(
    origin: Origin, number: int, values: dict[str, Any], columns: Columns
) -> Row | RowProblem:
    """The row in `values` (which is used up), or why it is none."""
    activity_column = columns.activity
    if activity_column not in values and columns.otherwise in values:
        activity_column = columns.otherwise
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
