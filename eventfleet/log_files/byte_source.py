"""The bytes of a log file: decompressed, in bounded lines, and where they break off."""

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from eventfleet.log_files.rows import Origin, RowProblem, UnusableFile

GZIP_MAGIC = b"\x1f\x8b"
BUFFER_BYTES = 65_536
MAX_LINE_BYTES = 4 * 1024 * 1024
READ_ERRORS = (EOFError, OSError, zlib.error)


class Line(NamedTuple):
    """A line with its end, and its number from 1."""

    number: int
    raw: bytes


class ByteSource:
    """One open file. UnusableFile when it can't be opened or is no gzip, against its name."""

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
        """How many bytes on disk have been read, of `size`."""
        return self.size if self._disk.closed else self._disk.tell()

    def peek_start(self) -> bytes:
        """The first bytes, without a byte order mark, of which more is still to be read."""
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

    def lines(self, origin: Origin) -> Iterator[Line | RowProblem]:
        """The lines; a Problem for one that is too long, and where the file breaks off."""
        number = 0
        try:
            while raw := self.bytes.readline(MAX_LINE_BYTES):
                number += 1
                if len(raw) < MAX_LINE_BYTES or raw.endswith(b"\n"):
                    yield Line(number, raw)
                else:
                    self._skip_line()
                    yield RowProblem(origin, number, "", f"is longer than {MAX_LINE_BYTES} bytes")
        except READ_ERRORS as error:
            yield RowProblem(
                origin, number + 1, "", f"the file breaks off: {self.describe_break(error)}"
            )

    def describe_break(self, error: Exception) -> str:
        """Why and where reading ended too early."""
        if isinstance(error, EOFError):
            return f"its gzip data is truncated at byte {self.bytes_read}"
        if isinstance(error, zlib.error | gzip.BadGzipFile):
            return f"its gzip data is damaged near byte {self.bytes_read}: {error}"
        return str(error)

    def unusable(self, reason: str) -> UnusableFile:
        """The error for this file as a whole; the file is closed."""
        self.close()
        return UnusableFile(f"{self.name}: {reason}")

    def close(self) -> None:
        self._disk.close()

    def _skip_line(self) -> None:
        while (more := self.bytes.readline(MAX_LINE_BYTES)) and not more.endswith(b"\n"):
            pass


def _open(path: Path) -> tuple[io.FileIO, bytes]:
    """The file at its beginning, and its first two bytes."""
    try:
        disk = io.FileIO(path)
        magic = disk.read(2) or b""
        disk.seek(0)
        return disk, magic
    except FileNotFoundError:
        raise UnusableFile(f"{path}: there is no such file") from None
    except OSError as error:
        raise UnusableFile(f"{path}: can't be opened: {error.strerror}") from None
