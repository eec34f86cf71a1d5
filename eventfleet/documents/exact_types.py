"""Which types of documents read back exactly as they are encoded."""

from typing import Any

from msgspec import inspect

INEXACT_TYPES = (
    *(inspect.FloatType, inspect.SetType, inspect.FrozenSetType, inspect.CustomType),
    *(inspect.DecimalType, inspect.TimeType, inspect.TimeDeltaType, inspect.RawType),
)
"""A whole number may stand in a field of floats; a set has no order; and values of the others have
several texts."""


def is_exact(kind: Any) -> bool:
    """Return whether what is encoded of a type is the same once it was decoded and encoded again.

    A model of pydantic's, or a class with `__post_init__`, may make anything of its fields.
    """
    return not hasattr(kind, "model_fields") and _is_exact(inspect.type_info(kind), set())


def _is_exact(shape: Any, seen: set[Any]) -> bool:
    if isinstance(shape, tuple):
        return all(_is_exact(each, seen) for each in shape)
    if isinstance(shape, inspect.Field):
        return _is_exact(shape.type, seen)
    if not isinstance(shape, inspect.Type):
        return True
    kind = getattr(shape, "cls", None)
    if isinstance(shape, INEXACT_TYPES) or hasattr(kind, "__post_init__"):
        return False
    if kind in seen or isinstance(shape, inspect.EnumType):
        return True
    seen.add(kind) if kind else None
    return all(_is_exact(getattr(shape, name), seen) for name in shape.__struct_fields__)
