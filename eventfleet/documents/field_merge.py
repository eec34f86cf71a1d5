"""Merges of a document's stored fields: what an edit has not set stays as it is stored."""

from datetime import datetime
from typing import Any

from eventfleet.documents.diff import are_same


def merge_fields(stored: Any, known: Any, edited: Any) -> Any:
    """Return edited fields, with those of the stored ones that the document's type does not have.

    `known` is what the type makes of the stored fields. An element of a list that the edit has left
    as it was stays as it is stored, wherever it lies now.
    """
    if isinstance(stored, dict) and isinstance(known, dict) and isinstance(edited, dict):
        unknown = {n: v for n, v in stored.items() if n not in known and n not in edited}
        return unknown | {
            name: merge_fields(stored.get(name), known.get(name), value)
            for name, value in edited.items()
        }
    if isinstance(stored, list) and isinstance(known, list) and isinstance(edited, list):
        return _merge_lists(stored, known, edited)
    return edited


def _merge_lists(stored: list[Any], known: list[Any], edited: list[Any]) -> list[Any]:
    if len(stored) != len(known) or not any(isinstance(each, dict | list) for each in stored):
        return edited
    if len(edited) == len(stored):
        return [merge_fields(*each) for each in zip(stored, known, edited, strict=True)]
    left = [*zip(known, stored, strict=True)]
    merged = []
    for value in edited:
        found = next((index for index, (one, _) in enumerate(left) if one == value), None)
        merged.append(value if found is None else merge_fields(*left.pop(found)[::-1], value))
    return merged


def keep_unchanged(plain: Any, was_plain: Any, was: Any) -> Any:
    """Return JSON with the stored values of what is as it was."""
    if are_same(plain, was_plain):
        return was
    if isinstance(plain, dict) and isinstance(was_plain, dict):
        return {
            name: keep_unchanged(value, was_plain[name], was[name]) if name in was_plain else value
            for name, value in plain.items()
        }
    if isinstance(plain, list) and isinstance(was_plain, list) and len(plain) == len(was_plain):
        return [keep_unchanged(*each) for each in zip(plain, was_plain, was, strict=True)]
    return plain


def with_stored_types(plain: Any, typed: Any) -> Any:
    """Return JSON with the dates and bytes that `typed` has at the same places."""
    if isinstance(plain, dict) and isinstance(typed, dict):
        return {
            name: with_stored_types(value, typed[name]) if name in typed else value
            for name, value in plain.items()
        }
    if isinstance(plain, list) and isinstance(typed, list) and len(plain) == len(typed):
        return [with_stored_types(*each) for each in zip(plain, typed, strict=True)]
    return typed if isinstance(typed, datetime | bytes) and isinstance(plain, str) else plain
