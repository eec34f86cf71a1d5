"""Diffs of documents: RFC 7396 and RFC 6902 patches of the same change."""

from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfleet.documents import Diff
from eventfleet.documents.diff import Json, apply_diff
from eventfleet.documents.diff import make_diff as made_diff
from eventfleet.documents.stored_diff import from_stored_diff

# RFC 7396, Appendix A, where source and target are objects.
RFC_7396 = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({}, {"a": {"bb": {}}}, {"a": {"bb": {}}}),
]

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, 1.0]) | st.text("ab/~"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab/~"), inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(st.text("abc", min_size=1, max_size=2), plain, max_size=4)


def make_diff(before: Json | None, after: Json | None, version: int) -> Diff:
    """Compare documents; what is stored of the difference tells all of it."""
    operation, diff, stored = made_diff(before, after, version)
    assert (from_stored_diff(stored), operation) == (diff, diff.operation)
    return diff


def merged(target: Any, patch: Any) -> Any:
    """MergePatch of RFC 7396, section 2, word by word."""
    if not isinstance(patch, dict):
        return patch
    target = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = merged(target.get(name), value)
    return target


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_nulls(each) for name, each in value.items() if each is not None}
    return value


@pytest.mark.parametrize(("before", "patch", "after"), RFC_7396)
def test_the_merge_patches_of_the_rfc(before: Any, patch: Any, after: Any) -> None:
    assert merged(before, patch) == after
    assert merged(before, make_diff(before, after, 2).merge_patch) == after


@given(documents, documents)
def test_both_patches_lead_from_one_document_to_the_other(before: Any, after: Any) -> None:
    diff = make_diff(before, after, 2)
    assert repr(apply_diff(before, diff)) == repr(jsonpatch.apply_patch(before, diff.json_patch))
    assert apply_diff(before, diff) == after
    assert diff.has_changes == bool(diff.json_patch)
    nulls_aside = merged(
        without_nulls(before), make_diff(before, without_nulls(after), 2).merge_patch
    )
    assert without_nulls(nulls_aside) == without_nulls(after)


@pytest.mark.parametrize(("one", "other"), [(1, True), (0, False), (1, 1.0)])
def test_values_that_python_takes_for_equal_are_told_apart(one: Any, other: Any) -> None:
    diff = make_diff({"a": one}, {"a": other}, 2)
    assert repr(diff.merge_patch) == repr({"a": other})
    assert repr(diff.json_patch[0]["value"]) == repr(other)


def test_new_deleted_and_unchanged() -> None:
    new = make_diff(None, {}, 1)
    assert (new.is_new, new.has_changes, new.is_deleted) == (True, True, False)
    assert apply_diff(None, new) == {}
    deleted = make_diff({"a": 1}, None, 2)
    assert deleted == Diff(version=2, is_deleted=True)
    assert apply_diff({"a": 1}, deleted) is None
    assert make_diff({"a": 1}, {"a": 1}, 2) == Diff(version=2)
