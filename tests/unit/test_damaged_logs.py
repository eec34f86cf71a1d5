"""No row of a damaged log is one that the undamaged log does not have, whatever the damage.

The damages are such as a reader can see: a changed letter leaves another file that is as good, and
so does an opening quote that is gone, or a quote at the end of a cell's line.
"""

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from xml.sax.saxutils import quoteattr

import pytest

from eventfleet.log_files import LogRow, open_log

COLUMNS = ("case:concept:name", "concept:name", "time:timestamp", "note", "more")
TIME = "2024-01-01T00:00:00.000Z"
SEEDS = 400

Cells = tuple[str, ...]


def make_rows(random: Random) -> list[Cells]:
    """Rows whose cells hold lines that look like rows of the same file."""
    return [
        (f"c-{n}", random.choice("AB"), TIME, _text(random), _text(random))
        for n in range(random.randint(2, 12))
    ]


def _text(random: Random) -> str:
    pasted = ",".join(("pasted", "A", TIME, "x", "y"))
    parts = ["plain", "a,b", 'a "quote"', f"table\n{pasted}\n{pasted}\n", "<event>", "é"]
    return "x" + " ".join(random.choices(parts, k=random.randint(0, 4)))


def as_csv(rows: list[Cells]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    return text.getvalue()


def as_json(rows: list[Cells]) -> str:
    inner = dict(zip(COLUMNS, ("pasted", "A", TIME, "x", "y"), strict=True))
    objects = [dict(zip(COLUMNS, row, strict=True)) | {"inner": inner} for row in rows]
    return "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in objects)


def as_xes(rows: list[Cells]) -> str:
    def attribute(key: str, value: str) -> str:
        return f"<string key={quoteattr(key)} value={quoteattr(value)}/>"

    def trace(row: Cells) -> str:
        cells = zip(COLUMNS[1:], row[1:], strict=True)
        event = "".join(attribute(key, value) for key, value in cells)
        return f"<trace>{attribute('concept:name', row[0])}<event>{event}</event></trace>\n"

    return f"<log>\n{''.join(map(trace, rows))}</log>"


def insert(*pieces: bytes, not_before: bytes = b"") -> Callable[[bytes, Random], bytes]:
    def damage(text: bytes, random: Random) -> bytes:
        places = range(len(text) // 3, len(text))
        at = random.choice([place for place in places if text[place] not in not_before])
        return text[:at] + random.choice(pieces) + text[at:]

    return damage


def blank(text: bytes, random: Random) -> bytes:
    """Overwrite some bytes by NULs, as a file system may after a crash."""
    at, size = random.randrange(len(text) // 3, len(text)), random.randint(1, 200)
    return text[:at] + b"\0" * len(text[at : at + size]) + text[at + size :]


def join_lines(text: bytes, random: Random) -> bytes:
    ends = [at for at, byte in enumerate(text) if byte == ord("\n")]
    at = random.choice(ends)
    return text[:at] + text[at + 1 :]


def cut(text: bytes, random: Random) -> bytes:
    return text[: random.randrange(len(text) // 3, len(text))]


def cut_in_quotes(text: bytes, random: Random) -> bytes:
    """Cut where a quote is open; elsewhere the last cell may be a shorter one."""
    opened = [at for at in range(len(text)) if text[:at].count(b'"') % 2]
    return text[: random.choice(opened)] if opened else text


FORMATS = {
    ".csv": (as_csv, [insert(b'"', b'\\"', b"\xff", not_before=b",\n"), blank, cut_in_quotes]),
    ".jsonl": (
        as_json,
        [insert(b'"', b"\n", b"\xff"), blank, cut, join_lines],
    ),
    ".xes": (as_xes, [insert(b"<", b"&", b"<event>", b"<trace>", b"\xff"), blank, cut]),
}


def to_cells(row: LogRow) -> Cells:
    assert row.time == datetime(2024, 1, 1, tzinfo=UTC)
    return (row.case, row.activity, TIME, row.data["note"], row.data["more"])


@pytest.mark.parametrize("ending", FORMATS)
def test_no_row_is_made_of_a_part_of_another(tmp_path: Path, ending: str) -> None:
    write, damages = FORMATS[ending]
    path, refused = tmp_path / f"a{ending}", 0
    for seed in range(SEEDS):
        random = Random(seed)
        rows = make_rows(random)
        whole = write(rows).encode()
        path.write_bytes(whole)
        assert [to_cells(each) for each in open_log(path) if isinstance(each, LogRow)] == rows
        path.write_bytes(random.choice(damages)(whole, random))
        try:
            found = list(open_log(path))
        except Exception:
            refused += 1  # as a whole
            continue
        read = [to_cells(each) for each in found if isinstance(each, LogRow)]
        refused += len(read) < len(found)
        assert not [each for each in read if each not in rows], f"seed {seed}"
        assert read == rows or len(read) < len(found), f"seed {seed}: nothing is said"
    assert refused > SEEDS * 0.9
