"""Reads rows of a CSV file: a header, commas, quotes that may contain line ends."""

import csv
from collections import Counter, deque
from collections.abc import Iterator
from typing import NamedTuple

from eventfleet.log_files.byte_source import MAX_LINE_BYTES, ByteSource, Line
from eventfleet.log_files.rows import Columns, Origin, Row, RowProblem, to_row

_OTHER_FORMATS = {b"{": "JSON", b"[": "JSON", b"<": "XML"}
_OPEN_QUOTE = "a quote is not closed"


class _Record(NamedTuple):
    number: int
    fields: list[str]


def csv_rows(source: ByteSource, columns: Columns) -> Iterator[Row | RowProblem]:
    """Iterate over the rows, as text, without empty cells. UnusableFile for an unusable header."""
    other_format = _OTHER_FORMATS.get(source.peek_start()[:1])
    if other_format:
        raise source.unusable(f"is named .csv, but looks like {other_format}")
    origin = Origin(source.name, "line", textual=True)
    records = _records(_Lines(source.lines(origin), origin))
    header = next(records, None)
    if header is None:
        raise source.unusable("is empty")
    if isinstance(header, RowProblem):
        raise source.unusable(f"the header can't be read: {header.reason}")
    _check(header.fields, source, columns)
    return _rows(records, header.fields, origin, columns)


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
) -> Iterator[Row | RowProblem]:
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
            yield RowProblem(origin, record.number, "", reason)


def _records(lines: "_Lines") -> Iterator[_Record | RowProblem]:
    """Iterate over records, without blank lines. Of a bad record only the first line is lost."""
    parser = csv.reader(lines, strict=True)
    while True:
        lines.begin()
        try:
            fields = next(parser)
        except StopIteration:
            return
        except _BadLine as error:
            yield error.problem
        except csv.Error as error:
            yield lines.give_up(str(error))
        else:
            if fields:
                yield _Record(lines.taken[0].number, fields)


class _BadLine(Exception):
    def __init__(self, problem: RowProblem) -> None:
        self.problem = problem


class _Lines:
    """The lines that the CSV parser reads; `taken` are those of the present record."""

    def __init__(self, lines: Iterator[Line | RowProblem], origin: Origin) -> None:
        self._fresh = lines
        self._origin = origin
        self._again: deque[Line | RowProblem] = deque()
        self.taken: list[Line] = []
        self._size = 0

    def begin(self) -> None:
        """Start a new record."""
        self.taken.clear()
        self._size = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._fresh)
        if isinstance(line, RowProblem):
            raise self._bad_line(line)
        try:
            text = line.raw.decode()
        except UnicodeDecodeError as error:
            reason = f"is not UTF-8: byte {error.start + 1} is {line.raw[error.start]:#04x}"
            raise self._bad_line(RowProblem(self._origin, line.number, "", reason)) from None
        self.taken.append(line)
        self._size += len(line.raw)
        if self._size > MAX_LINE_BYTES:
            raise csv.Error(_OPEN_QUOTE)
        return text

    def _bad_line(self, problem: RowProblem) -> Exception:
        if not self.taken:
            return _BadLine(problem)
        self._again.appendleft(problem)
        return csv.Error(_OPEN_QUOTE)

    def give_up(self, reason: str) -> RowProblem:
        """Give up the record's first line, and read the lines after it again."""
        first, *others = self.taken
        self._again.extendleft(reversed(others))
        if reason == "unexpected end of data":
            reason = _OPEN_QUOTE
        return RowProblem(self._origin, first.number, "", f"is not CSV: {reason}")
