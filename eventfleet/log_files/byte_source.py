"""Reads the bytes of a log file: decompressed, in lines of bounded length."""

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from eventfleet.log_files.rows import Origin, RowProblem, UnusableFile

GZIP_MAGIC = b"\x1f\x8b"
BUFFER_BYTES = 65_536
MAX_LINE_BYTES = 4 * 1024 * 1024
TOO_LONG = f"is longer than {MAX_LINE_BYTES} bytes"
READ_ERRORS = (EOFError, OSError, zlib.error)


class Line(NamedTuple):
    """A line, line end included, and its number from 1."""

    number: int
    raw: bytes


class LongLine(NamedTuple):
    """A line that is too long, and whether a quote is in it."""

    number: int
    has_quote: bool

    def problem(self, origin: Origin) -> RowProblem:
        return RowProblem(origin, self.number, "", TOO_LONG)


class ByteSource:
    """An open file. UnusableFile when it can't be opened, or its name is wrong about gzip."""

    def __init__(self, path: Path, zipped: bool) -> None:
        self.name = str(path)
        self._disk, magic = _open(path)
        self.size = os.fstat(self._disk.fileno()).st_size
        if not magic:
            raise self.unusable("is empty")
        if zipped and magic != GZIP_MAGIC:
            raise self.unusable("is named .gz, but is not gzip-compressed")
        if not zipped and magic == GZIP_MAGIC:
            raise self.unusable("is gzip-compressed: its name must end in .gz")
        self.bytes: io.BufferedReader | gzip.GzipFile = (
            gzip.GzipFile(fileobj=self._disk)
            if zipped
            else io.BufferedReader(self._disk, BUFFER_BYTES)
        )

    @property
    def bytes_read(self) -> int:
        """The number of bytes read from disk, out of `size`."""
        return self.size if self._disk.closed else self._disk.tell()

    def peek_start(self) -> bytes:
        """Peek at the first bytes, after skipping a byte order mark and white space."""
        try:
            start = self.bytes.peek(4096)
            if start.startswith(b"\xef\xbb\xbf"):
                self.bytes.read(3)
                start = start[3:]
        except READ_ERRORS as error:
            raise self.unusable(f"can't be read: {self.describe_break(error)}") from None
        if not start.strip():
            raise self.unusable("is empty")
        if b"\0" in start:
            raise self.unusable("is binary or not in UTF-8")
        return start.lstrip()

    def lines(self, origin: Origin) -> Iterator[Line | LongLine | RowProblem]:
        """Iterate over lines; a RowProblem where the file breaks off."""
        number = 0
        try:
            for line in read_lines(self.bytes):
                number = line.number
                yield line
        except READ_ERRORS as error:
            yield RowProblem(
                origin, number + 1, "", f"the file breaks off: {self.describe_break(error)}"
            )

    def describe_break(self, error: Exception) -> str:
        """Describe why and where reading ended too early."""
        if isinstance(error, EOFError):
            return f"its gzip data is truncated at byte {self.bytes_read}"
        if isinstance(error, zlib.error | gzip.BadGzipFile):
            return f"its gzip data is damaged near byte {self.bytes_read}: {error}"
        return str(error)

    def unusable(self, reason: str) -> UnusableFile:
        """Close the file; returns the error for the file as a whole."""
        self.close()
        return UnusableFile(f"{self.name}: {reason}")

    def close(self) -> None:
        self._disk.close()


def read_lines(stream: BinaryIO | gzip.GzipFile) -> Iterator[Line | LongLine]:
    """Iterate over lines, line ends included, without holding those that are too long."""
    number = 0
    while raw := stream.readline(MAX_LINE_BYTES):
        number += 1
        if len(raw) < MAX_LINE_BYTES or raw.endswith(b"\n"):
            yield Line(number, raw)
        else:
            yield LongLine(number, _skip_line(stream) or b'"' in raw)


def _skip_line(stream: BinaryIO | gzip.GzipFile) -> bool:
    """Read on to the line's end, and return whether a quote came."""
    has_quote = False
    while more := stream.readline(MAX_LINE_BYTES):
        has_quote = has_quote or b'"' in more
        if more.endswith(b"\n"):
            break
    return has_quote


def _open(path: Path) -> tuple[io.FileIO, bytes]:
    """Open the file; returns it with its first two bytes, to be read again."""
    try:
        disk = io.FileIO(path)
        magic = disk.read(2) or b""
        disk.seek(0)
        return disk, magic
    except FileNotFoundError:
        raise UnusableFile(f"{path}: there is no such file") from None
    except OSError as error:
        raise UnusableFile(f"{path}: can't be opened: {error.strerror}") from None
