"""The warnings and errors that a local fleet shows of its processes' logs."""

from pathlib import Path

import pytest

from eventfleet.cli.process_logs import FollowedLog, NamedLog


class AProcess:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "output.log"

    def write(self, text: str) -> None:
        with self.path.open("a") as log:
            log.write(text)

    def followed(self) -> FollowedLog:
        return FollowedLog(NamedLog("the worker process", self.path))


@pytest.fixture
def process(tmp_path: Path) -> AProcess:
    return AProcess(tmp_path)


def test_warnings_and_errors_are_shown_once_with_their_tracebacks(process: AProcess) -> None:
    log = process.followed()
    assert log.read() == []
    process.write("2026-01-01 10:00:00,000 INFO begun\n  it goes on\n")
    process.write("2026-01-01 10:00:00,000 ERROR it failed\n")
    process.write('  File "bank.py", line 7\nKeyError: \x1b[31m\n')
    process.write("2026-01-01 10:00:00,000 INFO well\n2026-01-01 10:00:01,000 WARN")
    assert log.read() == [
        "the worker process: 2026-01-01 10:00:00,000 ERROR it failed",
        '  File "bank.py", line 7',
        r"KeyError: \x1b[31m",
    ]
    process.write("ING slow\n")
    assert log.read() == ["the worker process: 2026-01-01 10:00:01,000 WARNING slow"]
    assert log.read() == []


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('{"time": "2026", "level": "warning", "message": "slow"}', True),
        ('{"time": "2026", "level": "info", "message": "\\"level\\": \\"error\\""}', False),
        ("Traceback (most recent call last):", True),
        ("1:M 26 Nov 2026 03:04:44.093 # WARNING overcommit_memory is set to 0!", False),
    ],
)
def test_what_is_shown_goes_by_the_level_of_the_record(
    process: AProcess, line: str, shown: bool
) -> None:
    process.write(f"{line}\n")
    expected = [f"the worker process: {line}"] if shown else []
    assert process.followed().read() == expected


def test_a_long_log_is_read_in_parts(process: AProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventfleet.cli.process_logs.MAX_READ_BYTES", 60)
    line = "2026-01-01 10:00:00,000 ERROR it failed"
    process.write(f"{line}\n" * 3)
    log = process.followed()
    assert [len(log.read()) for _ in range(4)] == [1, 1, 1, 0]


def test_a_log_that_was_begun_anew_is_read_from_its_start(process: AProcess) -> None:
    log = process.followed()
    process.write("2026-01-01 10:00:00,000 ERROR it failed\n" * 2)
    assert len(log.read()) == 2
    process.path.unlink()
    process.write("2026-01-01 10:00:00,000 ERROR again\n")
    assert log.read() == ["the worker process: 2026-01-01 10:00:00,000 ERROR again"]
