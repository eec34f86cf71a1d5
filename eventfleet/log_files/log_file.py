"""Opens a log file by the ending of its name."""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from eventfleet.log_files.byte_source import ByteSource
from eventfleet.log_files.csv_rows import csv_rows
from eventfleet.log_files.json_rows import json_rows
from eventfleet.log_files.rows import Columns, FileFormat, LogRow, RowProblem, UnusableFile
from eventfleet.log_files.xes_rows import xes_rows

READERS = {".csv": csv_rows, ".jsonl": json_rows, ".ndjson": json_rows, ".xes": xes_rows}


class LogFile:
    """An open log: a context manager, to be iterated once. `size`, `bytes_read`: bytes on disk.

    `without_zone` and `without_time` count rows so far, by how their times were written.
    """

    def __init__(self, source: ByteSource, rows: Iterator[LogRow | RowProblem]) -> None:
        self._source = source
        self._rows = rows
        self.without_zone = self.without_time = 0

    @property
    def size(self) -> int:
        return self._source.size

    @property
    def bytes_read(self) -> int:
        return self._source.bytes_read

    def __iter__(self) -> Iterator[LogRow | RowProblem]:
        for row in self._rows:
            if isinstance(row, LogRow):
                self.without_zone += not row.has_zone
                self.without_time += row.time is None
            yield row

    def __enter__(self) -> "LogFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._source.close()


def open_log(
    path: Path | str, columns: Columns | None = None, file_format: FileFormat | None = None
) -> LogFile:
    """Open a log; iterating yields its rows in order, with a RowProblem for each unusable row.

    Columns have the names of process mining by default. UnusableFile when nothing can be loaded:
    the file is missing, empty, of an unknown or wrong ending, or lacks a column.
    """
    path = Path(path)
    zipped = path.suffix == ".gz"
    ending = path.with_suffix("").suffix if zipped else path.suffix
    reader = READERS.get(ending.lower())
    if reader is None:
        known = ", ".join(READERS)
        raise UnusableFile(f"{path}: a log file ends in one of {known}, each also with .gz")
    file_format = file_format or FileFormat()
    source = ByteSource(path, zipped, file_format.encoding)
    return LogFile(source, reader(source, columns or Columns(), file_format))
