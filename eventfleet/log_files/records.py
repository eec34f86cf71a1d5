"""Makes events or commands of rows, with ids that are the same at each load."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import orjson
from msgspec import inspect

from eventfleet.deciders.command_parser import parse_decoded_command
from eventfleet.log_files.rows import NO_COLUMNS, LogRow, RowProblem
from eventfleet.model.command_rules import command_class, command_name
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Command, Data, Event
from eventfleet.model.type_checks import number_fields
from eventfleet.stores.clock import SystemClock
from eventfleet.topics.codec import decode, decode_command, encode, to_invalid_record
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EventRecord
from eventfleet.topics.names import wire_name
from eventfleet.topics.values import fit_numbers, number_text, read_number

NAMESPACE = UUID("58574f70-600a-47e6-a56c-addf6c35f552")


Payloads = Mapping[str, type[Event] | type[Command]]


class ReadyRecord(NamedTuple):
    """An event (or a command, in an event's envelope) that its domain accepts, its bytes, and the
    number of its row."""

    event: EventRecord
    value: bytes
    number: int = 0


def to_events(
    rows: Iterable[LogRow | ReadyRecord | RowProblem], domain: Domain[Any]
) -> Iterator[ReadyRecord | RowProblem]:
    """Convert rows to events of the domain, or to problems; items that are no rows pass through.

    An event's id is the row's, if it has one. Otherwise it is a UUIDv5 of the domain, the row's
    content, and the number of earlier rows of the same content: true duplicates stay apart, and a
    second load makes the same ids. The count takes about 100 bytes of memory for each different
    row.
    """
    return _convert(rows, _EventBuilder(domain))


def to_commands(
    rows: Iterable[LogRow | ReadyRecord | RowProblem], domain: Domain[Any]
) -> Iterator[ReadyRecord | RowProblem]:
    """Convert rows to commands of the domain; the activity is the command's name.

    Ids are made as by `to_events`.
    """
    return _convert(rows, _CommandBuilder(domain))


def _convert(
    rows: Iterable[LogRow | ReadyRecord | RowProblem], builder: "_Builder"
) -> Iterator[ReadyRecord | RowProblem]:
    for row in rows:
        if not isinstance(row, LogRow):
            yield row
            continue
        try:
            yield builder.build(row)
        except InvalidRecord as error:
            yield RowProblem(row.origin, row.number, error.field, error.reason, row.case)


class _Builder:
    kinds: Payloads

    def __init__(self, domain: Domain[Any]) -> None:
        self._domain = domain
        self._seen: dict[int, int] = {}
        self._started_at = SystemClock().now()

    def schema_version(self, activity: str) -> int:
        """The newest schema version; InvalidRecord for an activity unknown to the domain."""
        raise NotImplementedError

    def check(self, value: bytes) -> None:
        """Raise InvalidRecord, naming the field that the domain does not accept."""
        raise NotImplementedError

    def build(self, row: LogRow) -> ReadyRecord:
        schema_version = self.schema_version(row.activity)
        data, shared = self._data(row)
        fitted = fit_numbers(data, self.kinds.get(row.activity, Any), "data")
        try:
            event = EventRecord(
                id=self._hashed_id(row, data, shared) if row.id is None else row.id,
                type=row.activity,
                domain=self._domain.name,
                aggregate_id=row.case,
                time=row.time or self._started_at,
                data=fitted,
                schema_version=schema_version,
                actor=row.actor,
            )
            value = encode(event)
        except (TypeError, UnicodeEncodeError) as error:
            raise InvalidRecord("data", str(error)) from None
        self.check(value)
        return ReadyRecord(event, value, row.number)

    def _data(self, row: LogRow) -> tuple[Data, Mapping[str, Any]]:
        """The payload, and its fields from columns that `Columns` names."""
        kind = self.kinds.get(row.activity)
        if kind is None:
            return row.data, NO_COLUMNS
        names = row.named.keys() & kind.__struct_encode_fields__
        shared = {name: row.named[name] for name in names}
        if row.origin.textual:
            return _from_text(row.data | shared, kind, row.origin.decimal), shared
        payload = row.data.get("data")
        if not isinstance(payload, dict):
            return row.data | shared, shared
        others = ", ".join(row.data.keys() - {"data"})
        if others:
            raise InvalidRecord(
                "data", f"is an object, but the row has other columns too: {others}"
            )
        return payload, NO_COLUMNS

    def _hashed_id(self, row: LogRow, data: Data, shared: Mapping[str, Any]) -> str:
        others = {name: data[name] for name in data if name not in shared} if shared else data
        content = [self._domain.name, row.case, row.activity, row.time, others]
        if row.actor is not None:
            content.append(row.actor)
        name = hashlib.sha1(NAMESPACE.bytes, usedforsecurity=False)
        name.update(orjson.dumps(content, default=float, option=orjson.OPT_SORT_KEYS))
        # A collision of these eight bytes only leaves a gap in the ordinals.
        key = int.from_bytes(name.digest()[:8], "big")
        ordinal = self._seen.get(key, 0)
        self._seen[key] = ordinal + 1
        name.update(str(ordinal).encode())
        return str(UUID(bytes=name.digest()[:16], version=5))


class _EventBuilder(_Builder):
    def __init__(self, domain: Domain[Any]) -> None:
        super().__init__(domain)
        self.kinds = {wire_name(kind): kind for kind in domain.events}

    def schema_version(self, activity: str) -> int:
        return self._domain.latest_schema_version(activity)

    def check(self, value: bytes) -> None:
        self._domain.check(decode(value))


class _CommandBuilder(_Builder):
    def __init__(self, domain: Domain[Any]) -> None:
        super().__init__(domain)
        payloads = {command_name(each): command_class(each) for each in domain.commands}
        self.kinds = {name: kind for name, kind in payloads.items() if kind}

    def schema_version(self, activity: str) -> int:
        self._domain.rule(activity)
        return 1

    def check(self, value: bytes) -> None:
        parse_decoded_command(self._domain, decode_command(value))


def _from_text(cells: Data, kind: type[Event] | type[Command], decimal: str) -> Data:
    """Convert the cells to the types of the schema; absent cells stay absent."""
    cells, decimals = dict(cells), number_fields(kind, inspect.DecimalType)
    try:
        for name in number_fields(kind) & cells.keys():
            number = number_text(cells[name], decimal)
            cells[name] = number if name in decimals else read_number(number)
        payload = msgspec.to_builtins(msgspec.convert(cells, kind, strict=False))
    except msgspec.ValidationError as error:
        raise to_invalid_record(error, "data") from None
    except ValueError as error:
        raise InvalidRecord(f"data.{name}", str(error)) from None
    return {name: payload[name] for name in cells if name in payload}
