"""Copies of values, so that what a team's code holds is nothing that a cache holds."""

from collections.abc import Iterable
from copy import copy, deepcopy
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec
from msgspec import inspect
from msgspec.structs import force_setattr

ATOMS = frozenset(
    {str, int, float, bool, type(None), bytes, datetime, date, time, timedelta, UUID, Decimal}
)
IMMUTABLE_TYPES = (
    *(inspect.StrType, inspect.IntType, inspect.FloatType, inspect.BoolType, inspect.NoneType),
    *(inspect.BytesType, inspect.DateTimeType, inspect.DateType, inspect.TimeType),
    *(inspect.TimeDeltaType, inspect.UUIDType, inspect.DecimalType, inspect.EnumType),
    inspect.LiteralType,
)


def copy_value(value: Any) -> Any:
    """Return a value that shares nothing mutable with this one."""
    kind: Any = type(value)
    if kind in ATOMS:
        return value
    if kind is dict:
        return {key: copy_value(inner) for key, inner in value.items()}
    if kind is list:
        return [copy_value(inner) for inner in value]
    if not isinstance(value, msgspec.Struct):
        return deepcopy(value)
    if (fields := mutable_fields(kind)) is None:
        return value
    copied = copy(value)
    for name, container in fields:
        inner = getattr(value, name)
        force_setattr(copied, name, inner.copy() if type(inner) is container else copy_value(inner))
    return copied


@lru_cache(maxsize=1024)
def mutable_fields(kind: type[msgspec.Struct]) -> tuple[tuple[str, type[Any] | None], ...] | None:
    """Return the fields of a type that may hold something mutable; None: it is immutable itself.

    With a field comes the type of the container that it declares, if its elements are immutable.
    """
    try:
        shape: Any = inspect.type_info(kind)
    except (TypeError, NameError):
        return tuple((name, None) for name in kind.__struct_fields__)
    outer = frozenset({kind})
    fields = [field for field in shape.fields if not _is_immutable(field.type, outer)]
    if not fields and kind.__struct_config__.frozen:
        return None
    return tuple((field.name, _flat_container(field.type)) for field in fields)


def _is_immutable(shape: inspect.Type, outer: frozenset[type[Any]]) -> bool:
    """Return whether a type within others, which a field may refer back to, is immutable."""
    match shape:
        case inspect.StructType(cls=kind):
            inner = [field.type for field in shape.fields]
            is_frozen = kind.__struct_config__.frozen and kind not in outer
            return is_frozen and _are_immutable(inner, outer | {kind})
        case inspect.TupleType(item_types=inner) | inspect.UnionType(types=inner):
            return _are_immutable(inner, outer)
        case inspect.VarTupleType(item_type=each) | inspect.FrozenSetType(item_type=each):
            return _is_immutable(each, outer)
        case inspect.Metadata(type=each):
            return _is_immutable(each, outer)
    return isinstance(shape, IMMUTABLE_TYPES)


def _are_immutable(shapes: Iterable[inspect.Type], outer: frozenset[type[Any]]) -> bool:
    return all(_is_immutable(each, outer) for each in shapes)


def _flat_container(shape: inspect.Type) -> type[Any] | None:
    match shape:
        case inspect.DictType(value_type=each) if _is_immutable(each, frozenset()):
            return dict
        case inspect.ListType(item_type=each) if _is_immutable(each, frozenset()):
            return list
        case inspect.SetType():
            return set
        case inspect.Metadata(type=each):
            return _flat_container(each)
    return None


def has_shared_defaults(kind: Any) -> bool:
    """Return whether instances of a type, or of those in it, may share a mutable default."""
    if hasattr(kind, "model_fields"):
        return not all(_is_atom(field.default) for field in kind.model_fields.values())
    return _shares_defaults(inspect.type_info(kind), set())


def _shares_defaults(shape: Any, seen: set[Any]) -> bool:
    if isinstance(shape, inspect.Type):
        kind = getattr(shape, "cls", None)
        if kind in seen:
            return False
        seen.add(kind) if kind else None
        inner = [getattr(shape, name) for name in shape.__struct_fields__]
        return any(_shares_defaults(each, seen) for each in inner)
    if isinstance(shape, inspect.Field):
        return not _is_atom(shape.default) or _shares_defaults(shape.type, seen)
    if isinstance(shape, tuple):
        return any(_shares_defaults(each, seen) for each in shape)
    return False


def _is_atom(value: Any) -> bool:
    if isinstance(value, tuple | frozenset):
        return all(map(_is_atom, value))
    undefined = value is msgspec.NODEFAULT or type(value).__name__ == "PydanticUndefinedType"
    return undefined or type(value) in ATOMS or isinstance(value, Enum)
