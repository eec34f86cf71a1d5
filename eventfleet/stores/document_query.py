"""DocumentQuery: a filter and an order of documents, for stores that look at each one."""

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from eventfleet.stores.contracts.documents import StoredDocument
from eventfleet.stores.errors import Misconfigured

ID = "_id"
KINDS: tuple[type[Any] | tuple[type[Any], ...], ...] = (
    *(type(None), (int, float), str, dict, list, bytes, bool, datetime),
)
"""Values of one kind are compared; those of different kinds are in this order."""


class DocumentQuery:
    """Equality and the comparison operators of MongoDB, on fields and on fields of fields.

    Misconfigured: the filter has another operator.
    """

    def __init__(
        self, version_field: str, where: Mapping[str, Any], sort: Sequence[tuple[str, int]]
    ) -> None:
        self._version_field, self._where = version_field, where
        self._sort = list(sort) or [(ID, 1)]
        operators = {name for name in where if name.startswith("$")}
        operators |= {
            name for wanted in where.values() if _is_comparison(wanted) for name in wanted
        }
        if unknown := operators - COMPARISONS.keys():
            raise Misconfigured(
                f"the filter has {', '.join(sorted(unknown))}: this store knows equality and"
                f" {', '.join(COMPARISONS)}"
            )

    @property
    def ids(self) -> list[Any] | None:
        """The ids that the filter asks for; None: any."""
        wanted: Any = self._where.get(ID)
        if not _is_comparison(wanted):
            return None if wanted is None else [wanted]
        if "$eq" in wanted:
            return [wanted["$eq"]]
        return list(wanted["$in"]) if "$in" in wanted else None

    def matches(self, document: StoredDocument) -> bool:
        """Return whether a document matches; a tombstone does not."""
        return document.fields is not None and all(
            _matches(self._value(document, name), wanted) for name, wanted in self._where.items()
        )

    def sorted(self, documents: Iterable[StoredDocument]) -> list[StoredDocument]:
        """Return documents in order."""
        found = list(documents)
        for name, direction in reversed(self._sort):
            found.sort(key=lambda each: _order(self._value(each, name)), reverse=direction < 0)
        return found

    def _value(self, document: StoredDocument, name: str) -> Any:
        own = {ID: document.id, self._version_field: document.version}
        value: Any = {**(document.fields or {}), **own}
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value


def _kind(value: Any) -> int:
    if isinstance(value, bool):
        return KINDS.index(bool)
    return next((n for n, kind in enumerate(KINDS) if isinstance(value, kind)), len(KINDS))


def _order(value: Any) -> tuple[int, str, Any]:
    kind = _kind(value)
    if value is None or isinstance(value, dict | list):
        return kind, "", repr(value)
    return kind, "" if kind < len(KINDS) else type(value).__name__, value


def _is_comparison(wanted: Any) -> bool:
    return isinstance(wanted, dict) and any(name.startswith("$") for name in wanted)


def _matches(value: Any, wanted: Any) -> bool:
    if not _is_comparison(wanted):
        return bool(value == wanted)
    return all(COMPARISONS[name](value, operand) for name, operand in wanted.items())


def _compared(holds: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(value: Any, wanted: Any) -> bool:
        return value is not None and _kind(value) == _kind(wanted) and bool(holds(value, wanted))

    return compare


COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": operator.eq,
    "$ne": operator.ne,
    "$gt": _compared(operator.gt),
    "$gte": _compared(operator.ge),
    "$lt": _compared(operator.lt),
    "$lte": _compared(operator.le),
    "$in": lambda value, wanted: value in wanted,
    "$exists": lambda value, wanted: (value is not None) == wanted,
    "$regex": lambda value, wanted: isinstance(value, str) and bool(re.search(wanted, value)),
}
