"""Diff: what one change made of a document, as RFC 7396 and RFC 6902 patches."""

from typing import Any

import jsonpatch
import msgspec
import orjson

Json = dict[str, Any]


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """The difference that a change made, between documents as JSON, without id and version.

    `merge_patch` is a JSON Merge Patch (RFC 7396), made for reading: it can't tell a field that is
    null from one that is absent. `json_patch` (RFC 6902) is exact. A new document differs from {};
    a deleted one has empty patches.
    """

    version: int
    is_new: bool = False
    is_deleted: bool = False
    has_changes: bool = False
    merge_patch: Json = {}
    json_patch: list[Json] = []


def make_diff(before: Json | None, after: Json | None, version: int) -> Diff:
    """Compare a document before and after a change to `version`; None stands for no document."""
    if after is None:
        return Diff(version=version, is_deleted=True, has_changes=before is not None)
    patch = jsonpatch.make_patch(before or {}, after).patch
    return Diff(
        version=version,
        is_new=before is None,
        has_changes=before is None or bool(patch),
        merge_patch=make_merge_patch(before or {}, after),
        json_patch=patch,
    )


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
        elif name not in before or not _is_same(known, value):
            patch[name] = value
    return patch


def _is_same(one: Any, other: Any) -> bool:
    return one == other and orjson.dumps(one) == orjson.dumps(other)


def apply_diff(before: Json | None, diff: Diff) -> Json | None:
    """Return the document after a change; None where the change deleted it."""
    if diff.is_deleted:
        return None
    after: Json = jsonpatch.apply_patch({} if diff.is_new else before or {}, diff.json_patch)
    return after
