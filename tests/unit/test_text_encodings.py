"""Bytes that are not UTF-8: refused in the same words at every door, and never a traceback."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from eventfleet.cli import main
from eventfleet.log_files import RowProblem, open_log
from eventfleet.stores.readiness_report import read_reasons
from eventfleet.stores.redis.notices import _unpack
from eventfleet.topics.codec import decode_command
from eventfleet.topics.errors import InvalidRecord
from tests.unit.http_fixture import web
from tests.unit.row_files import write

REASON = "is not UTF-8: byte {} is 0xe9"
JSON = b'{"a":"caf\xe9"}'


@pytest.mark.parametrize(
    "arguments",
    [
        ("send", "orders", "caf\udce9", "Place"),
        ("send", "orders", "o-1", "Place", '{"customer":"caf\udce9"}'),
        ("state", "orders", "o-1", "--at", "caf\udce9"),
        ("caf\udce9",),
    ],
)
def test_an_argument_of_another_encoding_is_wrong_usage(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    number = next(n for n, text in enumerate(arguments, 1) if not text.isascii())
    at = arguments[number - 1].index("\udce9") + 1
    assert f"argument {number} {REASON.format(at)}" in done.output


def test_a_file_may_have_a_name_of_another_encoding(tmp_path: Path) -> None:
    file = write(tmp_path / "caf\udce9.json", JSON)
    done = CliRunner().invoke(main, ("send", "orders", "o-1", "Place", f"@{file}"))
    assert f"the payload {REASON.format(10)}" in done.output


async def test_a_path_a_query_and_a_body_are_utf_8() -> None:
    async with web() as found:
        body = await found.client.post(
            "/domains/orders/o-1/commands/Place",
            content=JSON,
            headers={"content-type": "application/json"},
        )
        answers = {
            "body": body,
            "id": await found.get("caf%E9/state"),
            "types": await found.get("o-1/events?types=caf%E9"),
            "query": await found.get("o-1/events?caf%E9=1"),
        }
        for field, answer in answers.items():
            assert answer.status_code == 422, answer.text
            at = 10 if field == "body" else 4
            assert (answer.json()["field"], answer.json()["reason"]) == (field, REASON.format(at))


def test_a_record_and_a_line_are_utf_8(tmp_path: Path) -> None:
    with pytest.raises(InvalidRecord, match=REASON.format(10)):
        decode_command(JSON)
    with open_log(write(tmp_path / "a.jsonl", JSON)) as rows:
        assert [row.reason for row in rows if isinstance(row, RowProblem)] == [REASON.format(10)]


async def test_a_foreign_notice_is_passed_over() -> None:
    async def messages() -> AsyncIterator[Sequence[bytes]]:
        yield [b'[["\xe9"]]', b"[" * 100_000]

    assert [notice async for notice in _unpack(messages())] == []


def test_a_foreign_answer_of_ready_has_no_reasons() -> None:
    assert read_reasons(b'{"status": "\xe9", "reasons": []}') == []
