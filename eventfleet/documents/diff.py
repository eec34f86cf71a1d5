"""Diff: what one change made of a document, as RFC 7396 and RFC 6902 patches."""

from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum
from typing import Any

import jsonpatch
import msgspec
import orjson
from jsonpatch import JsonPatchException, JsonPointerException

Json = dict[str, Any]

MAX_LIST_PATCH_SHARE = 0.25
"""A patch of a list that is larger than this share of the new list replaces the list instead."""


class ChangeOperation(StrEnum):
    """The operation of a change: create, update or delete."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """The difference that a change made, between documents as JSON, without id and version.

    `merge_patch` is a JSON Merge Patch (RFC 7396), made for reading: it can't tell a field that is
    null from one that is absent. `json_patch` (RFC 6902) is exact. A new document differs from {}.
    A deleted one has empty patches, and neither `is_new` nor `has_changes`.
    """

    version: int
    is_new: bool = False
    is_deleted: bool = False
    has_changes: bool = False
    merge_patch: Json = {}
    json_patch: list[Json] = []

    @property
    def operation(self) -> ChangeOperation:
        """The operation that made the difference."""
        if self.is_deleted:
            return ChangeOperation.DELETE
        return ChangeOperation.CREATE if self.is_new else ChangeOperation.UPDATE


def make_diff(before: Json | None, after: Json | None, version: int) -> Diff:
    """Compare a document before and after a change to `version`; None stands for no document."""
    if after is None:
        return Diff(version=version, is_deleted=True)
    patch = make_json_patch(before or {}, after)
    return Diff(
        version=version,
        is_new=before is None,
        has_changes=before is None or bool(patch),
        merge_patch=make_merge_patch(before or {}, after),
        json_patch=patch,
    )


def make_json_patch(before: Json, after: Json) -> list[Json]:
    """Return a JSON Patch that turns `before` into `after`, tried on `before`.

    It moves and copies nothing between fields, so that each value lies at its own path.
    """
    patch = _patch(before, after, "")
    with suppress(JsonPatchException, JsonPointerException):
        copy = orjson.loads(orjson.dumps(before))
        if are_same(jsonpatch.apply_patch(copy, patch, in_place=True), after):
            return patch
    return [{"op": "replace", "path": "", "value": after}]


def make_merge_patch(before: Json, after: Json) -> Json:
    """Return the JSON Merge Patch (RFC 7396, section 2) that turns `before` into `after`.

    No kept library tells 1 from true and 1.0, as the exact patch beside it does.
    """
    patch: Json = dict.fromkeys(before.keys() - after.keys())
    for name, value in after.items():
        known = before.get(name)
        if isinstance(value, dict) and isinstance(known, dict):
            if inner := make_merge_patch(known, value):
                patch[name] = inner
        elif name not in before or not are_same(known, value):
            patch[name] = value
    return patch


def are_same(one: Any, other: Any) -> bool:
    """Compare JSON values, and tell 1 from true and from 1.0, which Python takes for equal."""
    sort = orjson.OPT_SORT_KEYS
    return one == other and orjson.dumps(one, option=sort) == orjson.dumps(other, option=sort)


def apply_diff(before: Json | None, diff: Diff) -> Json | None:
    """Return the document after a change; None where the change deleted it.

    A patch that earlier releases made of more fields than were stored does not apply: its merge
    patch does.
    """
    if diff.is_deleted:
        return None
    start = {} if diff.is_new else before or {}
    try:
        after: Json = jsonpatch.apply_patch(start, diff.json_patch)
    except (JsonPatchException, JsonPointerException):
        if not diff.merge_patch:
            raise
        return apply_merge_patch(start, diff.merge_patch)
    return after


def apply_merge_patch(before: Json, patch: Json) -> Json:
    """Return a document after a JSON Merge Patch (RFC 7396, section 2)."""
    after = {name: value for name, value in before.items() if name not in patch}
    for name, value in patch.items():
        known = before.get(name)
        if isinstance(value, dict):
            after[name] = apply_merge_patch(known if isinstance(known, dict) else {}, value)
        elif value is not None:
            after[name] = value
    return after


def _patch(before: Any, after: Any, path: str) -> list[Json]:
    """Return the patch of one value at a path, a JSON Pointer (RFC 6901)."""
    if isinstance(before, dict) and isinstance(after, dict):
        paths = {n: f"{path}/{n.replace('~', '~0').replace('/', '~1')}" for n in before | after}
        patch = [{"op": "remove", "path": paths[name]} for name in before if name not in after]
        for name, value in after.items():
            if name in before:
                patch += _patch(before[name], value, paths[name])
            else:
                patch.append({"op": "add", "path": paths[name], "value": value})
        return patch
    if are_same(before, after):
        return []
    if isinstance(before, list) and isinstance(after, list):
        return _list_patch(before, after, path)
    return [{"op": "replace", "path": path, "value": after}]


def _list_patch(before: list[Any], after: list[Any], path: str) -> list[Json]:
    """Return the patch of a list's elements, unless the whole list is hardly more to store."""
    patch, size = [], 0
    most = MAX_LIST_PATCH_SHARE * len(orjson.dumps(after))
    for operation in _element_patches(before, after, path):
        patch.append(operation)
        size += len(orjson.dumps(operation))
        if size > most:
            return [{"op": "replace", "path": path, "value": after}]
    return patch


def _element_patches(before: list[Any], after: list[Any], path: str) -> Iterator[Json]:
    start = _common_length(before, after)
    end = _common_length(before[start:][::-1], after[start:][::-1])
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    for index in reversed(range(len(new), len(old))):
        yield {"op": "remove", "path": f"{path}/{start + index}"}
    for index, (one, other) in enumerate(zip(old, new, strict=False), start):
        yield from _patch(one, other, f"{path}/{index}")
    for index in range(len(old), len(new)):
        yield {"op": "add", "path": f"{path}/{start + index}", "value": new[index]}


def _common_length(one: list[Any], other: list[Any]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    shorter = min(len(one), len(other))
    return next((index for index, pair in pairs if not are_same(*pair)), shorter)
