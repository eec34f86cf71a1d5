"""Records of a log, as they are read and as they are written."""

from msgspec import Struct

Headers = tuple[tuple[str, bytes], ...]

make_tuple = tuple.__new__
"""Makes a named tuple from its fields in order, where a Python call for each costs too much."""


class LogRecord(Struct, frozen=True, gc=False):
    """A record as read from a partition. `timestamp` is in milliseconds since 1970."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp: int = 0


class ProducerRecord(Struct, frozen=True, gc=False):
    """A record to be written. Without a partition, the key's hash chooses it."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    headers: Headers = ()
    timestamp: int | None = None
