"""The stored form of diffs: each value once, in the JSON Patch; the rest is derived on read.

`make_diff` returns it. A merge patch follows from the JSON Patch, but for lists, which it has
whole: only those are stored beside it. A new document is one value at the root. Diffs that hold
both patches whole, as earlier releases stored them, are read by the same rules.
"""

from typing import Any

from jsonpatch import JsonPointer
from msgspec.structs import replace

from eventfleet.documents.diff import ROOT, Diff, Json, make_diff

SET_OPERATIONS = ("add", "replace")


def from_stored_diff(diff: Diff) -> Diff:
    """Return the whole diff of a stored one."""
    if diff.is_deleted:
        return replace(diff, has_changes=False)  # earlier releases stored True
    if diff.is_new and [each["path"] for each in diff.json_patch] == [ROOT]:
        return make_diff(None, diff.json_patch[0]["value"], diff.version).diff
    return replace(diff, merge_patch=_derived(diff.json_patch, diff.merge_patch))


def _derived(json_patch: list[Json], kept: Json) -> Json:
    """Return the merge patch of a JSON Patch, and of what was kept beside it."""
    merged = _copied(kept)
    for operation in json_patch:
        names = JsonPointer(operation["path"]).parts
        if names and operation["op"] in (*SET_OPERATIONS, "remove"):
            _set(merged, names, operation.get("value"))
    return merged


def _set(merged: Json, names: list[str], value: Any) -> None:
    *outer, last = names
    place: Any = merged
    for name in outer:
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            return  # inside a list, which was kept whole
    place[last] = _copied(value) if isinstance(value, dict) else value


def _copied(patch: Json) -> Json:
    return {
        name: _copied(value) if isinstance(value, dict) else value for name, value in patch.items()
    }
