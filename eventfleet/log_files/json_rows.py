"""Reads rows of a JSON lines file: one object per line."""

from collections.abc import Iterator

from eventfleet.log_files.byte_source import ByteSource, Line, LongLine
from eventfleet.log_files.rows import Columns, FileFormat, LogRow, Origin, RowProblem, to_row
from eventfleet.topics.codec import parse
from eventfleet.topics.errors import InvalidRecord

_OTHER_FORMATS = {b"[": "a JSON array", b"<": "XML"}


def json_rows(
    source: ByteSource, columns: Columns, file_format: FileFormat
) -> Iterator[LogRow | RowProblem]:
    """Iterate over the objects, values unchanged. UnusableFile for a file of another format."""
    start = source.peek_start()
    if not start.startswith(b"{"):
        other_format = _OTHER_FORMATS.get(start[:1], "something else")
        raise source.unusable(
            f"is named as JSON lines (one object per line), but is {other_format}"
        )
    origin = Origin(source.name, "line", zone=file_format.zone)
    return _rows(source.lines(origin), origin, columns)


def _rows(
    lines: Iterator[Line | LongLine | RowProblem], origin: Origin, columns: Columns
) -> Iterator[LogRow | RowProblem]:
    """A line end is never within an object, so each line begins anew, whatever the one before."""
    for line in lines:
        if isinstance(line, RowProblem):
            yield line
        elif isinstance(line, LongLine):
            yield line.problem(origin)
        elif not line.raw.isspace():
            yield _row(line, origin, columns)


def _row(line: Line, origin: Origin, columns: Columns) -> LogRow | RowProblem:
    try:
        values = parse(line.raw)
    except InvalidRecord as error:
        field = "" if error.field == "value" else error.field
        return RowProblem(origin, line.number, field, error.reason)
    if not isinstance(values, dict):
        return RowProblem(origin, line.number, "", "is not a JSON object")
    return to_row(origin, line.number, values, columns)
