"""The size of values in BSON, as MongoDB's driver has it."""

from datetime import UTC, datetime
from typing import Any

import bson
from hypothesis import given
from hypothesis import strategies as st

from eventfleet.documents.bson_size import bson_size
from eventfleet.documents.size_limits import MOST_BSON_PER_JSON

values: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"))
    | st.binary()
    | st.just(datetime(2026, 1, 1, tzinfo=UTC)),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["a", "b\u00f6"]), inner),
)


@given(st.dictionaries(st.sampled_from(["a", "ab", "\u00f6"]), values))
def test_it_is_that_of_the_driver(value: dict[str, Any]) -> None:
    assert bson_size(value) == len(bson.encode(value))


def test_small_numbers_in_a_long_list_stay_below_the_bound() -> None:
    numbers = {"n": [1] * 100_000}
    assert bson_size(numbers) == len(bson.encode(numbers)) < 200_000 * MOST_BSON_PER_JSON
