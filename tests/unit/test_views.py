"""Declarations of views: each fault is refused by name."""

from collections.abc import Callable
from dataclasses import replace as with_changes
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from eventfleet.model.errors import DeclarationError
from eventfleet.model.views import Row, Totals, View, find_table
from tests.unit.view_fixture import ACCOUNTS, NOTES, Account, owner_totals, till

OWNERS = ACCOUNTS.totals[0]


def refused(*views: View[Any]) -> str:
    with pytest.raises(DeclarationError) as caught:
        till(*views)
    return str(caught.value).removeprefix("domain till: ")


def of_row(row: Any) -> View[Any]:
    return View("items", row=row, project=lambda *_: None)


@pytest.mark.parametrize("name", ["", "Items", "1st", "a-b", "a.b", "$a", "a\n", "ключ", "a" * 51])
def test_a_name_that_no_path_or_collection_can_have_is_refused(name: str) -> None:
    rule = "the name must begin with a-z and go on with up to 49 of a-z, 0-9 and _"
    assert refused(with_changes(NOTES, name=name)) == f"view {name!r}: {rule}"
    assert refused(with_changes(ACCOUNTS, totals=[owner_totals(name)])) == f"view {name!r}: {rule}"


def test_two_of_a_name_are_refused() -> None:
    fault = "`views` has two of the name 'notes'"
    assert refused(NOTES, NOTES) == fault
    assert refused(NOTES, with_changes(ACCOUNTS, totals=[owner_totals("notes")])) == fault
    two = [owner_totals("owners"), owner_totals("owners")]
    assert refused(with_changes(ACCOUNTS, totals=two)) == "`views` has two of the name 'owners'"


@pytest.mark.parametrize("row", [dict, "Account", msgspec.Struct, Account(owner="ann")], ids=str)
def test_rows_that_are_no_class_of_rows_are_refused(row: Any) -> None:
    fault = f"row={row!r} is not a class derived from Row"
    assert refused(of_row(row)) == f"view 'items': {fault}"
    totals = with_changes(OWNERS, row=row)
    assert refused(with_changes(ACCOUNTS, totals=[totals])) == f"view 'owners': {fault}"


@pytest.mark.parametrize("version", [0, -1])
def test_a_version_below_one_is_refused(version: int) -> None:
    fault = f"view 'notes': version={version} must be at least 1"
    assert refused(with_changes(NOTES, version=version)) == fault


@pytest.mark.parametrize(
    ("index", "fault"),
    [
        ("text", "'text' must be a list of fields"),
        ([], "[] must be a list of fields"),
        (["text", "colour", "b"], "b, colour: no row has these fields"),
    ],
    ids=str,
)
def test_an_index_over_what_no_row_has_is_refused(index: Any, fault: str) -> None:
    assert refused(with_changes(NOTES, indexes=[["text"], index])) == f"view 'notes': {fault}"


def test_an_index_of_totals_is_checked_too() -> None:
    totals = with_changes(OWNERS, indexes=[["text"]])
    fault = "view 'owners': text: no row has these fields"
    assert refused(with_changes(ACCOUNTS, totals=[totals])) == fault


class Unheard:
    pass


def a_row(kind: Any, **options: Any) -> type[Row]:
    return msgspec.defstruct("Item", [("value", kind)], bases=(Row,), **options)


class Inner(msgspec.Struct):
    worth: Decimal
    took: timedelta | None = None
    inner: "Inner | None" = None


STORABLE = {
    "texts and numbers": str | int | float | bool | None,
    "a time": datetime | None,
    "bounds": Annotated[int, Meta(ge=0)],
    "a struct": Inner,
    "structs": list[Inner] | None,
    "a dict": dict[str, Decimal],
    "sets": frozenset[str],
    "tuples": tuple[Decimal, timedelta],
    "anything": Any,
    "bytes": bytes,
}


@pytest.mark.parametrize("kind", STORABLE.values(), ids=STORABLE)
def test_what_json_can_hold_can_be_in_a_row(kind: Any) -> None:
    assert till(of_row(a_row(kind))).views[0].shape.fingerprint


CANNOT = "Item.value can't be stored: "
UNSTORABLE = {
    "Decimal": (Decimal, CANNOT + "no query could order by a Decimal: keep an int"),
    "Decimal or None": (Decimal | None, CANNOT + "no query could order by a Decimal: keep an int"),
    "timedelta": (timedelta, CANNOT + "no query could order by a timedelta: keep an int of sec"),
    "class": (Unheard, CANNOT + "Unheard is no type that JSON can hold"),
    "class inside": (dict[str, list[Unheard]], CANNOT + "Unheard is no type that JSON can hold"),
    "complex": (tuple[complex, ...], CANNOT + "complex is no type that JSON can hold"),
    "raw": (msgspec.Raw, CANNOT + "RawType is no type that JSON can hold"),
    "two kinds of text": (str | datetime, "rows of Item can't be stored: Type unions may not"),
    "unheard of": ("Nobody", "rows of Item can't be stored: name 'Nobody' is not defined"),
}


@pytest.mark.parametrize(("kind", "fault"), UNSTORABLE.values(), ids=UNSTORABLE)
def test_a_field_that_stores_can_not_keep_is_refused(kind: Any, fault: str) -> None:
    assert refused(of_row(a_row(kind))).startswith(f"view 'items': {fault}")


def test_a_field_of_totals_is_checked_too() -> None:
    totals = with_changes(OWNERS, row=a_row(Unheard), by=["value"])
    fault = refused(with_changes(ACCOUNTS, totals=[totals]))
    assert fault == f"view 'owners': {CANNOT}Unheard is no type that JSON can hold"


@pytest.mark.parametrize("option", ["array_like", "omit_defaults"])
def test_options_by_which_queries_do_not_find_a_field_are_refused(option: str) -> None:
    fault = f"Item must not have {option}=True: queries find fields by name"
    assert refused(of_row(a_row(int, **{option: True}))) == f"view 'items': {fault}"


@pytest.mark.parametrize("rename", ["upper", {"value": "a.b"}], ids=str)
def test_a_field_that_is_renamed_is_refused(rename: Any) -> None:
    fault = refused(of_row(a_row(int, rename=rename)))
    assert fault.startswith("view 'items': Item.value is renamed to ")


# What a declaration is


def test_a_row_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Account(owner="ann").cents = 3  # type: ignore[misc]


def test_a_table_is_found_by_its_name_with_its_view() -> None:
    views = [ACCOUNTS, NOTES]
    assert find_table(views, "notes") == (NOTES, NOTES)
    assert find_table(views, "owners") == (ACCOUNTS, OWNERS)
    assert find_table(views, "absent") is None
    assert ACCOUNTS.tables == [ACCOUNTS, OWNERS]


class WithTags(Account):
    tags: tuple[str, ...] = ()


def other_totals(**named: Any) -> View[Account]:
    return with_changes(ACCOUNTS, totals=[with_changes(OWNERS, **named)])


SAME: dict[str, Callable[[], View[Any]]] = {
    "functions": lambda: with_changes(ACCOUNTS, project=lambda *_: None, key=lambda _: "a"),
    "indexes": lambda: with_changes(ACCOUNTS, indexes=[["owner"]]),
    "functions of totals": lambda: other_totals(merge=lambda one, _: one, by=["cents"]),
}
OTHERS: dict[str, Callable[[], View[Any]]] = {
    "version": lambda: with_changes(ACCOUNTS, version=2),
    "rows": lambda: with_changes(ACCOUNTS, row=WithTags),
    "rows of totals": lambda: other_totals(row=WithTags),
    "name of totals": lambda: other_totals(name="holders"),
    "fewer totals": lambda: with_changes(ACCOUNTS, totals=[]),
    "more totals": lambda: with_changes(ACCOUNTS, totals=[OWNERS, owner_totals("more")]),
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_builds_stay_those_of_a_view_whose_rows_are_the_same(
    change: Callable[[], View[Any]],
) -> None:
    assert change().shape == ACCOUNTS.shape


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_a_view_of_other_rows_has_other_builds(change: Callable[[], View[Any]]) -> None:
    assert change().shape != ACCOUNTS.shape


def test_totals_have_rows_of_their_own() -> None:
    assert isinstance(OWNERS, Totals)
    assert OWNERS.row is not ACCOUNTS.row
