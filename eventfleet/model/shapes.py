"""Describes the shapes of payload classes: fields, nested types and defaults.

A description is plain JSON values, the same in every process and run. Names of classes, docstrings
and the metadata of types are no part of it; neither is the order of fields or of a union's members.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import orjson
from msgspec import inspect

FINGERPRINT_DIGITS = 16
ORDERED = (inspect.NamedTupleType,)
"""The types, beside `array_like` structs, whose fields are stored by place and not by name."""


class StateShape(NamedTuple):
    """The state version and the fingerprint of a domain's State: what snapshots are found by."""

    version: int
    fingerprint: str


def fingerprint(kind: type[Any]) -> str:
    """Return a short hash of a class's shape. TypeError or NameError: a type is unusable."""
    return digest(describe(inspect.type_info(kind)))


def digest(description: Any) -> str:
    """Return a short hash of a description."""
    encoded = orjson.dumps(description, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(encoded).hexdigest()[:FINGERPRINT_DIGITS]


def describe(kind: Any, enclosing: Sequence[Any] = ()) -> Any:
    """Describe a type that msgspec has inspected; `enclosing` are the types that it is part of.

    A recursive type is described by the number of types up to itself.
    """
    levels = [outer is kind for outer in reversed(enclosing)]
    if any(levels):
        return {"enclosing": levels.index(True)}
    within = (*enclosing, kind)
    match kind:
        case inspect.Metadata():
            return describe(kind.type, enclosing)
        case inspect.UnionType():
            members = [describe(member, within) for member in kind.types]
            return {"union": sorted(members, key=_canonical)}
        case inspect.EnumType():
            return {"enum": sorted([m.name, _plain(m.value)] for m in kind.cls)}
        case inspect.LiteralType():
            return {"literal": sorted(kind.values, key=_canonical)}
        case inspect.CustomType() | inspect.ExtType():
            return {"custom": _full_name(getattr(kind, "cls", inspect.ExtType))}
    given = {name: getattr(kind, name) for name in kind.__struct_fields__}
    parts = {
        name: _part(value, within)
        for name, value in given.items()
        if value is not None and name not in ("cls", "fields")
    }
    if hasattr(kind, "fields"):
        parts["fields"] = _fields(kind, within)
    return {"kind": type(kind).__name__, **parts}


def _fields(kind: Any, within: Sequence[Any]) -> list[Any]:
    fields = [_field(field, within) for field in kind.fields]
    by_place = isinstance(kind, ORDERED) or getattr(kind, "array_like", False)
    return fields if by_place else sorted(fields, key=_canonical)


def _field(field: inspect.Field, within: Sequence[Any]) -> dict[str, Any]:
    described = {"name": field.encode_name, "type": describe(field.type, within)}
    if field.default is not msgspec.NODEFAULT:
        described["default"] = _plain(field.default)
    elif field.default_factory is not msgspec.NODEFAULT:
        described["default"] = _made(field.default_factory)
    return described | ({"required": True} if field.required else {})


def _part(value: Any, within: Sequence[Any]) -> Any:
    if isinstance(value, inspect.Type):
        return describe(value, within)
    if isinstance(value, tuple):
        return [_part(each, within) for each in value]
    return value


def _made(factory: Callable[[], Any]) -> Any:
    """The value that a factory makes; its name where it makes another one each time."""
    first, second = _plain(factory()), _plain(factory())
    return first if first == second else {"factory": _full_name(factory)}


def _plain(value: Any) -> Any:
    """A value as plain JSON values; its class's name where it has none."""
    try:
        plain = msgspec.to_builtins(value, str_keys=True, order="deterministic")
        orjson.dumps(plain)
    except TypeError:
        return {"custom": _full_name(type(value))}
    return plain


def _full_name(of: Any) -> str:
    named = of if hasattr(of, "__qualname__") else type(of)
    return f"{named.__module__}.{named.__qualname__}"


def _canonical(description: Any) -> bytes:
    return orjson.dumps(description, option=orjson.OPT_SORT_KEYS)
