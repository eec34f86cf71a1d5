"""Events to bytes and back: nothing is lost, and every refusal names a field and a reason."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from eventfleet.topics.codec import POSITION_BYTES, decode, decode_command, encode, parse
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import (
    MAX_EVENT_BYTES,
    MAX_ID_CHARS,
    EventRecord,
    Position,
    truncate_to_milliseconds,
)
from eventfleet.topics.values import MAX_DEPTH

INT64 = 2**63

WIRE: dict[str, Any] = {
    "specversion": "1.0",
    "id": "018c-1",
    "type": "Placed",
    "source": "orders",
    "subject": "order-1",
    "time": "2024-05-06T07:08:09.123Z",
    "data": {"total": 1999},
}


def on_wire(**changes: Any) -> bytes:
    """The event above with other attributes, in the spelling of `encode`."""
    return json.dumps(WIRE | changes, separators=(",", ":")).encode()


def refused(value: bytes | None) -> tuple[str, str]:
    """Field and reason: the same whatever the spelling."""
    with pytest.raises(InvalidRecord) as caught:
        decode(value)
    assert str(caught.value) == f"{caught.value.field}: {caught.value.reason}"
    if value is not None and len(value) < MAX_EVENT_BYTES:
        with pytest.raises(InvalidRecord) as spelt:
            decode(b" " + value)
        assert spelt.value.field == caught.value.field
    return caught.value.field, caught.value.reason


# Round trips

characters = st.characters(exclude_categories=["Cs"])
without_nul = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
text = st.text(characters, max_size=12)
names = st.text(without_nul, min_size=1, max_size=12)
keys = st.text(without_nul, max_size=6)
numbers = st.integers(-INT64, INT64 - 1) | st.floats(-1e18, 1e18)
payloads = st.dictionaries(
    keys,
    st.recursive(
        st.none() | st.booleans() | numbers | text,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)
moments = st.datetimes(
    datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.timezones()
)  # fmt: skip
optional = st.none() | text
events = st.builds(
    EventRecord,
    id=names,
    type=names,
    domain=text,
    aggregate_id=names,
    time=moments.map(truncate_to_milliseconds),
    data=payloads,
    schema_version=st.integers(1, 2**31 - 1),
    version=st.integers(0, INT64 - 1),
    position=optional,
    prev=optional,
    correlation_id=optional,
    causation_id=optional,
    actor=optional,
    traceparent=optional,
    reply_to=optional,
)


@given(events)
def test_every_event_comes_back_as_it_was_and_is_written_the_same_again(event: EventRecord) -> None:
    assert decode(encode(event)) == decode(b" " + encode(event)) == event
    assert encode(decode(encode(event))) == encode(event)


@given(events)
def test_the_wire_is_a_cloudevent_with_lowercase_attribute_names(event: EventRecord) -> None:
    wire = json.loads(encode(event))
    assert wire["specversion"] == "1.0"
    assert wire.keys() >= {"id", "type", "source", "subject", "time", "data"}
    assert all(name.isalnum() and name.islower() for name in wire)
    assert wire["subject"] == event.aggregate_id
    assert wire["source"] == event.domain


def test_only_what_is_set_is_written() -> None:
    event = decode(on_wire())
    assert json.loads(encode(event)) == WIRE | {"time": "2024-05-06T07:08:09.123000Z"}


@pytest.mark.parametrize("extension", ["text", 7, None, True, {"a": [1]}])
def test_unknown_extension_attributes_are_tolerated(extension: object) -> None:
    assert decode(on_wire(vendorthing=extension, datacontenttype="text/json")) == decode(on_wire())


# Times


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("2024-05-06T07:08:09Z", datetime(2024, 5, 6, 7, 8, 9)),
        ("2024-05-06T07:08:09.123999Z", datetime(2024, 5, 6, 7, 8, 9, 123_000)),
        ("2024-05-06T07:08:09.000999+02:00", datetime(2024, 5, 6, 5, 8, 9)),
        ("1969-12-31T23:59:59.999999-00:30", datetime(1970, 1, 1, 0, 29, 59, 999_000)),
    ],
)
def test_times_are_cut_to_whole_milliseconds_utc(written: str, kept: datetime) -> None:
    time = decode(on_wire(time=written)).time
    assert time == kept.replace(tzinfo=UTC)
    assert time.utcoffset() == timedelta()


@given(st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.timezones()))
def test_a_cut_time_is_at_most_a_millisecond_earlier(moment: datetime) -> None:
    cut = truncate_to_milliseconds(moment)
    assert timedelta() <= moment.astimezone(UTC) - cut < timedelta(milliseconds=1)
    assert cut.microsecond % 1000 == 0
    assert truncate_to_milliseconds(cut) == cut


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))),
        datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5))),
    ],
)
def test_a_time_that_utc_can_not_hold_is_refused(moment: datetime) -> None:
    assert refused(on_wire(time=moment.isoformat())) == (
        "time",
        "is outside the years 1 to 9999 in UTC",
    )


@pytest.mark.parametrize(
    "written", ["", "yesterday", "2024-05-06", "2024-02-30T00:00:00Z", "2024-05-06T25:00:00Z"]
)
def test_what_is_not_a_time_is_refused(written: str) -> None:
    assert refused(on_wire(time=written)) == ("time", "Invalid RFC3339 encoded datetime")


def test_a_time_without_a_zone_is_refused() -> None:
    field, reason = refused(on_wire(time="2024-05-06T07:08:09"))
    assert (field, reason) == ("time", "Expected `datetime` with a timezone component")


# Attributes


@pytest.mark.parametrize("name", sorted(WIRE.keys() - {"specversion"}))
def test_a_missing_attribute_is_refused(name: str) -> None:
    wire = {key: value for key, value in WIRE.items() if key != name}
    assert refused(orjson.dumps(wire)) == (name, "is missing")


TYPES = {
    **dict.fromkeys(("id", "type", "source", "subject", "time", "position", "prev"), "text"),
    **dict.fromkeys(("correlationid", "causationid", "actor", "traceparent", "replyto"), "text"),
    **dict.fromkeys(("schemaversion", "version"), "integer"),
    "data": "object",
}
SAMPLES: dict[str, list[object]] = {
    "text": ["x"],
    "integer": [7],
    "object": [{}],
    "none of these": [1.5, True, [1]],
}


@pytest.mark.parametrize("name", TYPES)
def test_an_attribute_of_a_wrong_type_is_refused(name: str) -> None:
    for kind, samples in SAMPLES.items():
        for sample in samples if kind != TYPES[name] else ():
            field, reason = refused(on_wire(**{name: sample}))
            assert field == name
            assert reason.startswith("Expected ")


@pytest.mark.parametrize("name", ["id", "type", "subject"])
def test_an_identifier_is_neither_empty_nor_too_long_nor_holds_a_nul(name: str) -> None:
    assert refused(on_wire(**{name: ""})) == (name, "is empty")
    assert refused(on_wire(**{name: "é" * (MAX_ID_CHARS + 1)})) == (
        name,
        "has more than 255 characters",
    )
    assert refused(on_wire(**{name: "a\0b"})) == (name, "has a NUL")
    decode(on_wire(**{name: "é" * MAX_ID_CHARS}))
    decode(on_wire(**{name: "a\\u0000b"}))


@pytest.mark.parametrize(
    ("name", "value"),
    [("schemaversion", 0), ("schemaversion", -1), ("schemaversion", 2**31), ("version", -1)],
)
def test_a_number_out_of_its_range_is_refused(name: str, value: int) -> None:
    field, reason = refused(on_wire(**{name: value}))
    assert field == name
    assert reason.startswith("Expected `int`")


@pytest.mark.parametrize("version", ["0.3", "1.1", "", None, 1.0, 1])
def test_another_specversion_is_refused(version: object) -> None:
    reason = f"is {version!r}, only '1.0' is read"
    assert refused(on_wire(specversion=version)) == ("specversion", reason)


def test_a_missing_specversion_is_refused() -> None:
    wire = {key: value for key, value in WIRE.items() if key != "specversion"}
    assert refused(orjson.dumps(wire))[0] == "specversion"


# The value as a whole


def test_an_absent_value_is_refused() -> None:
    assert refused(None) == ("value", "is absent")


@pytest.mark.parametrize("value", [b"", b"{", on_wire()[:-1], b"NaN", b'{"a":1,}', b"a,b"])
def test_what_is_not_json_is_refused(value: bytes) -> None:
    field, reason = refused(value)
    assert field == "value"
    assert reason.startswith("is not JSON: ")


@pytest.mark.parametrize("value", [b"[]", b"1", b'"text"', b"null", b"true"])
def test_what_is_not_an_object_is_refused(value: bytes) -> None:
    assert refused(value) == ("value", "is not a JSON object")


@given(st.binary())
def test_no_bytes_raise_anything_else(value: bytes) -> None:
    refused(value)


@given(
    st.dictionaries(
        st.sampled_from([*TYPES, "specversion"]), payloads | text, min_size=1, max_size=4
    )
)
def test_a_refusal_names_one_of_the_changed_attributes(changes: dict[str, Any]) -> None:
    fields = []
    try:
        decode(on_wire(**changes))
    except InvalidRecord as error:
        fields = [error.field.partition(".")[0]]
    assert {*fields} <= {*changes, "value"}


# Size


def of_size(size: int, **attributes: Any) -> bytes:
    """An event whose bytes, without version and position, are this many."""
    event = decode(on_wire(data={"filling": ""}))
    event = replace(event, data={"filling": "x" * (size - len(encode(event)))})
    return encode(replace(event, **attributes))


def test_an_event_of_the_greatest_size_is_readable_also_when_it_is_placed() -> None:
    decode(of_size(MAX_EVENT_BYTES))
    longest = str(Position(INT64 - 1, INT64 - 1, INT64 - 1))
    decode(of_size(MAX_EVENT_BYTES, version=INT64 - 1, position=longest))


def test_one_byte_more_is_refused() -> None:
    reason = f"has {MAX_EVENT_BYTES + 1} bytes, the limit is {MAX_EVENT_BYTES}"
    assert refused(of_size(MAX_EVENT_BYTES + 1)) == ("value", reason)
    assert refused(of_size(MAX_EVENT_BYTES + 1, version=1, position="0-0-0")) == ("value", reason)


def test_far_too_many_bytes_are_not_even_parsed() -> None:
    size = MAX_EVENT_BYTES + POSITION_BYTES + 1
    assert refused(b"{" * size)[1].startswith(f"has {size} bytes")


def test_numbers_that_grow_when_written_again_count_as_written() -> None:
    data = b"[" + b",".join([b"1e15"] * 150_000) + b"]"
    value = on_wire(data={"numbers": 0}).replace(b'"numbers":0', b'"numbers":' + data)
    assert len(value) < MAX_EVENT_BYTES
    field, reason = refused(value)
    assert field == "value"
    assert reason.endswith(f"the limit is {MAX_EVENT_BYTES}")


@given(
    st.from_regex(r"-?(0|[1-9][0-9]{0,3})(\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)
    | numbers.map(str)
)
def test_no_number_is_written_in_more_than_four_times_its_bytes(number: str) -> None:
    read = orjson.loads(f"[{number}]")
    assert max(len(orjson.dumps(read)), len(msgspec.json.encode(read))) <= 4 * (len(number) + 1)


# Depth, keys and numbers, in every place


def nested(levels: int, innermost: str) -> bytes:
    """`innermost` within so many arrays and objects, turn about."""
    value = innermost
    for level in range(levels):
        value = f"[{value}]" if level % 2 else f'{{"k":{value}}}'
    return value.encode()


@pytest.mark.parametrize("inside", ['"a":1,"a":2', '"a" : 1 ,"a":1', '"b":[{"a":1,"\\u0061":1}]'])
def test_a_key_that_is_given_twice_is_refused(inside: str) -> None:
    value = on_wire(data={"HERE": 1}).replace(b'"HERE":1', inside.encode())
    for spelt in (value, b" " + value):
        with pytest.raises(InvalidRecord, match=r"^a: is given more than once$"):
            decode_command(spelt)


def test_what_is_nested_too_deep_is_refused() -> None:
    parse(nested(MAX_DEPTH, "1"))
    for levels in (MAX_DEPTH + 1, 500, 5000):
        with pytest.raises(InvalidRecord) as caught:
            parse(nested(levels, "1"))
    with pytest.raises(InvalidRecord) as caught:
        parse(nested(MAX_DEPTH + 1, "1"))
    assert caught.value.reason == f"is nested deeper than {MAX_DEPTH} levels"
    assert caught.value.field.startswith("k[0].k[0]")


PLACES = [
    ('{"a":%s}', "a"),
    ('{"a":{"b":%s}}', "a.b"),
    ('{"a":[0,[{"b":1,"c":%s}]]}', "a[1][0].c"),
    ('{"x":"a 1e3 in a text","a": \t%s }', "a"),
    ("[[%s]]", "[0][0]"),
    ("%s", "value"),
]
BEYOND = [
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "123456789012345678901234567890",
    "1" + "0" * 400,
]


@pytest.mark.parametrize("number", BEYOND)
@pytest.mark.parametrize(("place", "field"), PLACES)
def test_a_number_beyond_int64_is_refused_wherever_it_is(
    place: str, field: str, number: str
) -> None:
    with pytest.raises(InvalidRecord) as caught:
        parse((place % number).encode())
    assert caught.value.field == field
    assert caught.value.reason.endswith("is beyond a 64-bit integer")


@pytest.mark.parametrize(("place", "field"), PLACES)
def test_a_number_beyond_a_double_is_refused_wherever_it_is(place: str, field: str) -> None:
    for number in ("1e400", "-1e400", "1.5e999"):
        with pytest.raises(InvalidRecord) as caught:
            parse((place % number).encode())
        assert caught.value.field == field
        assert caught.value.reason.endswith("is beyond a 64-bit float")


@pytest.mark.parametrize("number", BEYOND)
@pytest.mark.parametrize("name", ["data", "version", "schemaversion", "time", "vendorthing"])
def test_a_number_beyond_int64_is_refused_in_every_attribute(name: str, number: str) -> None:
    value = on_wire(**{name: "HERE"}).replace(b'"HERE"', number.encode())
    assert refused(value)[0] == name


@pytest.mark.parametrize("number", ["1e19", "1E+19", "-1e19", "6.02214076e23", "1e308"])
@pytest.mark.parametrize(("place", "field"), PLACES)
def test_a_float_of_any_size_is_kept(place: str, field: str, number: str) -> None:
    written = (place % number).encode()
    assert parse(written) == json.loads(written)


def test_a_large_float_of_an_event_comes_back_as_it_is() -> None:
    event = decode(on_wire(data={"n": 6.02214076e23}))
    assert event.data == {"n": 6.02214076e23}
    assert decode(encode(event)) == event


@pytest.mark.parametrize("number", ["9223372036854775807", "-9223372036854775808", "9.2e18", "0.1"])
@pytest.mark.parametrize(("place", "field"), PLACES)
def test_a_number_within_int64_is_kept(place: str, field: str, number: str) -> None:
    written = (place % number).encode()
    assert parse(written) == json.loads(written)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (b'{"a\\u0000b":1}', "value"),
        (b'{"a":{"\\u0000":1}}', "a"),
        (b'{"a":[1,{"b":{"\\u0000":1}}]}', "a[1].b"),
    ],
)
def test_a_nul_in_a_key_is_refused(value: bytes, field: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        parse(value)
    assert caught.value.field == field
    assert caught.value.reason.startswith("has a NUL in the key")


def test_a_nul_in_a_text_and_an_escaped_one_in_a_key_are_kept() -> None:
    assert parse(b'{"a":"\\u0000"}') == {"a": "\0"}
    assert parse(b'{"a\\\\u0000":1}') == {"a\\u0000": 1}


@given(payloads)
def test_all_other_json_is_kept(payload: dict[str, Any]) -> None:
    assert parse(json.dumps(payload).encode()) == payload


# Positions


@given(st.tuples(*[st.integers(0, INT64 - 1)] * 3))
def test_a_position_comes_back_from_its_text(numbers: tuple[int, int, int]) -> None:
    assert Position.parse(str(Position(*numbers))) == Position(*numbers)
