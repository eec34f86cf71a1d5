"""EventShapes: the shapes of a domain's events, and which changes their stored payloads survive.

Stored payloads are never rewritten, so a class that changes within one schema version must read all
that the class before it wrote, and read it the same: only then no upcaster is needed.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import orjson
from msgspec import inspect

from eventfleet.model.domain import Domain
from eventfleet.model.errors import DeclarationError
from eventfleet.model.shapes import describe, digest
from eventfleet.topics.names import wire_name

MAX_SHAPES_PER_VERSION = 10
LOWER_BOUNDS = ("ge", "gt", "min_length")
UPPER_BOUNDS = ("le", "lt", "max_length")
CHECKS = ("pattern", "multiple_of")


class EventShape(NamedTuple):
    """The shape of an event type in a schema version; `shape` is its description, as JSON."""

    type: str
    schema_version: int
    shape: str


class ShapeUpdate(NamedTuple):
    """The comparison of a declaration with the recorded shapes.

    `shapes` are to be recorded, the newest of each event type and schema version last. `refused`
    says, line by line, which declared classes don't read what is stored; `older` which are as they
    were before the newest one.
    """

    shapes: list[EventShape]
    refused: list[str]
    older: list[str]


def declared_shapes(domain: Domain[Any]) -> list[EventShape]:
    """Return the shape of each declared event. DeclarationError: a field's type is unusable."""
    return [
        EventShape(name, domain.latest_schema_version(name), _shape(domain, kind))
        for name, kind in ((wire_name(kind), kind) for kind in domain.events)
    ]


def short_shapes(domain: Domain[Any]) -> list[EventShape]:
    """Return the same with short hashes in place of the descriptions."""
    return [each._replace(shape=digest(each.shape)) for each in declared_shapes(domain)]


def update_shapes(recorded: Sequence[EventShape], declared: Iterable[EventShape]) -> ShapeUpdate:
    """Compare the declared shapes with those that are recorded of the same schema versions.

    A shape that was recorded before the newest one is that of old code which was restored.
    """
    update = ShapeUpdate([*recorded], [], [])
    for shape in declared:
        before = [each for each in recorded if each[:2] == shape[:2]]
        if before and shape == before[-1]:
            continue
        named = f"event {shape.type}, schema version {shape.schema_version}"
        if shape in before:
            update.older.append(named)
        elif before and (changes := list(_changes_since(before[-1], shape))):
            update.refused.extend(f"{named}: {change}" for change in changes)
        else:
            update.shapes.append(shape)
            if len(before) == MAX_SHAPES_PER_VERSION:
                update.shapes.remove(before[0])
    return update


def without_events(recorded: Sequence[EventShape], declared: Sequence[EventShape]) -> ShapeUpdate:
    """Replace what is recorded of the declared schema versions: no event is stored."""
    versions = {shape[:2] for shape in declared}
    kept = [shape for shape in recorded if shape[:2] not in versions]
    return ShapeUpdate([*kept, *declared], [], [])


def _shape(domain: Domain[Any], kind: type[msgspec.Struct]) -> str:
    try:
        description = describe(inspect.type_info(kind))
    except (NameError, TypeError) as error:
        reason = f"domain {domain.name}: event {kind.__name__} can't be described: {error}"
        raise DeclarationError(reason) from None
    return orjson.dumps(description, option=orjson.OPT_SORT_KEYS).decode()


# Which changes stored payloads survive


def _changes_since(recorded: EventShape, declared: EventShape) -> Iterator[str]:
    return find_changes(orjson.loads(recorded.shape), orjson.loads(declared.shape))


def find_changes(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Say, change by change, why payloads of the old shape are not read, or read otherwise."""
    if old == new:
        return
    if _has_named_fields(old) and _has_named_fields(new):
        yield from _field_changes(old, new, path)
    elif not _accepts(old, new):
        yield f"field `{path}` has another type"


def _has_named_fields(shape: Any) -> bool:
    by_name = isinstance(shape, dict) and "fields" in shape and not shape.get("array_like")
    return by_name and shape["kind"] != "NamedTupleType"


def _field_changes(old: Any, new: Any, path: str) -> Iterator[str]:
    before, after = ({field["name"]: field for field in each["fields"]} for each in (old, new))
    prefix = f"{path}." if path else ""
    if any(old.get(key) != new.get(key) for key in ("kind", "tag", "tag_field")):
        yield f"{f'field `{path}`' if path else 'the payload'} has another tag, or kind"
    for name in sorted(before.keys() - after.keys()):
        yield f"field `{prefix}{name}` is gone, or was renamed"
    for name in sorted(after.keys() - before.keys()):
        if "required" in after[name]:
            yield f"field `{prefix}{name}` is new and has no default"
    for name in sorted(before.keys() & after.keys()):
        yield from _changes_of(before[name], after[name], f"{prefix}{name}")


def _changes_of(before: Any, after: Any, path: str) -> Iterator[str]:
    """Compare a field; a payload without it has its default."""
    if "required" not in before and "required" in after:
        yield f"field `{path}` no longer has a default"
    elif "required" not in before and before.get("default") != after.get("default"):
        yield f"field `{path}` has another default"
    yield from find_changes(before["type"], after["type"], path)


def _accepts(old: Any, new: Any) -> bool:
    """Check that every value of the old type is one of the new type, and means the same."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return bool(old == new)
    if "union" in old or "union" in new:
        wider = new.get("union", [new])
        members = old.get("union", [old])
        return all(any(_reads(member, other) for other in wider) for member in members)
    for key in ("enum", "literal"):
        if key in old and key in new:
            return all(value in new[key] for value in old[key])
    return all(_accepts_part(key, old.get(key), new.get(key)) for key in old.keys() | new.keys())


def _accepts_part(key: str, old: Any, new: Any) -> bool:
    if key in (*LOWER_BOUNDS, *UPPER_BOUNDS, *CHECKS) and (new is None or old is None):
        return new is None
    if key in LOWER_BOUNDS:
        return bool(new <= old)
    if key in UPPER_BOUNDS:
        return bool(new >= old)
    if isinstance(old, list) and isinstance(new, list) and key == "item_types":
        return len(old) == len(new) and all(map(_reads, old, new))
    return _reads(old, new) if isinstance(old, dict) else bool(old == new)


def _reads(old: Any, new: Any) -> bool:
    return not any(find_changes(old, new))
