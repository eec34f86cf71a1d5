"""What the fields of a payload's class promise, so that not every payload has to be looked at."""

import msgspec
from msgspec import inspect

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


def has_same_schema(one: type[msgspec.Struct], other: type[msgspec.Struct]) -> bool:
    """Whether what fits the first, written as JSON, fits the second and reads the same there."""
    shape, expected = _shape(one), _shape(other)
    layout = (shape.tag_field, shape.tag, shape.array_like)
    same = layout == (expected.tag_field, expected.tag, expected.array_like)
    return same and shape.fields == expected.fields and not _checks_more(other)


def is_storable(payload: type[msgspec.Struct]) -> bool:
    """Whether every store can keep all that fits this class: texts, and numbers with bounds."""
    shape = _shape(payload)
    fits = all(_storable(field.type) for field in shape.fields)
    return fits and not (shape.array_like or _checks_more(payload))


def _storable(kind: inspect.Type) -> bool:
    match kind:
        case inspect.StrType() | inspect.BoolType() | inspect.NoneType():
            return True
        case inspect.IntType(ge=int(least), le=int(most)):
            return least >= INT64_MIN and most <= INT64_MAX
        case inspect.UnionType(types=types):
            return all(map(_storable, types))
    return False


def _shape(kind: type[msgspec.Struct]) -> inspect.StructType:
    shape = inspect.type_info(kind)
    assert isinstance(shape, inspect.StructType)
    return shape


def _checks_more(kind: type[msgspec.Struct]) -> bool:
    return hasattr(kind, "__post_init__")
