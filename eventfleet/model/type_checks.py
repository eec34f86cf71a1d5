"""Checks of payload classes that save the check of every single payload."""

from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


def has_same_schema(payload: type[msgspec.Struct], other: type[msgspec.Struct]) -> bool:
    """Return whether JSON valid for `payload` is valid for `other`, and reads the same there."""
    shape, expected = _shape(payload), _shape(other)
    layout = (shape.tag_field, shape.tag, shape.array_like)
    same = layout == (expected.tag_field, expected.tag, expected.array_like)
    return same and shape.fields == expected.fields and not _has_own_check(other)


def is_storable(payload: type[msgspec.Struct], *, bounded: bool = False) -> bool:
    """Return whether every store can keep all valid payloads: of texts, times, which are texts in
    JSON, and numbers with bounds, or any integers where they are `bounded` otherwise."""
    shape = _shape(payload)
    storable = all(_is_storable_type(field.type, bounded) for field in shape.fields)
    return storable and not (shape.array_like or _has_own_check(payload))


JSON_KINDS: dict[type[inspect.Type], str] = {
    **dict.fromkeys((inspect.StrType, inspect.DateTimeType, inspect.DateType), "a text"),
    **dict.fromkeys((inspect.TimeType, inspect.UUIDType, inspect.BytesType), "a text"),
    **dict.fromkeys((inspect.IntType, inspect.FloatType), "a number"),
    **dict.fromkeys((inspect.ListType, inspect.VarTupleType, inspect.TupleType), "a list"),
    **dict.fromkeys((inspect.SetType, inspect.FrozenSetType), "a list"),
    inspect.BoolType: "a truth value",
    inspect.NoneType: "null",
    inspect.DictType: "an object",
}


def json_kinds(annotation: Any) -> set[str]:
    """Return what values of a type are in JSON; nothing where that can be anything."""
    kind = inspect.type_info(annotation)
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    kinds = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    found = {JSON_KINDS.get(type(each), "") for each in kinds}
    return set() if "" in found else found


@cache
def number_fields(payload: type[msgspec.Struct], *kinds: type[inspect.Type]) -> frozenset[str]:
    """Return the fields of one of these kinds, by default of any number, or null."""
    kinds = kinds or (inspect.IntType, inspect.FloatType, inspect.DecimalType)
    return frozenset(f.encode_name for f in _shape(payload).fields if _is_one_of(f.type, kinds))


def _is_one_of(kind: inspect.Type, kinds: tuple[type[inspect.Type], ...]) -> bool:
    if isinstance(kind, inspect.UnionType):
        others = [each for each in kind.types if not isinstance(each, inspect.NoneType)]
        return all(_is_one_of(each, kinds) for each in others)
    return isinstance(kind, kinds)


def _is_storable_type(kind: inspect.Type, bounded: bool) -> bool:
    match kind:
        case inspect.StrType() | inspect.DateTimeType() | inspect.BoolType() | inspect.NoneType():
            return True
        case inspect.IntType() if bounded:
            return True
        case inspect.IntType(ge=int(least), le=int(most)):
            return least >= INT64_MIN and most <= INT64_MAX
        case inspect.UnionType(types=types):
            return all(_is_storable_type(each, bounded) for each in types)
    return False


def _shape(kind: type[msgspec.Struct]) -> inspect.StructType:
    shape = inspect.type_info(kind)
    assert isinstance(shape, inspect.StructType)
    return shape


def _has_own_check(kind: type[msgspec.Struct]) -> bool:
    return hasattr(kind, "__post_init__")
