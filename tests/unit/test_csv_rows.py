"""Rows and problems of CSV files."""

import gzip
import zlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from eventfleet.log_files import Columns, FileFormat, LogRow, UnusableFile, open_log
from tests.unit.row_files import read, refusal, write

HEADER = "case:concept:name,concept:name,time:timestamp,note\n"
TIME = "2011-10-11 13:45:40+02:00"


def row(case: str, note: str = "x") -> str:
    return f"{case},Check,{TIME},{note}\n"


def test_a_row_has_its_case_activity_and_time_and_the_other_columns_as_text(tmp_path: Path) -> None:
    text = "note,empty,concept:name,time:timestamp,case:concept:name\n7,,Check," + TIME + ",c-1\n"
    rows, problems = read(write(tmp_path / "a.csv", text))
    assert problems == []
    [only] = rows
    assert (only.case, only.activity, only.data) == ("c-1", "Check", {"note": "7"})
    assert only.time == datetime(2011, 10, 11, 11, 45, 40, tzinfo=UTC)


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,what,when\n1,Check,2011-10-11\n")
    rows, _ = read(path, Columns(case="id", activity="what", time="when"))
    assert [(r.case, r.activity, r.data) for r in rows] == [("1", "Check", {})]


@pytest.mark.parametrize("delimiter", [";", "\t", "|", ","])
def test_the_header_tells_the_delimiter(tmp_path: Path, delimiter: str) -> None:
    text = HEADER + 'c-1,Check,2011-10-11,"a,b;c|d\te"\n'
    swapped = text.translate(str.maketrans({",": delimiter, delimiter: ","}))
    rows, problems = read(write(tmp_path / "a.csv", swapped))
    assert problems == []
    note = "a,b;c|d\te".translate(str.maketrans({",": delimiter, delimiter: ","}))
    assert [(r.case, r.activity, r.data) for r in rows] == [("c-1", "Check", {"note": note})]
    assert rows[0].origin.decimal == ("," if delimiter == ";" else ".")


def test_a_delimiter_that_is_named_and_quotes_of_such_a_file(tmp_path: Path) -> None:
    text = HEADER.replace(",", "^") + f'c-1^Check^{TIME}^"a^b"\nc-2^Check^{TIME}^5" pipe\n'
    path = write(tmp_path / "a.csv", text)
    rows, problems = read(path, file_format=FileFormat(delimiter="^", decimal=","))
    assert [(r.data, r.origin.decimal) for r in rows] == [({"note": "a^b"}, ",")]
    assert problems[0].startswith("a.csv, line 3: is not CSV: a quote within a cell")


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
@pytest.mark.parametrize(
    ("written", "named"),
    [("utf-16", ""), ("utf-32", ""), ("utf-8-sig", ""), ("cp1252", "cp1252"), ("utf-16-le",) * 2],
)
def test_encodings_by_byte_order_mark_and_by_name(
    tmp_path: Path, name: str, written: str, named: str
) -> None:
    raw = (HEADER + row("größe", "€") * 5_000).encode(written)
    path = write(tmp_path / name, gzip.compress(raw) if name.endswith("gz") else raw)
    rows, problems = read(path, file_format=FileFormat(encoding=named))
    assert problems == []
    assert {(r.case, r.data["note"]) for r in rows} == {("größe", "€")}
    assert len(rows) == 5_000


def test_bytes_that_an_encoding_lacks_cost_their_own_line_alone(tmp_path: Path) -> None:
    raw = (HEADER + row("c-1") + row("c-2", "?") + row("c-3")).encode().replace(b"?", b"\x81")
    rows, problems = read(write(tmp_path / "a.csv", raw), file_format=FileFormat(encoding="cp1252"))
    assert [r.case for r in rows] == ["c-1", "c-3"]
    assert problems[0].startswith("a.csv, line 3: is not UTF-8: byte ")


def test_times_without_a_zone_are_of_the_zone_that_is_named(tmp_path: Path) -> None:
    text = HEADER + "c-1,Check,2011-10-11 13:45,\nc-2,Check,2011-12-11 13:45,\n" + row("c-3")
    path = write(tmp_path / "a.csv", text)
    berlin = FileFormat(zone=ZoneInfo("Europe/Berlin"))
    with open_log(path, file_format=berlin) as log:
        times = [row.time.isoformat() for row in log if isinstance(row, LogRow) and row.time]
    assert times == [f"2011-{at}+00:00" for at in ("10-11T11:45:00", "12-11T12:45:00")] + [
        "2011-10-11T11:45:40+00:00"
    ]
    assert (log.without_zone, log.without_time) == (2, 0)
    rows, _ = read(path)
    assert rows[0].time == datetime(2011, 10, 11, 13, 45, tzinfo=UTC)


def test_a_time_is_missing_only_where_it_may_be(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,at\n1,\n2,2024-03-01\n3,soon\n")
    named = Columns(case="id", time="at", fixed_activity="Open", time_optional=True)
    with open_log(path, named) as log:
        first, second, third = log
    assert isinstance(first, LogRow)
    assert isinstance(second, LogRow)
    assert (first.time, second.time) == (None, datetime(2024, 3, 1, tzinfo=UTC))
    assert str(third).endswith("line 4: at: 'soon' is not a time")
    assert log.without_time == 1
    rows, _ = read(path, replace(named, time="when"))
    assert [row.time for row in rows] == [None] * 3
    with pytest.raises(UnusableFile, match="has no column 'when'"):
        open_log(path, replace(named, time="when", time_optional=False))


MESSAGES = Columns(case="room", time="sent", id="id", actor="sender", fixed_activity="SendMessage")


def test_a_row_of_a_table_has_its_id_its_actor_and_one_activity_for_all(tmp_path: Path) -> None:
    text = "id,room,sender,content,sent\n7,r-1,ann,hi,2024-03-01\n8,r-1,bob,,2024-03-02\n"
    rows, problems = read(write(tmp_path / "a.csv", text), MESSAGES)
    assert problems == []
    assert [(r.id, r.case, r.actor, r.activity, r.data) for r in rows] == [
        ("7", "r-1", "ann", "SendMessage", {"content": "hi"}),
        ("8", "r-1", "bob", "SendMessage", {}),
    ]
    assert rows[0].named == {"id": "7", "room": "r-1", "sender": "ann", "sent": "2024-03-01"}


def test_one_column_may_be_id_and_case(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,sent\nacc-1,2024-03-01\n")
    [row], _ = read(path, Columns(case="id", id="id", time="sent", fixed_activity="Open"))
    assert (row.id, row.case, row.data) == ("acc-1", "acc-1", {})


def test_a_row_without_id_or_actor_names_line_and_column_and_the_next_are_read(
    tmp_path: Path,
) -> None:
    text = (
        "id,room,sender,content,sent\n"
        ",r-1,ann,hi,2024-03-01\n"
        "2,r-1,,hi,2024-03-01\n"
        "3,r-1,ann,hi,1 March\n"
        f"{'4' * 256},r-1,ann,hi,2024-03-01\n"
        "6,r-1,ann,hi,2024-03-01\n"
    )
    rows, problems = read(write(tmp_path / "a.csv", text), MESSAGES)
    assert [row.id for row in rows] == ["6"]
    assert problems == [
        "a.csv, line 2: id: is missing",
        "a.csv, line 3: sender: is missing",
        "a.csv, line 4: sent: '1 March' is not a time",
        "a.csv, line 5: id: has more than 255 characters",
    ]


def test_a_header_without_the_columns_of_id_and_actor_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "room,content,sent\nr-1,hi,2024-03-01\n")
    with pytest.raises(UnusableFile) as caught:
        open_log(path, MESSAGES)
    assert str(caught.value).endswith(
        "a.csv: has no column 'id' (name another by --id), 'sender' (name another by --actor); "
        "its columns are: room, content, sent"
    )


def test_byte_order_mark_windows_line_ends_quoted_newlines_and_blank_lines(tmp_path: Path) -> None:
    text = HEADER + row("c-1", '"two\nlines, ""quoted"""') + "\n" + row("c-2")
    rows, problems = read(write(tmp_path / "a.csv", "\ufeff" + text.replace("\n", "\r\n")))
    assert problems == []
    assert [(r.case, r.data["note"], r.number) for r in rows] == [
        ("c-1", 'two\r\nlines, "quoted"', 2),
        ("c-2", "x", 5),
    ]


def test_each_bad_row_is_named_and_the_good_ones_are_read(tmp_path: Path) -> None:
    lines = [
        row("c-1"),
        f"c-2,Check,{TIME}\n",
        row(""),
        row("   "),
        "c-5,Check,2011-99-01,x\n",
        "c-6,Check,,x\n",
        f"c-7,,{TIME},x\n",
        row("c" * 256),
        row("c-9"),
    ]
    rows, problems = read(write(tmp_path / "a.csv", HEADER + "".join(lines)))
    assert [r.case for r in rows] == ["c-1", "c-9"]
    assert problems == [
        "a.csv, line 3: has 3 fields, the header has 4",
        "a.csv, line 4: case:concept:name: is missing",
        "a.csv, line 5: case:concept:name: is empty",
        "a.csv, line 6: time:timestamp: '2011-99-01' is not a time",
        "a.csv, line 7: time:timestamp: is missing",
        "a.csv, line 8: concept:name: is missing",
        "a.csv, line 9: case:concept:name: has more than 255 characters",
    ]


UNKNOWN = "from there on it is unknown where a row begins: the rest of the file is not read"
OPEN = f"is not CSV: a quote is not closed; {UNKNOWN}"
BARE = "is not CSV: a quote within a cell: put such a cell in quotes, and write each "
BEHIND = f"is not CSV: ',' expected after '\"'; {UNKNOWN}"
PASTED = "".join(row(f"pasted-{i}") for i in range(5000))
"""Lines within a cell that look like rows."""


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        (f'"{PASTED}', OPEN),
        (f'"a "quote" {PASTED}"', BEHIND),
        (f'"a \\"quote\\" {PASTED}"', BEHIND),
        (f'"a" \n{PASTED}"', BEHIND),
        (f'a "quote", {PASTED}', BARE),
        (f'z"{PASTED}"', BARE),
        (f'"a",b\n{PASTED}"', f"has 5 fields, the header has 4; {UNKNOWN}"),
        (f'"{"z" * 9_000_000}\n{PASTED}"', f"is longer than 4194304 bytes; {UNKNOWN}"),
        (f'a\r"{PASTED}"', "is not CSV: new-line character seen in unquoted field"),
    ],
    ids=[
        "open",
        "bare",
        "escaped",
        "behind",
        "unquoted",
        "shifted",
        "more cells",
        "long",
        "bare CR",
    ],
)
def test_a_parser_that_has_lost_its_place_ends_there(tmp_path: Path, cell: str, why: str) -> None:
    text = HEADER + row("c-1") + row("bad", cell) + row("c-3")
    rows, problems = read(write(tmp_path / "a.csv", text))
    assert [r.case for r in rows] == ["c-1"]
    assert len(problems) == 1
    assert problems[0].startswith(f"a.csv, line 3: {why}")
    assert problems[0].endswith(UNKNOWN)


def test_behind_a_nul_nothing_is_read(tmp_path: Path) -> None:
    good = [row(f"c-{i}", "z" * 1000) for i in range(500)]
    text = HEADER + "".join(good) + row("bad", "\0" * 50) + PASTED
    rows, problems = read(write(tmp_path / "a.csv", text))
    assert [r.case for r in rows] == [f"c-{i}" for i in range(500)]
    assert problems == [
        f"a.csv, line 502: is not CSV: has a NUL, so the file is damaged; {UNKNOWN}"
    ]


def test_a_bad_row_without_a_quote_costs_its_own_line_alone(tmp_path: Path) -> None:
    text = HEADER + row("c-1") + row("c-2", "a\rb") + row("c-3") + row("c-4", '"two\nlines"')
    rows, problems = read(write(tmp_path / "a.csv", text))
    assert [r.case for r in rows] == ["c-1", "c-3", "c-4"]
    assert len(problems) == 1
    assert problems[0].startswith("a.csv, line 3: is not CSV: new-line character")


@pytest.mark.parametrize("size", [131_073, 3_000_000])
def test_a_large_cell_is_one_cell(tmp_path: Path, size: int) -> None:
    cell = (PASTED * (size // len(PASTED) + 1))[:size]
    text = HEADER + row("c-1", f'"{cell}"') + row("c-2")
    rows, problems = read(write(tmp_path / "a.csv", text))
    assert problems == []
    assert [(r.case, r.data["note"]) for r in rows] == [("c-1", cell), ("c-2", "x")]


def test_bytes_that_are_not_utf_8_within_a_cell_of_several_lines_cost_its_row(
    tmp_path: Path,
) -> None:
    text = HEADER + row("c-1") + row("c-2", f'"caf@\n{PASTED}"') + row("c-3")
    rows, problems = read(write(tmp_path / "a.csv", text.encode().replace(b"@", b"\xe9")))
    assert [r.case for r in rows] == ["c-1", "c-3"]
    assert len(problems) == 1
    assert problems[0].startswith("a.csv, line 3: is not UTF-8: byte ")


def test_bytes_that_are_not_utf_8_cost_their_own_line_alone(tmp_path: Path) -> None:
    raw = (HEADER + row("c-1")).encode() + b"c-2,Ch\xffck,,\n" + row("c-3").encode()
    rows, problems = read(write(tmp_path / "a.csv", raw))
    assert [r.case for r in rows] == ["c-1", "c-3"]
    assert problems == ["a.csv, line 3: is not UTF-8: byte 7 is 0xff"]


def test_an_endless_line_is_passed_over_without_being_held(tmp_path: Path) -> None:
    raw = HEADER + row("c-1") + "z" * 9_000_000 + "\n" + row("c-3")
    rows, problems = read(write(tmp_path / "a.csv", raw))
    assert [(r.case, r.number) for r in rows] == [("c-1", 2), ("c-3", 4)]
    assert problems == ["a.csv, line 3: is longer than 4194304 bytes"]


def test_a_truncated_gzip_gives_every_row_before_the_break(tmp_path: Path) -> None:
    text = HEADER + "".join(row(f"c-{i}", str(i * 7919 % 10007)) for i in range(20_000))
    whole = gzip.compress(text.encode())
    cut = whole[: len(whole) // 2]
    path = write(tmp_path / "a.csv.gz", cut)
    there = zlib.decompressobj(wbits=31).decompress(cut).count(b"\n")
    rows, problems = read(path)
    assert [r.case for r in rows] == [f"c-{i}" for i in range(there - 1)]
    assert problems == [
        f"a.csv.gz, line {there + 1}: the file breaks off: "
        f"its gzip data is truncated at byte {len(cut)}"
    ]


def test_a_damaged_gzip_gives_the_rows_before_the_damage(tmp_path: Path) -> None:
    text = HEADER + "".join(row(f"c-{i}", str(i * 7919 % 10007)) for i in range(20_000))
    raw = bytearray(gzip.compress(text.encode()))
    middle = len(raw) // 2
    raw[middle : middle + 64] = b"\xff" * 64
    rows, problems = read(write(tmp_path / "a.csv.gz", bytes(raw)))
    assert len(rows) > 1000
    assert [r.case for r in rows[:1000]] == [f"c-{i}" for i in range(1000)]
    assert "the file breaks off: its gzip data is damaged near byte" in problems[-1]


def test_a_missing_column_is_an_error_of_the_whole_file(tmp_path: Path) -> None:
    assert refusal(write(tmp_path / "a.csv", "case,concept:name,when\n")) == (
        "a.csv: has no column 'case:concept:name' (name another by --case), "
        "'time:timestamp' (name another by --time); its columns are: case, concept:name, when"
    )


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    text = HEADER.replace("\n", ",note\n")
    assert refusal(write(tmp_path / "a.csv", text)) == "a.csv: has more than one column 'note'"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "a.csv: is empty"),
        ("a.csv", b"\n \n", "a.csv: is empty"),
        ("a.csv.gz", b"", "a.csv.gz: is empty"),
        ("a.csv.gz", gzip.compress(b"", mtime=0), "a.csv.gz: is empty"),
        ("a.csv.gz", HEADER.encode(), "a.csv.gz: is named .gz, but is not gzip-compressed"),
        (
            "a.csv.gz",
            gzip.compress(HEADER.encode(), mtime=0)[:12],
            "a.csv.gz: the header can't be read: the file breaks off: "
            "its gzip data is truncated at byte 12",
        ),
        (
            "a.csv",
            gzip.compress(HEADER.encode(), mtime=0),
            "a.csv: is gzip-compressed: its name must end in .gz",
        ),
        ("a.csv", b"\x7fELF\x00\x01", "a.csv: is binary or not in UTF-8"),
        ("a.csv", HEADER.encode("utf-16-le"), "a.csv: is binary or not in UTF-8"),
        (
            "a.csv",
            "größe,x\n".encode("latin-1"),
            "a.csv: the header can't be read: is not UTF-8 (name the encoding by --encoding): "
            "byte 3 is 0xf6",
        ),
        ("a.csv", b'\n{"a": 1}\n', "a.csv: is named .csv, but looks like JSON"),
        ("a.csv", b"<log/>", "a.csv: is named .csv, but looks like XML"),
        (
            "a.txt",
            b"x",
            "a.txt: a log file ends in one of .csv, .jsonl, .ndjson, .xes, each also with .gz",
        ),
        (
            "a.gz",
            b"x",
            "a.gz: a log file ends in one of .csv, .jsonl, .ndjson, .xes, each also with .gz",
        ),
    ],
)
def test_a_file_that_is_not_what_its_name_says(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    assert refusal(write(tmp_path / name, content)) == message


def test_a_file_that_is_not_there_or_is_a_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.csv") == "none.csv: there is no such file"
    (tmp_path / "folder.csv").mkdir()
    assert refusal(tmp_path / "folder.csv") == "folder.csv: can't be opened: Is a directory"


def test_size_and_done_tell_how_far_the_reading_is(tmp_path: Path) -> None:
    text = HEADER + "".join(row(f"c-{i}", str(i * 7919)) for i in range(50_000))
    with open_log(write(tmp_path / "a.csv.gz", gzip.compress(text.encode()))) as log:
        rows = iter(log)
        next(rows)
        early = log.bytes_read
        for _ in rows:
            pass
        assert 0 < early < log.size // 2
        assert log.bytes_read == log.size
