"""Copies of values, so that what a team's code holds is nothing that a cache holds."""

from collections.abc import Callable
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

from eventfleet.topics.event import EventRecord

Copier = Callable[[Any], Any]

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
    if isinstance(value, msgspec.Struct):
        return copier(kind)(value)
    return deepcopy(value)


def copy_event(event: EventRecord) -> EventRecord:
    """Return an event whose payload is the caller's own."""
    return msgspec.structs.replace(event, data=copy_value(event.data))


def _make_copier(kind: Any) -> Copier:
    try:
        shape = inspect.type_info(kind)
    except (TypeError, NameError):
        return deepcopy
    return _copier(shape, frozenset())


copier: Callable[[Any], Copier] = lru_cache(maxsize=1024)(_make_copier)
"""Returns the function that copies values of a type: of an immutable one, the value itself."""


def keep(value: Any) -> Any:
    """Return the value itself: it is immutable."""
    return value


def _copier(shape: inspect.Type, outer: frozenset[type[Any]]) -> Copier:
    """Return the copier of a type within others, which a field may refer back to."""
    match shape:
        case inspect.Metadata(type=inner):
            return _copier(inner, outer)
        case inspect.StructType(cls=kind):
            return copy_value if kind in outer else _struct_copier(shape, outer | {kind})
        case inspect.TupleType(item_types=inner):
            return keep if _all_immutable(inner, outer) else copy_value
        case inspect.VarTupleType(item_type=each) | inspect.FrozenSetType(item_type=each):
            return keep if _all_immutable((each,), outer) else copy_value
        case inspect.UnionType(types=inner):
            return keep if _all_immutable(inner, outer) else copy_value
        case inspect.DictType(value_type=each):
            return _shallow(dict) if _all_immutable((each,), outer) else copy_value
        case inspect.ListType(item_type=each):
            return _shallow(list) if _all_immutable((each,), outer) else copy_value
        case inspect.SetType():
            return _shallow(set)
    return keep if isinstance(shape, IMMUTABLE_TYPES) else copy_value


def _all_immutable(shapes: tuple[inspect.Type, ...], outer: frozenset[type[Any]]) -> bool:
    return all(_copier(each, outer) is keep for each in shapes)


def _shallow(kind: type[Any]) -> Copier:
    """Return the copier of a container of immutable values."""

    def copied(value: Any) -> Any:
        return copy(value) if type(value) is kind else copy_value(value)

    return copied


def _struct_copier(shape: inspect.StructType, outer: frozenset[type[Any]]) -> Copier:
    copiers = {field.name: _copier(field.type, outer) for field in shape.fields}
    mutable = {name: each for name, each in copiers.items() if each is not keep}
    if not mutable and shape.cls.__struct_config__.frozen:
        return keep

    def copied(value: Any) -> Any:
        if type(value) is not shape.cls:
            return copy_value(value)
        made = copy(value)
        for name, copy_field in mutable.items():
            force_setattr(made, name, copy_field(getattr(value, name)))
        return made

    return copied


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
