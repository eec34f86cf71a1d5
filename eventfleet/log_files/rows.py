"""The rows of a log file in any format, and the errors of rows and files."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

from eventfleet.log_files.times import in_utc, read_time
from eventfleet.model.domain import Domain
from eventfleet.topics.errors import EventfleetError
from eventfleet.topics.values import check_identifier

CASE = "case:concept:name"
ACTIVITY = "concept:name"
TIME = "time:timestamp"
THE_END = "from there on it is unknown where a row begins: the rest of the file is not read"
NO_COLUMNS: Mapping[str, Any] = MappingProxyType({})


class UnusableFile(EventfleetError):
    """Nothing can be loaded from a file: which, and why."""


@dataclass(frozen=True)
class FileFormat:
    """How a file is written. Where `delimiter` (of CSV), `encoding` or `decimal`, the decimal mark
    of CSV, is empty, the file's beginning decides. `zone` is that of times without one."""

    delimiter: str = ""
    encoding: str = ""
    decimal: str = ""
    zone: tzinfo = UTC


class Origin(NamedTuple):
    """The source of rows: the file, the unit that numbers count, whether all values are text, with
    which decimal mark, and the zone of times without one."""

    file: str
    unit: str
    textual: bool = False
    decimal: str = "."
    zone: tzinfo = UTC


class LogRow(NamedTuple):
    """An event of a log; `data` holds the columns that `Columns` does not name.

    `named` holds the columns of case, time, id and actor: a payload may have fields of these names.
    `time` is None where it may be missing, and is; `has_zone`: it was written with its own.
    """

    origin: Origin
    number: int
    case: str
    activity: str
    time: datetime | None
    data: dict[str, Any]
    id: str | None = None
    actor: str | None = None
    named: Mapping[str, Any] = NO_COLUMNS
    has_zone: bool = True


class RowProblem(NamedTuple):
    """A row that can't be used, and why. `number` counts lines (in XES: events) from 1."""

    origin: Origin
    number: int
    field: str
    reason: str
    case: str = ""

    @property
    def why(self) -> str:
        return f"{self.field}: {self.reason}" if self.field else self.reason

    def __str__(self) -> str:
        return f"{self.origin.file}, {self.origin.unit} {self.number}: {self.why}"


@dataclass(frozen=True)
class Columns:
    """The columns that hold an event's case, activity and time, and its id and actor where named.

    Where the activity column is missing, the column `activity_fallback` is read. With a
    `fixed_activity`, which every row has, neither is. With `time_optional` a row may lack its time.
    """

    case: str = CASE
    activity: str = ACTIVITY
    time: str = TIME
    id: str = ""
    actor: str = ""
    fixed_activity: str = ""
    activity_fallback: str = ""
    time_optional: bool = False

    @classmethod
    def of(cls, domain: Domain[Any], **named: Any) -> "Columns":
        """The columns for a domain; in a typed domain `type` may name the activity, too."""
        return cls(**named, activity_fallback="" if domain.schema_free else "type")

    def missing(self, header: Collection[str]) -> list[tuple[str, str]]:
        """The columns that a header lacks, each with the option that names another."""
        return [(name, option) for name, option in self._needed(header) if name not in header]

    @cached_property
    def shareable(self) -> frozenset[str]:
        """The columns that a payload may have fields of, too."""
        return frozenset({self.case, self.time, self.id, self.actor} - {""})

    def activity_column(self, present: Collection[str]) -> str:
        """The column that holds the activity, out of those that are present."""
        fallback = self.activity not in present and self.activity_fallback in present
        return self.activity_fallback if fallback else self.activity

    def _needed(self, header: Collection[str]) -> list[tuple[str, str]]:
        activity = "" if self.fixed_activity else self.activity_column(header)
        options = {
            "--case": self.case,
            "--activity": activity,
            "--time": "" if self.time_optional else self.time,
            "--id": self.id,
            "--actor": self.actor,
        }
        return [(name, option) for option, name in options.items() if name]


def to_row(
    origin: Origin, number: int, values: dict[str, Any], columns: Columns
) -> LogRow | RowProblem:
    """Make a row of `values`, which it consumes, or a problem."""
    case, time = "", None
    try:
        field = columns.case
        case = _identifier(values.get(field))
        field = activity_column = columns.activity_column(values)
        activity = columns.fixed_activity or _identifier(values.get(field))
        field = columns.time
        if values.get(field) or not columns.time_optional:
            time = read_time(values.get(field))
        moment = time and in_utc(time, origin.zone)
        field = columns.id
        own_id = _identifier(values.get(field)) if field else None
        field = columns.actor
        actor = _identifier(values.get(field)) if field else None
    except ValueError as error:
        return RowProblem(origin, number, field, str(error), case)
    has_zone = time is None or time.tzinfo is not None
    shared = columns.shareable & values.keys()
    named = {name: values.pop(name) for name in shared}
    if not columns.fixed_activity:
        values.pop(activity_column, None)
    return LogRow(origin, number, case, activity, moment, values, own_id, actor, named, has_zone)


def _identifier(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value is None:
        raise ValueError("is missing")
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")
    return check_identifier("" if value.isspace() else value)
