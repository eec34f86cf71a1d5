"""Rows as stores keep them."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfleet.model.view_rows import (
    UnstorableRow,
    as_stored,
    check_row,
    decode_group,
    decode_row,
    encode_group,
    encode_row,
)
from eventfleet.model.views import Row

SEOUL = timezone(timedelta(hours=9))
NAIVE = datetime(2025, 1, 1)


class Colour(Enum):
    RED = "red"


class Plain(Row):
    name: str = ""
    tags: tuple[str, ...] = ()
    colour: Colour = Colour.RED


class Price(msgspec.Struct, frozen=True):
    worth: Decimal
    at: datetime | None = None


class Item(Row):
    name: str = ""
    count: int = 0
    share: float = 0.5
    open: bool = True
    note: str | None = None
    tags: tuple[str, ...] = ()
    by: dict[str, int] = {}  # noqa: RUF012
    colour: Colour = Colour.RED
    day: date = date(2025, 1, 2)
    id: UUID = UUID(int=7)


class Dated(Item):
    at: datetime | None = None
    hour: time = time(7, 30)
    prices: list[Price] = []  # noqa: RUF012
    labels: frozenset[str] = frozenset()
    raw: bytes = b"\0\xff"
    numbers: dict[int, str] = {}  # noqa: RUF012
    more: Any = None


def nested(depth: int) -> list[Any]:
    return [nested(depth - 1)] if depth else []


ROWS = [
    Plain(name="한", tags=("a",)),
    Item(name="é\0", tags=("a", "$b", "c.d"), by={"a.b": 1, "$c": 2}, count=-(2**63)),
    Dated(at=datetime(2025, 1, 2, 3, 4, 5, 678_901, UTC), labels=frozenset("xyz")),
    Dated(prices=[Price(Decimal("1.50"), datetime(2025, 1, 2, tzinfo=SEOUL))], numbers={1: "a"}),
    Dated(more={"a": [1, None, {"$b": 2.5}]}),
    Dated(more=nested(59)),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: type(row).__name__)
def test_a_row_comes_back_as_it_was(row: Row) -> None:
    plain = encode_row(row)
    assert msgspec.json.decode(msgspec.json.encode(plain)) == plain
    assert decode_row(type(row), plain) == row
    assert check_row(row) == (plain, row)
    assert as_stored(row) == row


@given(st.lists(st.datetimes(timezones=st.sampled_from([UTC, SEOUL])), min_size=2))
def test_times_sort_as_their_texts_do(moments: list[datetime]) -> None:
    moments = [each for each in moments if 1 < each.year < 9999]
    texts = {each: encode_row(Dated(at=each))["at"] for each in moments}
    assert sorted(moments) == sorted(moments, key=lambda each: texts[each])
    for each, text in texts.items():
        assert decode_row(Dated, {"at": text}).at == each


def test_a_time_is_kept_in_utc() -> None:
    row = Dated(at=datetime(2025, 1, 2, 8, 0, 0, 1, SEOUL))
    assert encode_row(row)["at"] == "2025-01-01T23:00:00.000001Z"
    kept = as_stored(row).at
    assert kept
    assert (kept, kept.tzinfo) == (row.at, UTC)


def test_a_row_of_a_class_that_nothing_changes_is_not_made_anew() -> None:
    row = Plain(tags=("a", "b"))
    assert as_stored(row) is row


UNSTORABLE: dict[str, Mapping[str, Any]] = {
    f"count is {2**63}: beyond a 64-bit integer": {"count": 2**63},
    f"count is {-(2**63) - 1}: beyond a 64-bit integer": {"count": -(2**63) - 1},
    f"by.a is {2**70}: beyond a 64-bit integer": {"by": {"a": 2**70}},
    "share is nan: JSON has no such number": {"share": float("nan")},
    "share is inf: JSON has no such number": {"share": float("inf")},
    r"name is '\ud800': half of a surrogate pair": {"name": "\ud800"},
    r"tags[1] is '\ud800': half of a surrogate pair": {"tags": ("a", "\ud800")},
    r"by is '\ud800': half of a surrogate pair": {"by": {"\ud800": 1}},
    r"by has the key 'a\x00b', with a NUL": {"by": {"a\0b": 1}},
    "Dated: Encoding objects of type object is unsupported": {"more": object()},
    f"more{'[0]' * 60} is nested deeper than 60 levels": {"more": nested(61)},
    "at is 2025-01-01 00:00:00: a time without a time zone": {"at": NAIVE},
    "more.at is 2025-01-01 00:00:00: a time without a time zone": {"more": {"at": NAIVE}},
    "Dated: Expected `str`, got `int` - at `$.name`": {"name": 3},
    "Dated: Expected `int`, got `null` - at `$.count`": {"count": None},
    "Dated: Expected `array`, got `str` - at `$.tags`": {"tags": "ab"},
    "Dated: Invalid RFC3339 encoded date - at `$.day`": {"day": "today"},
}


@pytest.mark.parametrize(("reason", "fields"), UNSTORABLE.items(), ids=UNSTORABLE)
def test_a_value_that_stores_can_not_keep_is_named(reason: str, fields: Mapping[str, Any]) -> None:
    with pytest.raises(UnstorableRow) as caught:
        check_row(Dated(**fields))
    assert str(caught.value) == reason


def test_a_time_beyond_the_years_is_named() -> None:
    with pytest.raises(UnstorableRow, match="outside the years 1 to 9999 in UTC"):
        encode_row(Dated(at=datetime(1, 1, 1, tzinfo=SEOUL)))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: type(row).__name__)
def test_a_group_comes_back_from_its_text(row: Row) -> None:
    assert decode_group(type(row), encode_group(row)) == row


def test_a_group_has_one_text() -> None:
    at = datetime(2025, 1, 2, 9, tzinfo=SEOUL)
    assert encode_group(Dated(at=at)) == encode_group(Dated(at=at.astimezone(UTC)))
    one, other = Item(by={"a": 1, "b": 2}), Item(by={"b": 2, "a": 1})
    assert encode_group(one) == encode_group(other)
