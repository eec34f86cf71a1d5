"""Rows and problems of JSON lines files."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from eventfleet.log_files import Columns
from tests.unit.row_files import read, refusal, write

GOOD: dict[str, Any] = {
    "case:concept:name": "c-1",
    "concept:name": "Check",
    "time:timestamp": "2011-10-11T13:45:40+02:00",
}


def lines(*objects: dict[str, Any] | str) -> str:
    texts = [item if isinstance(item, str) else json.dumps(item) for item in objects]
    return "".join(text + "\n" for text in texts)


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.jsonl.gz"])
def test_values_stay_what_json_makes_of_them(tmp_path: Path, name: str) -> None:
    extra = {"n": 2**63 - 1, "f": 0.5, "none": None, "list": [1, {"a": ""}], "empty": ""}
    content = lines(GOOD | extra, "", GOOD | {"case:concept:name": 17}).encode()
    path = write(tmp_path / name, gzip.compress(content) if name.endswith(".gz") else content)
    rows, problems = read(path)
    assert problems == []
    assert [(r.case, r.data, r.number) for r in rows] == [("c-1", extra, 1), ("17", {}, 3)]


def test_each_bad_row_is_named_and_the_good_ones_are_read(tmp_path: Path) -> None:
    caseless = {name: value for name, value in GOOD.items() if name != "case:concept:name"}
    content = lines(
        GOOD,
        '{"case:concept:name": "c-2", "concept',
        "[1, 2]",
        caseless,
        GOOD | {"case:concept:name": ["c"]},
        GOOD | {"time:timestamp": 1318333540},
        GOOD | {"total": 2**63},
        GOOD | {"deep": {"inner": [0, 10**20]}},
        json.dumps(GOOD | {"x": 1}).replace('"x"', '"a\\u0000b"'),
        json.dumps(GOOD | {"x": 1}).replace('"x": 1', '"x": 1, "x": 1000'),
        GOOD,
    )
    rows, problems = read(write(tmp_path / "a.jsonl", content))
    assert [r.number for r in rows] == [1, 11]
    assert problems[0].startswith("a.jsonl, line 2: is not JSON: ")
    assert problems[1:] == [
        "a.jsonl, line 3: is not a JSON object",
        "a.jsonl, line 4: case:concept:name: is missing",
        "a.jsonl, line 5: case:concept:name: ['c'] is not a text",
        "a.jsonl, line 6: time:timestamp: 1318333540 is not a time written as text",
        "a.jsonl, line 7: total: 9223372036854775808 is beyond a 64-bit integer",
        "a.jsonl, line 8: deep.inner[1]: 100000000000000000000 is beyond a 64-bit integer",
        "a.jsonl, line 9: has a NUL in the key 'a\\x00b'",
        "a.jsonl, line 10: x: is given more than once",
    ]


def test_a_number_may_be_an_id_and_a_bad_id_or_actor_names_its_column(tmp_path: Path) -> None:
    row = {"_id": 7, "room": "r-1", "by": "ann", "at": "2024-03-01", "content": "hi"}
    bad = [{"_id": {"$oid": "65f0"}}, {"_id": "8\0"}, {"by": None}, {"by": ["ann"]}]
    path = write(tmp_path / "a.jsonl", lines(row, *(row | each for each in bad)))
    columns = Columns(case="room", time="at", id="_id", actor="by", fixed_activity="Send")
    rows, problems = read(path, columns)
    assert [(r.id, r.actor, r.data) for r in rows] == [("7", "ann", {"content": "hi"})]
    assert problems == [
        "a.jsonl, line 2: _id: {'$oid': '65f0'} is not a text",
        "a.jsonl, line 3: _id: has a NUL",
        "a.jsonl, line 4: by: is missing",
        "a.jsonl, line 5: by: ['ann'] is not a text",
    ]


def test_the_type_column_stands_in_for_an_absent_activity_where_it_may(tmp_path: Path) -> None:
    typed = {"type": "Paid"} | {k: v for k, v in GOOD.items() if k != "concept:name"}
    path = write(tmp_path / "a.jsonl", lines(typed, GOOD | {"type": "kept"}))
    rows, _ = read(path, Columns(activity_fallback="type"))
    assert [(r.activity, r.data) for r in rows] == [("Paid", {}), ("Check", {"type": "kept"})]
    assert read(path)[1] == ["a.jsonl, line 1: concept:name: is missing"]


@pytest.mark.parametrize(
    ("content", "stranger"),
    [("[{}]", "a JSON array"), ("<log/>", "XML"), ("case,activity\n", "something else")],
)
def test_a_file_that_is_no_json_lines(tmp_path: Path, content: str, stranger: str) -> None:
    assert refusal(write(tmp_path / "a.jsonl", content)) == (
        f"a.jsonl: is named as JSON lines (one object per line), but is {stranger}"
    )
