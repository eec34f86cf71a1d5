"""The command line where no server is asked: help, settings, usage, wrong names."""

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner, Result

from eventfleet.cli import main
from eventfleet.runtime.settings import PREFIX


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith(PREFIX)]:
        monkeypatch.delenv(name)


def run(*arguments: str, **variables: str) -> Result:
    environment = {PREFIX + name: value for name, value in variables.items()}
    return CliRunner().invoke(main, arguments, env=environment)


def test_settings_prints_each_with_value_source_and_description() -> None:
    done = run("settings", PARTITIONS="12")
    assert done.exit_code == 0
    (line,) = [line for line in done.output.splitlines() if "EVENTFLEET_PARTITIONS" in line]
    assert line.split(maxsplit=3)[1:3] == ["12", "environment"]
    assert "Partitions of each topic" in line


def test_settings_as_json_masks_secrets() -> None:
    done = run("settings", "--json", KAFKA_PASSWORD="hunter2", MONGO_URL="mongodb://a:hunter2@b/")
    assert "hunter2" not in done.output
    rows = {row["variable"]: row for row in json.loads(done.output)}
    assert rows["EVENTFLEET_KAFKA_PASSWORD"]["value"] == "***"
    assert rows["EVENTFLEET_MONGO_URL"]["value"] == "mongodb://***@b/"
    assert rows["EVENTFLEET_MONGO_URL"]["source"] == "environment"
    assert rows["EVENTFLEET_PORT"] == {
        "variable": "EVENTFLEET_PORT",
        "value": 6066,
        "source": "default",
        "description": "Port of a worker's own page; 0: any free one",
    }


@pytest.mark.parametrize(
    "command",
    [
        ("settings",),
        ("events", "orders", "1"),
        ("snapshot", "orders", "1"),
        ("state", "orders", "1"),
        ("topics", "create"),
        ("serve",),
    ],
)
def test_a_wrong_setting_ends_every_command_with_status_2(command: tuple[str, ...]) -> None:
    done = run(*command, PORT="x", PARTITIONS="0")
    assert done.exit_code == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("eventfleet: EVENTFLEET_PARTITIONS='0': ")
    assert lines[1].startswith("eventfleet: EVENTFLEET_PORT='x': ")


@pytest.mark.parametrize(
    "command",
    [
        ("events", "orderz", "1"),
        ("snapshot", "orderz", "1"),
        ("state", "orderz", "1"),
        ("topics", "create", "orderz"),
        ("serve", "orderz"),
    ],
)
def test_an_unknown_domain_is_answered_with_the_known_ones(command: tuple[str, ...]) -> None:
    done = run(*command)
    assert done.exit_code == 1
    known = "bank, orders, process_log, trading"
    assert done.stderr == f"eventfleet: no domain 'orderz'; there are {known}\n"


def test_a_module_that_is_absent_is_named() -> None:
    done = run("events", "orders", "1", DOMAINS="no.such.module")
    assert done.exit_code == 1
    assert done.stderr.startswith("eventfleet: no.such.module: can't be imported: ")


@pytest.mark.parametrize(
    "command",
    [
        ("events", "orders"),
        ("events", "orders", "1", "--after", "-1"),
        ("events", "orders", "1", "--limit", "0"),
        ("state", "orders", "1", "--version", "0"),
        ("worker",),
        ("worker", "cook"),
        ("nonsense",),
    ],
)
def test_wrong_usage_has_status_2(command: tuple[str, ...]) -> None:
    assert run(*command).exit_code == 2


def test_version() -> None:
    done = run("--version")
    assert done.exit_code == 0
    assert done.output.startswith("eventfleet ")


def test_help_loads_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys; from eventfleet.cli import main; "
        "main(['--help'], standalone_mode=False); "
        "print([m for m in ('faust', 'aiokafka', 'motor', 'pymongo', 'pydantic', 'rich', 'aiohttp',"
        " 'starlette', 'uvicorn', 'joserfc')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "shop.example"])
def test_the_service_is_not_open_to_others_without_a_key(host: str) -> None:
    done = run("serve", "orders", HTTP_HOST=host)
    assert done.exit_code == 1
    assert done.stderr == (
        f"eventfleet: EVENTFLEET_HTTP_HOST={host} is reachable from other machines: "
        "set EVENTFLEET_TOKEN_KEY_FILE\n"
    )


def test_a_service_that_does_not_answer_is_told() -> None:
    done = run("state", "orders", "1", SERVICE_URL="http://127.0.0.1:1")
    assert done.exit_code == 1
    assert done.stderr.startswith("eventfleet: the service did not answer as it should: ")


def test_the_token_for_a_service_is_masked() -> None:
    done = run("settings", "--json", SERVICE_URL="http://h:1", SERVICE_TOKEN="hunter2")
    assert "hunter2" not in done.output
    assert "http://h:1" in done.output
