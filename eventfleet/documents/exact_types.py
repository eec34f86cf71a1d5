"""The values that a type of documents may hold: some read back otherwise than encoded."""

from typing import Any

from msgspec import inspect

INEXACT_TYPES = (
    *(inspect.FloatType, inspect.SetType, inspect.FrozenSetType, inspect.CustomType),
    *(inspect.DecimalType, inspect.TimeType, inspect.TimeDeltaType, inspect.RawType),
)
"""A whole number may stand in a field of floats; a set has no order; and values of the others have
several texts."""


TIME_TYPES = (inspect.DateTimeType, inspect.AnyType, inspect.CustomType, inspect.RawType)


def may_hold(kind: Any, types: tuple[type[inspect.Type], ...]) -> bool:
    """Return whether a value of a type may hold one of these types.

    A model of pydantic's, or a class with `__post_init__`, may make anything of its fields.
    """
    return hasattr(kind, "model_fields") or _may_hold(inspect.type_info(kind), types, set())


def _may_hold(shape: Any, types: tuple[type[inspect.Type], ...], seen: set[Any]) -> bool:
    if isinstance(shape, tuple):
        return any(_may_hold(each, types, seen) for each in shape)
    if isinstance(shape, inspect.Field):
        return _may_hold(shape.type, types, seen)
    if not isinstance(shape, inspect.Type):
        return False
    kind = getattr(shape, "cls", None)
    if isinstance(shape, types) or hasattr(kind, "__post_init__"):
        return True
    if kind in seen or isinstance(shape, inspect.EnumType):
        return False
    seen.add(kind) if kind else None
    return any(_may_hold(getattr(shape, name), types, seen) for name in shape.__struct_fields__)
