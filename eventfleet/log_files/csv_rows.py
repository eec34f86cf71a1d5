"""Reads rows of a CSV file: a header, delimiters, quotes that may contain line ends."""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

from eventfleet.log_files.byte_source import MAX_LINE_BYTES, ByteSource, Line, LongLine
from eventfleet.log_files.rows import (
    THE_END,
    Columns,
    FileFormat,
    LogRow,
    Origin,
    RowProblem,
    to_row,
)
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.values import NOT_UTF8, decode_text

_OTHER_FORMATS = {b"{": "JSON", b"[": "JSON", b"<": "XML"}
_QUOTE, _NUL = '"', "\0"
_OPEN_QUOTE = "a quote is not closed"
_BARE_QUOTE = 'a quote within a cell: put such a cell in quotes, and write each of its own as ""'
DELIMITERS = ",;\t|"
"""Those that are looked for in a header."""


class _Record(NamedTuple):
    """`has_quote`: some of its cells were quoted."""

    number: int
    fields: list[str]
    has_quote: bool


def csv_rows(
    source: ByteSource, columns: Columns, file_format: FileFormat
) -> Iterator[LogRow | RowProblem]:
    """Iterate over the rows, as text, without empty cells. UnusableFile for an unusable header.

    Files with semicolons are taken to have decimal commas, unless the format says otherwise.
    """
    start = source.peek_start()
    other_format = _OTHER_FORMATS.get(start[:1])
    if other_format:
        raise source.unusable(f"is named .csv, but looks like {other_format}")
    # The library's own limit, 131,072 characters a cell, would break off in the middle of a cell.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    delimiter = file_format.delimiter or _find_delimiter(start, columns)
    decimal = file_format.decimal or ("," if delimiter == ";" else ".")
    origin = Origin(source.name, "line", True, decimal, file_format.zone)
    records = _records(_Lines(source.lines(origin), origin, delimiter), delimiter)
    header = next(records, None)
    if header is None:
        raise source.unusable("is empty")
    if isinstance(header, RowProblem):
        reason = header.reason.replace(NOT_UTF8, f"{NOT_UTF8} (name the encoding by --encoding)")
        raise source.unusable(f"the header can't be read: {reason}")
    _check(header.fields, source, columns)
    return _rows(records, header.fields, origin, columns)


def _find_delimiter(start: bytes, columns: Columns) -> str:
    """The delimiter by which the header has the most of the columns that are needed."""
    header = [*start.decode(errors="replace").splitlines(), ""][:1]

    def rank(delimiter: str) -> tuple[int, int]:
        names = next(csv.reader(header, delimiter=delimiter), [])
        return -len(columns.missing(names)), len(names)

    return max(DELIMITERS, key=rank)


def _check(header: list[str], source: ByteSource, columns: Columns) -> None:
    missing = [f"{name!r} (name another by {option})" for name, option in columns.missing(header)]
    if missing:
        found = ", ".join(header)
        raise source.unusable(f"has no column {', '.join(missing)}; its columns are: {found}")
    twice = [repr(name) for name, times in Counter(header).items() if times > 1]
    if twice:
        raise source.unusable(f"has more than one column {', '.join(twice)}")


def _rows(
    records: Iterator[_Record | RowProblem], header: list[str], origin: Origin, columns: Columns
) -> Iterator[LogRow | RowProblem]:
    width = len(header)
    for record in records:
        if isinstance(record, RowProblem):
            yield record
        elif len(record.fields) == width:
            cells = zip(header, record.fields, strict=True)
            values = {name: cell for name, cell in cells if cell}
            yield to_row(origin, record.number, values, columns)
        else:
            reason = f"has {len(record.fields)} fields, the header has {width}"
            if record.has_quote:
                yield RowProblem(origin, record.number, "", f"{reason}; {THE_END}")
                return
            yield RowProblem(origin, record.number, "", reason)


def _records(lines: "_Lines", delimiter: str) -> Iterator[_Record | RowProblem]:
    """Iterate over records, without blank lines.

    A line end ends a record unless it is quoted. So where a record is bad and has no quote, the
    next line begins another; where it has one, nobody knows which lines its cell has, and the file
    ends there.
    """
    parser = csv.reader(lines, strict=True, delimiter=delimiter)
    while True:
        lines.begin()
        try:
            fields = next(parser)
            lines.check_record()
        except StopIteration:
            return
        except csv.Error as error:
            yield lines.problem(str(error))
            if lines.has_quote:
                return
        else:
            if fields:
                yield lines.undecodable or _Record(lines.first, fields, lines.has_quote)


class _Lines:
    """The lines that the CSV parser reads.

    `first` is the number of the present record's first line; `has_quote` says whether it may have a
    quote; `undecodable` is the problem of a line that is not UTF-8: its commas, quotes and line end
    are what they are all the same.
    """

    def __init__(
        self, lines: Iterator[Line | LongLine | RowProblem], origin: Origin, delimiter: str
    ) -> None:
        self._lines, self._origin = lines, origin
        mark = re.escape(delimiter)
        cell = rf'(?:"(?:[^"]++|"")*+"|[^"{mark}\r\n]*+)'
        self._record = re.compile(rf"{cell}(?:{mark}{cell})*+[\r\n]*+")
        self.begin()

    def begin(self) -> None:
        """Start a new record."""
        self.first = self._size = 0
        self.undecodable: RowProblem | None = None
        self.has_quote = False
        self._taken: list[str] = []
        self._unusable: RowProblem | None = None

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.first = self.first or line.number
        if not isinstance(line, Line):
            self._stop_at(line)
        text = self._decode(line)
        self._taken.append(text)
        self._size += len(line.raw)
        self.has_quote = self.has_quote or _QUOTE in text
        if _NUL in text:
            self.has_quote = True  # whatever there was before
            raise csv.Error("has a NUL, so the file is damaged")
        if self._size > MAX_LINE_BYTES:
            raise csv.Error(f"has more than {MAX_LINE_BYTES} bytes, or {_OPEN_QUOTE}")
        return text

    def _stop_at(self, line: LongLine | RowProblem) -> NoReturn:
        if isinstance(line, LongLine):
            self.has_quote = self.has_quote or line.has_quote
            line = line.problem(self._origin)
        self._unusable = line
        raise csv.Error(line.reason)

    def _decode(self, line: Line) -> str:
        try:
            return decode_text(line.raw)
        except InvalidRecord as error:
            self.undecodable = RowProblem(self._origin, line.number, "", error.reason)
            return line.raw.decode(errors="replace")

    def check_record(self) -> None:
        """csv.Error for a quote within a cell that does not begin with one."""
        if self.has_quote and not self._record.fullmatch("".join(self._taken)):
            raise csv.Error(_BARE_QUOTE)

    def problem(self, reason: str) -> RowProblem:
        """The problem of the present record."""
        if reason == "unexpected end of data":
            reason = _OPEN_QUOTE
        found = RowProblem(self._origin, self.first, "", f"is not CSV: {reason}")
        problem = self._unusable or found
        end = f"{problem.reason}; {THE_END}"
        return problem._replace(reason=end) if self.has_quote else problem
