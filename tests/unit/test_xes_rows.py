"""Rows and problems of XES logs."""

import gzip
import tracemalloc
from pathlib import Path

import pytest

from eventfleet.log_files import FileFormat, LogRow, open_log
from tests.unit.row_files import read, refusal, write

SAMPLE = Path(__file__).parent / "data" / "permits.xes"


def log(*events: str, trace: str = '<string key="concept:name" value="c-1"/>') -> str:
    return f"<log><trace>{trace}{''.join(events)}</trace></log>"


def event(extra: str = "", name: str = "Check", time: str = "2011-10-11T13:45:40Z") -> str:
    attributes = f'<string key="concept:name" value="{name}"/>'
    return f'<event>{attributes}<date key="time:timestamp" value="{time}"/>{extra}</event>'


def test_an_event_has_its_own_attributes_and_its_traces() -> None:
    rows, _ = read(SAMPLE)
    first = rows[0]
    assert (first.case, first.activity) == ("permit-7", "Receive & register")
    assert first.time.isoformat() == "2011-10-11T11:45:40.276000+00:00"
    assert first.data == {
        "case:area": 120,
        "fee": 12.5,
        "urgent": True,
        "uid": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        "org:resource": {"value": "Resource21", "children": {"org:role": "clerk"}},
        "checks": [["check", "map"], ["check", 2]],
        "address": {"street": "Main"},
    }


def test_bad_events_are_named_and_the_others_are_read() -> None:
    rows, problems = read(SAMPLE)
    assert [(r.case, r.activity, r.number) for r in rows] == [
        ("permit-7", "Receive & register", 1),
        ("permit-8", "Decide", 4),
    ]
    assert problems == [
        "permits.xes, event 2: fee: 'twelve' is not a number",
        "permits.xes, event 3: case:concept:name: is missing",
    ]


@pytest.mark.parametrize(
    ("attribute", "problem"),
    [
        (
            '<int key="n" value="9223372036854775808"/>',
            "n: 9223372036854775808 is beyond a 64-bit integer",
        ),
        ('<int key="n" value="1_000"/>', "n: '1_000' is not a number"),
        ('<float key="n" value="١٢"/>', "n: '١٢' is not a number"),
        ('<float key="n" value="NaN"/>', "n: 'NaN' is not a number"),
        ('<boolean key="n" value="yes"/>', "n: 'yes' is not a boolean"),
        ('<string key="n"/>', "n: has no value"),
        ('<string key="n" value="1"/><string key="n" value="2"/>', "n: occurs twice"),
        ('<container key="n"><int key="m" value="x"/></container>', "m: 'x' is not a number"),
    ],
)
def test_an_attribute_without_a_usable_value(tmp_path: Path, attribute: str, problem: str) -> None:
    path = write(tmp_path / "a.xes", log(event(attribute), event(name="Next")))
    rows, problems = read(path)
    assert [r.activity for r in rows] == ["Next"]
    assert len(problems) == 1
    assert problems[0].startswith(f"a.xes, event 1: {problem}")


def test_a_bad_attribute_of_a_trace_costs_the_events_of_that_trace(tmp_path: Path) -> None:
    bad = '<string key="concept:name" value="c-1"/><int key="area" value="x"/>'
    second = '<trace><string key="concept:name" value="c-2"/>' + event() + "</trace></log>"
    content = log(event(), event(), trace=bad).replace("</log>", second)
    rows, problems = read(write(tmp_path / "a.xes", content))
    assert [r.case for r in rows] == ["c-2"]
    assert problems == [
        f"a.xes, event {number}: case:area: 'x' is not a number" for number in (1, 2)
    ]


def test_xml_that_breaks_gives_the_events_before_the_break(tmp_path: Path) -> None:
    content = log(*[event(name=f"n{i}") for i in range(3000)]).replace(
        event(name="n2500"), "<event></oops>"
    )
    rows, problems = read(write(tmp_path / "a.xes", content))
    assert [r.activity for r in rows] == [f"n{i}" for i in range(2500)]
    assert len(problems) == 1
    assert "a.xes, event 2502: is not well-formed XML: mismatched tag: line 1" in problems[0]


@pytest.mark.parametrize(
    ("tag", "within"), [("event", "event"), ("trace", "trace"), ("trace", "event")]
)
def test_an_event_or_trace_within_another_ends_the_file(
    tmp_path: Path, tag: str, within: str
) -> None:
    unclosed = event(name="n2").removesuffix("</event>") if within == "event" else ""
    good = [event(name=f"n{i}") for i in range(2000)]
    content = log(*good, unclosed + f"<{tag}>", event(name="behind"))
    rows, problems = read(write(tmp_path / "a.xes", content))
    assert [r.activity for r in rows] == [f"n{i}" for i in range(2000)]
    assert len(problems) == 1
    assert f": has a <{tag}> within <{within}>: " in problems[0]
    assert problems[0].endswith("the rest of the file is not read")


@pytest.mark.parametrize(
    ("written", "declared", "named"),
    [("utf-16", "UTF-16", ""), ("cp1252", "windows-1252", ""), ("cp1252", "UTF-8", "cp1252")],
)
def test_encodings(tmp_path: Path, written: str, declared: str, named: str) -> None:
    text = f'<?xml version="1.0" encoding="{declared}"?>' + log(event(name="größe"))
    path = write(tmp_path / "a.xes", text.encode(written))
    rows, problems = read(path, file_format=FileFormat(encoding=named))
    assert problems == []
    assert [row.activity for row in rows] == ["größe"]


def test_attributes_that_are_nested_too_deep_cost_their_event_alone(tmp_path: Path) -> None:
    def nested(depth: int) -> str:
        return '<string key="k" value="1">' * depth + "</string>" * depth

    content = log(event(nested(50), "n1"), event(nested(61), "n2"), event(name="n3"))
    rows, problems = read(write(tmp_path / "a.xes", content))
    assert [r.activity for r in rows] == ["n1", "n3"]
    assert problems == ["a.xes, event 2: k: is nested deeper than 60 levels"]


def test_a_truncated_gzip_gives_the_events_before_the_break(tmp_path: Path) -> None:
    whole = gzip.compress(log(*[event(name=f"n{i * 7919}") for i in range(9000)]).encode())
    cut = whole[: len(whole) // 2]
    rows, problems = read(write(tmp_path / "a.xes.gz", cut))
    assert 1000 < len(rows) < 9000
    assert [r.activity for r in rows] == [f"n{i * 7919}" for i in range(len(rows))]
    assert len(problems) == 1
    assert f"the file breaks off: its gzip data is truncated at byte {len(cut)}" in problems[0]


def test_entities_are_never_expanded(tmp_path: Path) -> None:
    declared = '<!DOCTYPE log [<!ENTITY a "aaaaaaaaaa">]>' + log(
        event('<string key="x" value="&a;"/>')
    )
    assert refusal(write(tmp_path / "a.xes", declared)) == (
        "a.xes: is named .xes, but declares a document type (DTD), which is not read"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("case,activity", "a.xes: is named .xes, but is not XML"),
        ("<html></html>", "a.xes: is named .xes, but its root element is <html>, not <log>"),
        ("<<log>", "a.xes: is named .xes, but is not well-formed XML: "),
        ("", "a.xes: is empty"),
    ],
)
def test_a_file_that_is_no_xes(tmp_path: Path, content: str, message: str) -> None:
    assert refusal(write(tmp_path / "a.xes", content)).startswith(message)


def test_an_element_without_end_is_not_held_in_memory(tmp_path: Path) -> None:
    content = log(event(), event(f'<string key="x" value="{"y" * 9_000_000}"/>'))
    rows, problems = read(write(tmp_path / "a.xes", content))
    assert len(rows) == 1
    assert problems == [
        "a.xes, event 3: has more than 4194304 bytes without an event's begin or end"
    ]


def test_a_long_log_is_read_in_little_memory(tmp_path: Path) -> None:
    traces = "".join(
        f'<trace><string key="concept:name" value="c-{i}"/>{event()}</trace>' for i in range(20_000)
    )
    path = write(tmp_path / "a.xes", f"<log>{traces}</log>")
    with open_log(path) as opened:
        tracemalloc.start()
        count = sum(isinstance(item, LogRow) for item in opened)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert count == 20_000
    assert path.stat().st_size > 3_000_000
    assert peak < 1_000_000
