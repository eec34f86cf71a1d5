"""Rows on disk, in buckets: an audit holds those of one bucket in memory, and never all."""

import tempfile
from array import array
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar
from zlib import crc32

import msgspec

from eventfleet.audit.rows import AnyRow

R = TypeVar("R")

BUCKETS = 256
BLOCK_BYTES = 32_768
LENGTH_BYTES = 4

_encode = msgspec.msgpack.Encoder().encode


class Spool(Generic[R]):
    """Rows in buckets of one unnamed temporary file, which ends with the process at the latest.

    `kind` is their type, a tagged union. Rows with the same key are in the same bucket. A row of an
    event takes about 100 bytes; TMPDIR names another disk.
    """

    def __init__(self, kind: Any, key: Callable[[R], str], buckets: int = BUCKETS) -> None:
        self._decode: Callable[[memoryview], R] = msgspec.msgpack.Decoder(kind).decode
        self._key, self._size = key, buckets
        self._file = tempfile.TemporaryFile(prefix="eventfleet-audit-")  # noqa: SIM115
        self._buffers = [bytearray() for _ in range(self._size)]
        self._blocks = [array("Q") for _ in range(self._size)]  # offset and length by turns
        self._rows = [0] * self._size
        self._end = 0

    def add(self, row: R) -> None:
        """Add a row."""
        bucket = crc32(self._key(row).encode()) % self._size
        encoded = _encode(row)
        buffer = self._buffers[bucket]
        buffer += len(encoded).to_bytes(LENGTH_BYTES, "little")
        buffer += encoded
        self._rows[bucket] += 1
        if len(buffer) >= BLOCK_BYTES:
            self._flush(bucket)

    def __len__(self) -> int:
        return self._size

    def rows(self, bucket: int) -> int:
        """Return the number of rows in a bucket."""
        return self._rows[bucket]

    def read(self, bucket: int) -> Iterator[R]:
        """Yield the rows of a bucket, in the order in which they were added."""
        self._flush(bucket)
        blocks = iter(self._blocks[bucket])
        for offset, length in zip(blocks, blocks, strict=True):
            self._file.seek(offset)
            block = memoryview(self._file.read(length))
            at = 0
            while at < length:
                start = at + LENGTH_BYTES
                at = start + int.from_bytes(block[at:start], "little")
                yield self._decode(block[start:at])

    def __enter__(self) -> "Spool[R]":
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the rows."""
        self._file.close()

    def _flush(self, bucket: int) -> None:
        buffer = self._buffers[bucket]
        if buffer:
            self._file.seek(self._end)
            self._file.write(buffer)
            self._blocks[bucket].extend((self._end, len(buffer)))
            self._end += len(buffer)
            self._buffers[bucket] = bytearray()


def by_aggregate(row: AnyRow) -> str:
    """Return the key that keeps an aggregate's rows together."""
    return row.aggregate_id


def by_event(row: AnyRow) -> str:
    """Return the key that keeps an event's rows together."""
    return f"{row.event_id}\0{row.aggregate_id}"
