"""Checks the classes of views' rows when a domain is declared."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import inspect

UNORDERED = {
    inspect.DecimalType: "Decimal: keep an int of the smallest unit, or a str",
    inspect.TimeDeltaType: "timedelta: keep an int of seconds",
}
"""Types whose texts do not sort as they do; inside of other values they may be."""

UNSTORABLE = (inspect.CustomType, inspect.ExtType, inspect.RawType)


def find_row_fault(row: type[msgspec.Struct]) -> str:
    """Return the first reason why stores can't keep rows of a class, or nothing."""
    try:
        shape = inspect.type_info(row)
    except (NameError, TypeError) as error:
        return f"rows of {row.__name__} can't be stored: {error}"
    assert isinstance(shape, inspect.StructType)
    for option in ("array_like", "omit_defaults"):
        if getattr(row.__struct_config__, option):
            return f"{row.__name__} must not have {option}=True: queries find fields by name"
    for field in shape.fields:
        if field.encode_name != field.name:
            return f"{row.__name__}.{field.name} is renamed to {field.encode_name!r}: drop `rename`"
        if fault := _find_field_fault(field.type):
            return f"{row.__name__}.{field.name} can't be stored: {fault}"
    return ""


def _find_field_fault(kind: inspect.Type) -> str:
    kind = kind.type if isinstance(kind, inspect.Metadata) else kind
    members: Sequence[Any] = kind.types if isinstance(kind, inspect.UnionType) else [kind]
    for member in members:
        if reason := UNORDERED.get(type(member)):
            return f"no query could order by a {reason}"
    return _find_unstorable(kind, [])


def _find_unstorable(kind: Any, enclosing: list[Any]) -> str:
    if any(kind is outer for outer in enclosing):
        return ""
    if isinstance(kind, UNSTORABLE):
        named = getattr(kind, "cls", type(kind))
        return f"{named.__name__} is no type that JSON can hold"
    faults = (_find_unstorable(inner, [*enclosing, kind]) for inner in inner_types(kind))
    return next(filter(None, faults), "")


def inner_types(kind: Any) -> list[Any]:
    """Return the types that a type is made of: its members, or those of its fields and items."""
    match kind:
        case inspect.Metadata():
            return [kind.type]
        case inspect.UnionType():
            return [*kind.types]
        case inspect.DictType():
            return [kind.key_type, kind.value_type]
        case inspect.TupleType():
            return [*kind.item_types]
    if hasattr(kind, "fields"):
        return [field.type for field in kind.fields]
    return [kind.item_type] if hasattr(kind, "item_type") else []
