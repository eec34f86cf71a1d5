"""Reads rows of an XES log: events within traces, each with typed attributes."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from eventfleet.log_files.byte_source import BUFFER_BYTES, MAX_LINE_BYTES, READ_ERRORS, ByteSource
from eventfleet.log_files.rows import (
    THE_END,
    Columns,
    FileFormat,
    LogRow,
    Origin,
    RowProblem,
    to_row,
)
from eventfleet.topics.values import MAX_DEPTH, NESTED_TOO_DEEP, read_number

_KINDS = frozenset({"string", "date", "int", "float", "boolean", "id", "list", "container"})
_SCOPES = {("", "log"), ("log", "trace"), ("log", "event"), ("trace", "event")}
_ROWS = ("trace", "event")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def xes_rows(
    source: ByteSource, columns: Columns, file_format: FileFormat
) -> Iterator[LogRow | RowProblem]:
    """Iterate over the events: their attributes, and their trace's with the prefix `case:`.

    Values keep their types; dates stay text. An attribute with attributes of its own becomes
    {"value", "children"}; a container becomes an object, a list a list of [name, value].
    UnusableFile when the file does not start as an XES log.
    """
    if not source.peek_start().startswith(b"<"):
        raise source.unusable("is named .xes, but is not XML")
    events = _XesParser(source, columns, file_format)
    while not events.within_log:
        if not events.advance():
            raise source.unusable(f"is named .xes, but {events.break_reason}")
    return _rows(events)


def _rows(events: "_XesParser") -> Iterator[LogRow | RowProblem]:
    yield from events.drain()
    while events.advance():
        yield from events.drain()
    yield from events.drain()


class _Unsupported(Exception):
    """The file has content that is not supported."""


@dataclass
class _Attribute:
    """An attribute whose end tag is not read yet."""

    kind: str
    key: str
    text: str | None
    children: list[tuple[str, Any]] = field(default_factory=list)

    def value(self) -> Any:
        if self.kind == "list":
            return [[key, value] for key, value in self.children]
        if self.kind == "container":
            return dict(self.children)
        if self.text is None:
            raise ValueError("has no value")
        value = _typed(self.kind, self.text)
        return {"value": value, "children": dict(self.children)} if self.children else value


def _typed(kind: str, text: str) -> Any:
    if kind == "boolean":
        if text.strip() not in _BOOLEANS:
            raise ValueError(f"{text[:60]!r} is not a boolean")
        return _BOOLEANS[text.strip()]
    if kind not in ("int", "float"):
        return text
    number = read_number(text)
    if kind == "int" and not isinstance(number, int):
        raise ValueError(f"{text[:60]!r} is not an integer")
    return float(number) if isinstance(number, int) and kind == "float" else number


class _Holder:
    """The attributes of the present trace or event, and the first error in them."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.values: dict[str, Any] = {}
        self.error: tuple[str, str] | None = None

    def add(self, attribute: _Attribute) -> None:
        key = self.prefix + attribute.key
        try:
            if key in self.values:
                raise ValueError("occurs twice")
            self.values[key] = attribute.value()
        except ValueError as error:
            self.error = self.error or (key, str(error))


class _XesParser:
    """The push parser: takes bytes, gives rows."""

    def __init__(self, source: ByteSource, columns: Columns, file_format: FileFormat) -> None:
        self.within_log = False
        self.break_reason = ""
        self._source, self._columns = source, columns
        self._origin = Origin(source.name, "event", zone=file_format.zone)
        self._found: list[LogRow | RowProblem] = []
        self._count = 0
        self._fed = self._mark = 0
        self._scopes = [""]
        self._open: list[_Attribute] = []
        self._trace, self._event = _Holder("case:"), _Holder("")
        self._parser = expat.ParserCreate("UTF-8" if source.encoding else None)
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.StartDoctypeDeclHandler = self._doctype

    def drain(self) -> Iterator[LogRow | RowProblem]:
        """The rows since the last call."""
        found, self._found = self._found, []
        return iter(found)

    def advance(self) -> bool:
        """Parse the next bytes; False at the end, or where the file breaks off."""
        try:
            data = self._source.bytes.read1(BUFFER_BYTES)
            self._fed += len(data)
            self._parser.Parse(data, not data)
            if self._fed - self._mark > MAX_LINE_BYTES:
                raise _Unsupported(
                    f"has more than {MAX_LINE_BYTES} bytes without an event's begin or end"
                )
            return bool(data)
        except READ_ERRORS as error:
            self._break(f"the file breaks off: {self._source.describe_break(error)}")
        except expat.ExpatError as error:
            self._break(f"is not well-formed XML: {error}")
        except _Unsupported as error:
            self._break(str(error))
        return False

    def _break(self, reason: str) -> None:
        self.break_reason = reason
        self._found.append(RowProblem(self._origin, self._count + 1, "", reason))

    def _doctype(self, *_: object) -> None:
        raise _Unsupported("declares a document type (DTD), which is not read")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        tag = name.rpartition(":")[2]
        scope = self._scope(tag)
        self._scopes.append(scope)
        if scope == "attribute":
            key, text = attributes.get("key", ""), attributes.get("value")
            self._open.append(_Attribute(tag, key, text))
        elif scope == "event":
            self._mark = self._parser.CurrentByteIndex
            self._event = _Holder("")
            self._count += 1
        elif scope == "log":
            self.within_log = True

    def _scope(self, tag: str) -> str:
        parent = self._scopes[-1]
        if (parent, tag) in _SCOPES:
            return tag
        if tag in _KINDS and parent in ("trace", "event", "attribute", "values"):
            return "attribute"
        if tag in _ROWS:
            raise _Unsupported(f"has a <{tag}> within <{parent}>: {THE_END}")
        if parent == "":
            raise _Unsupported(f"its root element is <{tag}>, not <log>")
        return "values" if (parent, tag) == ("attribute", "values") else "other"

    def _end(self, _: str) -> None:
        scope = self._scopes.pop()
        if scope == "attribute":
            self._close(self._open.pop())
        elif scope == "event":
            self._mark = self._parser.CurrentByteIndex
            self._found.append(self._row())
        elif scope == "trace":
            self._trace = _Holder("case:")

    def _close(self, attribute: _Attribute) -> None:
        if self._scopes[-1] in ("attribute", "values"):
            self._nest(attribute)
        elif self._scopes[-1] == "event":
            self._event.add(attribute)
        else:
            self._trace.add(attribute)

    def _nest(self, attribute: _Attribute) -> None:
        holder = self._event if "event" in self._scopes else self._trace
        try:
            if len(self._open) >= MAX_DEPTH:
                raise ValueError(NESTED_TOO_DEEP)
            self._open[-1].children.append((attribute.key, attribute.value()))
        except ValueError as error:
            holder.error = holder.error or (f"{holder.prefix}{attribute.key}", str(error))

    def _row(self) -> LogRow | RowProblem:
        error = self._event.error or self._trace.error
        if error:
            return RowProblem(self._origin, self._count, *error)
        values = self._trace.values | self._event.values
        return to_row(self._origin, self._count, values, self._columns)
