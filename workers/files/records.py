"""From rows to events that append will take, with ids that a second load makes again."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import orjson

from domains.declaration import Data, Domain, Event
from topics.codec import decode, encode, refusal
from topics.errors import Unreadable
from topics.event import EventRecord
from workers.files.rows import Problem, Row

NAMESPACE = UUID("58574f70-600a-47e6-a56c-addf6c35f552")


class Ready(NamedTuple):
    """An event that its domain accepts, and its bytes for the log."""

    event: EventRecord
    value: bytes


def to_events(
    rows: Iterable[Row | Ready | Problem], domain: Domain[Any]
) -> Iterator[Ready | Problem]:
    """Every row as an event of the domain, or why it is none; what is no row passes through.

    An event's id is a UUIDv5 of the domain, the row's content, and how many rows of the same
    content came before it: true duplicates stay apart, and a second load makes the same ids. That
    count costs about 100 bytes of memory for each different row.
    """
    builder = _Builder(domain)
    for row in rows:
        if not isinstance(row, Row):
            yield row
            continue
        try:
            yield builder.build(row)
        except Unreadable as error:
            yield Problem(row.origin, row.number, error.field, error.reason)


class _Builder:
    def __init__(self, domain: Domain[Any]) -> None:
        self._domain = domain
        self._kinds = {kind.__name__: kind for kind in domain.events}
        self._seen: dict[int, int] = {}

    def build(self, row: Row) -> Ready:
        schema_version = self._domain.newest(row.activity)
        data = self._data(row)
        try:
            event = EventRecord(
                id=self._id(row, data),
                type=row.activity,
                domain=self._domain.name,
                aggregate_id=row.case,
                time=row.time,
                data=data,
                schema_version=schema_version,
            )
            value = encode(event)
        except orjson.JSONEncodeError as error:
            raise Unreadable("data", str(error)) from None
        self._domain.check(decode(value))
        return Ready(event, value)

    def _data(self, row: Row) -> Data:
        kind = self._kinds.get(row.activity)
        if kind is None:
            return row.data
        if row.origin.textual:
            return _from_text(row.data, kind)
        payload = row.data.get("data")
        if not isinstance(payload, dict):
            return row.data
        others = ", ".join(row.data.keys() - {"data"})
        if others:
            raise Unreadable("data", f"is an object, but the row has other columns too: {others}")
        return payload

    def _id(self, row: Row, data: Data) -> str:
        content = [self._domain.name, row.case, row.activity, row.time, data]
        name = hashlib.sha1(NAMESPACE.bytes, usedforsecurity=False)
        name.update(orjson.dumps(content, option=orjson.OPT_SORT_KEYS))
        # A clash of these eight bytes costs nothing but a gap in the ordinals.
        key = int.from_bytes(name.digest()[:8], "big")
        ordinal = self._seen.get(key, 0)
        self._seen[key] = ordinal + 1
        name.update(str(ordinal).encode())
        return str(UUID(bytes=name.digest()[:16], version=5))


def _from_text(cells: Data, kind: type[Event]) -> Data:
    """The cells in the types that the schema gives them; those that are absent stay absent."""
    try:
        payload = msgspec.to_builtins(msgspec.convert(cells, kind, strict=False))
    except msgspec.ValidationError as error:
        raise refusal(error, "data") from None
    return {name: payload[name] for name in cells if name in payload}
