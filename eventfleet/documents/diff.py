"""Diff: what one change made of a document, as RFC 7396 and RFC 6902 patches."""

from contextlib import suppress
from enum import StrEnum
from typing import Any, NamedTuple

import jsonpatch
import msgspec
import orjson
from jsonpatch import JsonPatchException, JsonPointerException
from msgspec.structs import replace

Json = dict[str, Any]

ROOT = ""
MIN_OPERATION_BYTES = 27
"""Those of the removal of an element."""
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


class MadeDiff(NamedTuple):
    """The difference between two documents: whole, and as it is stored (see `stored_diff`)."""

    operation: ChangeOperation
    diff: Diff
    stored: Diff


def make_diff(before: Json | None, after: Json | None, version: int) -> MadeDiff:
    """Compare a document before and after a change to `version`; None stands for no document.

    The JSON Patch is tried. It moves and copies nothing between fields, so that each value lies at
    its own path.
    """
    if after is None:
        deleted = Diff(version=version, is_deleted=True)
        return MadeDiff(ChangeOperation.DELETE, deleted, deleted)
    start, is_right = before or {}, False
    patch: list[Json] = []
    merge_patch, lists = _compare(start, after, ROOT, patch)
    with suppress(JsonPatchException, JsonPointerException):
        copy = orjson.loads(orjson.dumps(start))
        is_right = are_same(jsonpatch.apply_patch(copy, patch, in_place=True), after)
    if not is_right:
        patch, lists = [{"op": "replace", "path": ROOT, "value": after}], merge_patch
    diff = Diff(
        version=version,
        is_new=before is None,
        has_changes=before is None or bool(patch),
        merge_patch=merge_patch,
        json_patch=patch,
    )
    if not diff.is_new:
        return MadeDiff(ChangeOperation.UPDATE, diff, replace(diff, merge_patch=lists))
    created = replace(
        diff, merge_patch={}, json_patch=[{"op": "add", "path": ROOT, "value": after}]
    )
    return MadeDiff(ChangeOperation.CREATE, diff, created)


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


def _compare(before: Json, after: Json, path: str, patch: list[Json]) -> tuple[Json, Json]:
    """Append to the JSON Patch of an object at a path, a JSON Pointer (RFC 6901).

    Return its JSON Merge Patch, and the part of that which does not follow from the JSON Patch: the
    lists that are patched by elements. No kept library tells 1 from true and from 1.0.
    """
    merge_patch: Json = {}
    lists: Json = {}
    paths = {n: f"{path}/{n.replace('~', '~0').replace('/', '~1')}" for n in before | after}
    for name in [name for name in before if name not in after]:
        merge_patch[name] = None
        patch.append({"op": "remove", "path": paths[name]})
    for name, value in after.items():
        known = before.get(name)
        if name not in before:
            merge_patch[name] = value
            patch.append({"op": "add", "path": paths[name], "value": value})
        elif isinstance(value, dict) and isinstance(known, dict):
            inner, inner_lists = _compare(known, value, paths[name], patch)
            merge_patch |= {name: inner} if inner else {}
            lists |= {name: inner_lists} if inner_lists else {}
        elif not are_same(known, value):
            merge_patch[name] = value
            elements: list[Json] = []
            if isinstance(value, list) and isinstance(known, list):
                elements = _list_patch(known, value, paths[name])
            if elements:
                lists[name] = value
            patch += elements or [{"op": "replace", "path": paths[name], "value": value}]
    return merge_patch, lists


def _list_patch(before: list[Any], after: list[Any], path: str) -> list[Json]:
    """Return the patch of a list's elements; none where the whole list is hardly more to store."""
    shorter = min(len(before), len(after))
    changed = (n for n in range(shorter) if not are_same(before[n], after[n]))
    start = next(changed, shorter)
    changed = (n for n in range(shorter - start) if not are_same(before[~n], after[~n]))
    end = next(changed, shorter - start)
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    most = MAX_LIST_PATCH_SHARE * len(orjson.dumps(after))
    removed = reversed(range(len(new), len(old)))
    patch = [{"op": "remove", "path": f"{path}/{start + index}"} for index in removed]
    for index, (one, other) in enumerate(zip(old, new, strict=False), start):
        _compare({f"{index}": one}, {f"{index}": other}, path, patch)
        if len(patch) * MIN_OPERATION_BYTES > most:
            return []
    for index, value in enumerate(new[len(old) :], start + len(old)):
        patch.append({"op": "add", "path": f"{path}/{index}", "value": value})
    return patch if sum(len(orjson.dumps(each)) for each in patch) <= most else []
