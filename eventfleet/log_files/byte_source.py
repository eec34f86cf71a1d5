"""Reads the bytes of a log file: decompressed, in lines of bounded length."""

import codecs
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from eventfleet.log_files.rows import Origin, RowProblem, UnusableFile

GZIP_MAGIC = b"\x1f\x8b"
BUFFER_BYTES = 65_536
MAX_LINE_BYTES = 4 * 1024 * 1024
TOO_LONG = f"is longer than {MAX_LINE_BYTES} bytes"
READ_ERRORS = (EOFError, OSError, UnicodeDecodeError, zlib.error)
WIDE_ENCODINGS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""By a file's first bytes; that of UTF-32 begins as that of UTF-16 does."""


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
    """An open file. UnusableFile when it can't be opened, or its name is wrong about gzip.

    `bytes` are UTF-8 where the file is, or has another `encoding` that is given, or that its byte
    order mark tells.
    """

    def __init__(self, path: Path, zipped: bool, encoding: str = "") -> None:
        self.name, self.encoding = str(path), encoding
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
            found = (name for mark, name in WIDE_ENCODINGS.items() if start.startswith(mark))
            self.encoding = self.encoding or next(found, "")
            if self.encoding:
                self.bytes = io.BufferedReader(_Recoded(self.bytes, self.encoding), BUFFER_BYTES)
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


class _Recoded(io.RawIOBase):
    """A stream in UTF-8 of one in another encoding, whose undecodable bytes stay as they are."""

    def __init__(self, stream: io.BufferedReader | gzip.GzipFile, encoding: str) -> None:
        self._stream = stream
        errors = "strict" if encoding in WIDE_ENCODINGS.values() else "surrogateescape"
        self._decoder = codecs.getincrementaldecoder(encoding)(errors)
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = b"more"
        while data and not self._left:
            data = self._stream.read1(BUFFER_BYTES)
            text = self._decoder.decode(data, final=not data)
            self._left = text.encode(errors="surrogateescape")
        taken, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


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
