"""The log on standard error: its level, and its form for people or for programs."""

import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from eventfleet.cli import main
from eventfleet.cli.local_fleet import URL_FILE, read_url
from eventfleet.cli.logs import LogHandler, log_debug, log_progress, logs_json
from eventfleet.runtime.settings import SettingsError, load_settings

OURS, LIBRARY = logging.getLogger("eventfleet.some.module"), logging.getLogger("aiokafka.client")
LEVELS = ("debug", "info", "warning", "error")


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The logging of the tests comes back after a test."""
    root, own = logging.getLogger(), logging.getLogger("eventfleet")
    levels = root.level, own.level
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    silenced = [logging.getLogger("aiokafka"), LIBRARY]  # perhaps, by what other tests have run
    for library in silenced:
        monkeypatch.setattr(library, "propagate", True)
        monkeypatch.setattr(library, "disabled", False)
    known = [library.level for library in silenced]
    for library in silenced:
        library.setLevel(logging.NOTSET)
    own.setLevel(logging.NOTSET)
    yield
    logging.captureWarnings(False)
    root.handlers[:] = [each for each in root.handlers if not isinstance(each, LogHandler)]
    for library, level in zip(silenced, known, strict=True):
        library.setLevel(level)
    root.setLevel(levels[0])
    own.setLevel(levels[1])


def log_as_in_a_new_process() -> None:
    """Begin without the handlers of the test runner, which has them for the time of a test."""
    logging.getLogger().handlers[:] = []
    log_progress()


def set_log(monkeypatch: pytest.MonkeyPatch, level: str | None, form: str | None) -> None:
    for name, value in (("EVENTFLEET_LOG_LEVEL", level), ("EVENTFLEET_LOG_FORMAT", form)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)


def log_at_each_level(logger: logging.Logger) -> None:
    for level in LEVELS:
        logger.log(logging.getLevelNamesMapping()[level.upper()], "at %s", level)


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    ("level", "ours", "library"),
    [
        (None, LEVELS[1:], LEVELS[2:]),
        ("debug", LEVELS, LEVELS[1:]),
        ("info", LEVELS[1:], LEVELS[2:]),
        ("warning", LEVELS[2:], LEVELS[2:]),
        ("error", LEVELS[3:], LEVELS[3:]),
    ],
)
def test_the_level_is_ours_and_libraries_are_heard_from_warnings_on(
    level: str | None,
    ours: tuple[str, ...],
    library: tuple[str, ...],
    form: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_log(monkeypatch, level, form)
    log_as_in_a_new_process()
    for logger, expected in ((OURS, ours), (LIBRARY, library)):
        log_at_each_level(logger)
        lines = capsys.readouterr().err.splitlines()
        messages = [json.loads(each)["message"] if form == "json" else each for each in lines]
        assert [each.rpartition("at ")[2] for each in messages] == list(expected)


@pytest.mark.parametrize("form", ["text", "json"])
def test_verbose_means_debug_whatever_the_setting(
    form: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_log(monkeypatch, "error", form)
    logging.getLogger().handlers[:] = []
    log_debug()
    log_progress()
    log_at_each_level(OURS)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(LEVELS)
    assert all(line.startswith("{") == (form == "json") for line in lines)


def test_text_is_time_level_and_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_log(monkeypatch, None, None)
    log_as_in_a_new_process()
    OURS.info("served %d", 3, extra={"domain": "orders"})
    line = capsys.readouterr().err
    assert line.endswith(" INFO served 3\n")
    assert datetime.fromisoformat(line.partition(",")[0])
    assert not logs_json()


def test_json_is_one_object_a_line_with_extra_fields(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_log(monkeypatch, None, "json")
    log_as_in_a_new_process()
    assert logs_json()
    before = datetime.now(UTC)
    fields = {"domain": "orders", "partition": 3, "correlation_id": None, "role": "append"}
    OURS.warning("two\nlines, a lone \ud800 and ä", extra=fields)
    (line,) = objects(capsys.readouterr().err)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "eventfleet.some.module",
        "message": "two\nlines, a lone \ud800 and ä",
        "domain": "orders",
        "partition": 3,
        "role": "append",
    }
    OURS.warning("now")
    (line,) = objects(capsys.readouterr().err)
    assert list(line)[:4] == ["time", "level", "logger", "message"]
    assert abs(datetime.fromisoformat(line["time"]) - before) < timedelta(minutes=1)


def test_a_traceback_is_a_field(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_log(monkeypatch, None, "json")
    log_as_in_a_new_process()
    try:
        raise LookupError("a bug")
    except LookupError:
        OURS.exception("failed")
    OURS.error("failed\n%s", "in evolve: a bug", extra={"exception": "in evolve: a bug"})
    raised, told = objects(capsys.readouterr().err)
    assert raised["message"] == told["message"] == "failed"
    assert raised["exception"].startswith("Traceback")
    assert raised["exception"].endswith("LookupError: a bug")
    assert told["exception"] == "in evolve: a bug"


def test_unforeseen_errors_and_warnings_are_objects_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_log(monkeypatch, None, "json")
    log_as_in_a_new_process()
    error = ZeroDivisionError("a bug")

    def fail() -> None:
        raise error

    sys.excepthook(ZeroDivisionError, error, None)
    thread = threading.Thread(target=fail, name="the consumer")
    thread.start()
    thread.join()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old", stacklevel=1)
    ended, thread_ended, warned = objects(capsys.readouterr().err)
    assert ended["level"] == thread_ended["level"] == "critical"
    assert "ZeroDivisionError: a bug" in ended["exception"]
    assert "the consumer ended" in thread_ended["message"]
    assert "ZeroDivisionError: a bug" in thread_ended["exception"]
    assert "old" in warned["message"]


def test_the_handlers_of_others_are_left_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_log(monkeypatch, None, "json")
    logging.getLogger().handlers[:] = []
    logging.basicConfig(format="theirs %(message)s")
    log_progress()
    OURS.info("hello")
    assert capsys.readouterr().err == "theirs hello\n"
    logging.getLogger().handlers[:] = []


@pytest.mark.parametrize(
    ("name", "value", "known"),
    [
        ("LOG_LEVEL", "INFO", "'debug', 'info', 'warning' or 'error'"),
        ("LOG_FORMAT", "xml", "'text' or 'json'"),
    ],
)
def test_a_wrong_setting_is_named_and_does_not_hide_the_log(
    name: str, value: str, known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_log(monkeypatch, None, None)
    monkeypatch.setenv(f"EVENTFLEET_{name}", value)
    log_as_in_a_new_process()
    assert OURS.isEnabledFor(logging.INFO)
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert str(raised.value) == f"EVENTFLEET_{name}={value!r}: should be {known}"


@pytest.mark.parametrize("command", ["serve", "worker append", "up", "run"])
@pytest.mark.parametrize("verbose", [False, True])
def test_the_error_that_ends_a_command_is_an_object_where_the_log_is(
    command: str, verbose: bool
) -> None:
    environment = {
        "EVENTFLEET_LOG_FORMAT": "json",
        "EVENTFLEET_DOMAINS": "no.such.module",
        "EVENTFLEET_HOST": "127.0.0.1",
    }
    arguments = ["--verbose"] * verbose + command.split()
    logging.getLogger().handlers[:] = []
    done = CliRunner().invoke(main, arguments, env=environment)
    assert done.exit_code == 1
    renamed, last = objects(done.stderr)
    assert "now named EVENTFLEET_METRICS_HOST" in renamed["message"]
    assert last["level"] == "critical"
    assert "no.such.module" in last["message"]
    assert ("exception" in last) == verbose


def test_a_local_fleet_finds_its_service_whatever_the_log(tmp_path: Path) -> None:
    assert read_url(tmp_path) == ""
    (tmp_path / URL_FILE).write_text("http://127.0.0")
    assert read_url(tmp_path) == "", "the line is not complete"
    (tmp_path / URL_FILE).write_text("http://127.0.0.1:8080\n")
    assert read_url(tmp_path) == "http://127.0.0.1:8080"
