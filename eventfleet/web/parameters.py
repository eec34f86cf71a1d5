"""The query parameters of each operation, parsed and checked."""

from collections import defaultdict
from functools import cache
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import UNSET, Meta, UnsetType, inspect
from starlette.requests import Request

from eventfleet.stores.contracts import Stage
from eventfleet.topics.codec import to_invalid_record
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import Identifier, Instant
from eventfleet.topics.values import check_identifier, read_integer, require_text
from eventfleet.web.bodies import ReadVersion, Version
from eventfleet.web.problems import invalid

P = TypeVar("P", bound="QueryParameters")

MAX_PAGE_ITEMS, DEFAULT_PAGE_ITEMS = 1_000, 100
MAX_CURSOR_CHARACTERS = 40_000

Limit = Annotated[int, Meta(ge=1, le=MAX_PAGE_ITEMS)]
Condition = Annotated[str, Meta(min_length=1, max_length=1_000)]
Cursor = Annotated[str, Meta(max_length=MAX_CURSOR_CHARACTERS, pattern=r"^[A-Za-z0-9_-]*\Z")]


class QueryParameters(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Base of an operation's query parameters; by itself: none."""


class SendParameters(QueryParameters):
    wait: Stage | UnsetType = UNSET


class EventsParameters(QueryParameters):
    after: ReadVersion = 0
    limit: Limit | UnsetType = UNSET
    types: list[Identifier] = []
    cursor: Cursor | UnsetType = UNSET


class StateParameters(QueryParameters):
    version: Version | UnsetType = UNSET
    at: Instant | UnsetType = UNSET


class DiffParameters(QueryParameters):
    first: ReadVersion
    second: ReadVersion


class MissingParameters(QueryParameters):
    after: ReadVersion
    limit: Limit = DEFAULT_PAGE_ITEMS


class PageParameters(QueryParameters, rename={"start": "from"}):
    start: Cursor = ""
    limit: Limit = DEFAULT_PAGE_ITEMS


class FeedParameters(PageParameters):
    types: list[Identifier] = []
    aggregates: list[Identifier] = []
    cursor: Cursor | UnsetType = UNSET


class DeadLettersParameters(PageParameters):
    role: Condition | UnsetType = UNSET
    aggregate: Identifier | UnsetType = UNSET
    reason: Condition | UnsetType = UNSET


ROWS_PARAMETERS = ("order", "from", "limit")


class RowsParameters(PageParameters):
    """ROWS_PARAMETERS; all others are filters."""

    order: Condition | UnsetType = UNSET
    filters: dict[str, str] = {}


NAME_PARAMETERS = ("types", "aggregate", "aggregates")
"""The parameters that are ids or names."""

LIST_PARAMETERS: dict[type[QueryParameters], set[str]] = {
    EventsParameters: {"types"},
    FeedParameters: {"types", "aggregates"},
}
"""The parameters that may be repeated."""


def query_parameters(request: Request, kind: type[P]) -> P:
    """Parses the query string. RequestRefused: a parameter is unknown, repeated or invalid."""
    query: bytes = request.scope["query_string"]
    return _parse(query.decode(errors="surrogateescape"), kind) if query else _convert({}, kind)


def _parse(query: str, kind: type[P]) -> P:
    values_by_name: dict[str, list[str]] = defaultdict(list)
    for name, value in parse_qsl(query, keep_blank_values=True, errors="surrogateescape"):
        try:
            values_by_name[require_text(name, "query")].append(require_text(value, name))
        except InvalidRecord as error:
            raise invalid(error.field, error.reason) from None
    lists = LIST_PARAMETERS.get(kind, ())
    for name, values in values_by_name.items():
        if len(values) > 1 and name not in lists:
            raise invalid(name, "is given more than once")
    numbers = _number_names(kind)
    plain = {
        name: read if name in lists else read[0]
        for name, values in values_by_name.items()
        if (read := [_read(name, value, name in numbers) for value in values])
    }
    return _convert(_with_filters(plain) if kind is RowsParameters else plain, kind)


def _with_filters(values: dict[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in values.items() if name in ROWS_PARAMETERS}
    return own | {"filters": {name: values[name] for name in values if name not in own}}


@cache
def _number_names(kind: type[QueryParameters]) -> set[str]:
    """Returns the parameters whose values are integers."""
    shape = inspect.type_info(kind)
    assert isinstance(shape, inspect.StructType)
    return {field.encode_name for field in shape.fields if _is_number(field.type)}


def _is_number(kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.UnionType):
        return any(map(_is_number, kind.types))
    return isinstance(kind, inspect.IntType)


def _read(name: str, text: str, is_number: bool) -> int | str:
    try:
        if name in NAME_PARAMETERS and text:
            check_identifier(text)
        return read_integer(text) if is_number else text
    except ValueError as error:
        raise invalid(name, str(error)) from None


def _convert(values: dict[str, Any], kind: type[P]) -> P:
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        wrong = to_invalid_record(error)
        raise invalid(wrong.field, wrong.reason) from None
