"""The command line where no server is asked: help, settings, usage, wrong names."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from joserfc.jwk import ECKey

from eventfleet.cli import main
from eventfleet.cli.hints import _environment
from eventfleet.cli.local_fleet import SAMPLE_DOMAINS, with_domains
from eventfleet.cli.queries import _print_diff
from eventfleet.cli.send import STATUSES
from eventfleet.deciders.outcomes import Accepted
from eventfleet.runtime.connections import select_domains
from eventfleet.runtime.settings import PREFIX, Settings
from eventfleet.service import stage_waiter
from eventfleet.service.stage_waiter import WaitResult
from eventfleet.states.querier import StateDiff
from eventfleet.stores.contracts import Disposition, DispositionKind, Stage
from tests.unit.http_fixture import PLACE, web


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
    assert rows["EVENTFLEET_METRICS_PORT"] == {
        "variable": "EVENTFLEET_METRICS_PORT",
        "value": 6066,
        "source": "default",
        "description": "Port of a worker's metrics and health pages; 0: any free port",
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
    done = run(*command, METRICS_PORT="x", PARTITIONS="0")
    assert done.exit_code == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert sorted(line.split(": ")[1] for line in lines) == [
        "EVENTFLEET_METRICS_PORT='x'",
        "EVENTFLEET_PARTITIONS='0'",
    ]


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
    done = run(*command, DOMAINS=SAMPLE_DOMAINS)
    assert done.exit_code == 1
    known = "bank, cart, game, orders, process_log, trading"
    expected = f"there is no domain 'orderz': EVENTFLEET_DOMAINS declares {known}"
    assert done.stderr == f"eventfleet: {expected}\n"


@pytest.mark.parametrize(
    "command",
    [
        ("audit",),
        ("check",),
        ("check", "--events", "-"),
        ("diff", "orders", "1", "0"),
        ("events", "orders", "1"),
        ("health", "orders"),
        ("restore", "orders"),
        ("rewind", "orders"),
        ("send", "orders", "1", "Deliver"),
        ("serve",),
        ("snapshot", "orders", "1"),
        ("state", "orders", "1"),
        ("topics", "create"),
        ("topics", "raise-epoch", "orders"),
        ("worker", "append"),
    ],
)
def test_only_up_and_run_work_without_the_setting_domains(command: tuple[str, ...]) -> None:
    done = run(*command)
    assert done.exit_code == 2
    assert done.stderr.startswith("eventfleet: EVENTFLEET_DOMAINS is not set: ")


def test_up_runs_the_sample_domains_where_none_are_set() -> None:
    settings = with_domains(Settings())
    known = select_domains(settings)
    assert sorted(known) == [
        *("bank", "cart", "game"),
        *("orders", "process_log", "trading"),
    ]
    own = Settings(domains="eventfleet.domains.bank")
    assert with_domains(own) == own


def test_run_needs_a_log_where_the_sample_domain_is_not_declared() -> None:
    done = run("run", "--once", DOMAINS="eventfleet.domains.bank")
    assert done.exit_code == 2
    assert "EVENTFLEET_DOMAINS does not declare orders: name a log" in done.stderr


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


def test_the_service_does_not_start_with_a_providers_key_and_no_audience(tmp_path: Path) -> None:
    public = ECKey.generate_key("P-256").as_dict(private=False)
    (key := tmp_path / "key").write_text(json.dumps({"keys": [public]}))
    done = run("serve", "orders", TOKEN_KEY_FILE=str(key), DOMAINS=SAMPLE_DOMAINS)
    assert done.exit_code == 1
    assert done.stderr.startswith("eventfleet: EVENTFLEET_TOKEN_AUDIENCE is needed: keys other")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "shop.example"])
def test_the_service_is_not_open_to_others_without_a_key(host: str) -> None:
    done = run("serve", "orders", HTTP_HOST=host, DOMAINS=SAMPLE_DOMAINS)
    assert done.exit_code == 1
    assert done.stderr == (
        f"eventfleet: EVENTFLEET_HTTP_HOST={host} is reachable from other machines: "
        "set EVENTFLEET_TOKEN_KEY_FILE or EVENTFLEET_TOKEN_KEY_URL\n"
    )


def test_a_service_that_does_not_answer_is_told() -> None:
    done = run("state", "orders", "1", SERVICE_URL="http://127.0.0.1:1")
    assert done.exit_code == 1
    assert done.stderr.startswith("eventfleet: the service did not answer as expected: ")


def test_the_token_for_a_service_is_masked() -> None:
    done = run("settings", "--json", SERVICE_URL="http://h:1", SERVICE_TOKEN="hunter2")
    assert "hunter2" not in done.output
    assert "http://h:1" in done.output


# send


@pytest.mark.parametrize("payload", ["[", "[]", "1", ""])
def test_a_payload_that_is_no_json_object_is_wrong_usage(payload: str) -> None:
    done = run("send", "orders", "1", "Deliver", payload, DOMAINS=SAMPLE_DOMAINS)
    assert done.exit_code == 2
    assert "the payload is not " in done.stderr


def test_a_key_of_a_payload_is_given_once() -> None:
    done = run("send", "orders", "1", "Pay", '{"amount":1,"amount":9}', DOMAINS=SAMPLE_DOMAINS)
    assert done.exit_code == 2
    assert "the payload's amount is given more than once" in done.stderr


def test_a_payload_is_given_once() -> None:
    done = run("send", "orders", "1", "Deliver", "{}", "--data", "{}")
    assert done.exit_code == 2
    assert "JSON and --data: only one of them" in done.stderr


def test_a_payloads_file_that_is_absent_is_named() -> None:
    done = run("send", "orders", "1", "Deliver", "@nowhere.json")
    assert done.exit_code == 2
    assert "nowhere.json can't be read: No such file" in done.stderr


@pytest.mark.parametrize("options", [["@FILE"], ["--data", "@FILE"], ["-d", "-"], ["-"], ["@-"]])
def test_a_payload_comes_from_a_file_or_standard_input(
    options: list[str], tmp_path: Path, service: "ServiceStub"
) -> None:
    payload = b'{"amount": 7}'
    file = tmp_path / "payload.json"
    file.write_bytes(payload)
    arguments = [option.replace("FILE", str(file)) for option in options]
    variables = {PREFIX + "SERVICE_URL": service.url}
    command = ["send", "orders", "1", "Pay", *arguments]
    done = CliRunner().invoke(main, command, env=variables, input=payload)
    assert done.exit_code == 0, done.output
    assert service.bodies == [payload.replace(b" ", b"")]


ACCEPTED = {"outcome": "accepted", "command_id": "c", "event_id": "e", "place": "orders.events/0"}


@pytest.mark.parametrize(
    ("answer", "status", "printed"),
    [
        (ACCEPTED | {"stage": "accepted"}, 0, "accepted: event e in orders.events/0"),
        (
            ACCEPTED | {"outcome": "repeated", "version": 4, "stage": "accepted"},
            0,
            "repeated: event e in orders.events/0, version 4",
        ),
        ("rejected", 3, "rejected: because"),
        ("conflict", 3, "conflict: because"),
        ("id-reused", 3, "rejected: because"),
        ("invalid", 4, "invalid: the service refused: "),
        ("decide-failed", 4, "failed: the service refused: "),
        ("unknown-command", 4, "invalid: the service refused: "),
        ("unavailable", 6, "unavailable: because"),
        ("busy", 6, "unavailable: because"),
        ("broken", 6, "unavailable: because"),
    ],
)
def test_each_outcome_has_its_status(
    answer: Any, status: int, printed: str, service: "ServiceStub"
) -> None:
    service.answer = answer
    arguments = ("send", "orders", "1", "Deliver", "--command-id", "c")
    done = run(*arguments, SERVICE_URL=service.url)
    assert (done.exit_code, done.output.startswith(printed)) == (status, True), done.output
    done = run(*arguments, "--json", SERVICE_URL=service.url)
    assert done.exit_code == status
    told = json.loads(done.stdout)
    assert (told["command_id"], STATUSES[told["outcome"]]) == ("c", status)


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        (DispositionKind.PARKED, "eventfleet deadletters show orders append o-1"),
        (DispositionKind.DISCARDED, "an operator has decided that it is passed over"),
        (DispositionKind.SUPERSEDED, "send the command anew, with another id"),
        (DispositionKind.UNREADABLE, "send the command anew, with another id"),
    ],
)
def test_who_waits_is_told_at_each_door_what_became_of_the_event(
    kind: DispositionKind, advice: str, service: "ServiceStub", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_waiter, "REPEAT_SECONDS", 0.05)
    disposition = Disposition(kind, "append", "LookupError: thirteen")

    async def in_python_and_over_http() -> tuple[WaitResult, httpx.Response]:
        async with web() as shop:
            shop.storing.disposition = disposition
            asked = {"wait": Stage.APPENDED, "patience": 60.0}
            waited = await shop.service.send("o-1", "Place", PLACE, **asked)
            return waited, await shop.send("o-1/commands/Place?wait=appended", Prefer="wait=60")

    waited, answer = asyncio.run(in_python_and_over_http())
    assert isinstance(waited.outcome, Accepted)
    assert (waited.stage, waited.disposition) == (Stage.ACCEPTED, disposition)
    body = answer.json()
    told = {"kind": kind.value, "role": "append", "reason": "LookupError"}
    assert (answer.status_code, body["stage"], body["disposition"]) == (202, "accepted", told)
    service.answer = body
    arguments = ("send", "orders", "o-1", "Deliver", "--wait", "appended")
    done = run(*arguments, SERVICE_URL=service.url)
    assert done.exit_code == STATUSES["held-up"] == 8
    assert f"not appended: {kind.value} in append: LookupError" in done.stderr
    assert advice in done.stderr
    done = run(*arguments, "--json", SERVICE_URL=service.url)
    assert done.exit_code == 8
    printed = json.loads(done.stdout)
    assert (printed["outcome"], printed["disposition"]) == ("accepted", told)


@pytest.mark.parametrize(
    ("expected", "header"), [("0", '"0"'), ("17", '"17"'), ("*", "*"), (None, None)]
)
def test_another_version_than_expected_has_its_status_and_says_the_present_one(
    expected: str | None, header: str | None, service: "ServiceStub"
) -> None:
    service.answer = "version-conflict"
    arguments = ["send", "bank", "1", "Close", "--command-id", "c"]
    arguments += ["--expected-version", expected] if expected else []
    done = run(*arguments, SERVICE_URL=service.url)
    assert done.exit_code == STATUSES["version-conflict"] == 7
    assert done.stdout == "conflict: because\n"
    assert "nothing is done: read the state again" in done.stderr
    assert "--expected-version 4" in done.stderr
    done = run(*arguments, "--json", SERVICE_URL=service.url)
    assert done.exit_code == 7
    answer = {"outcome": "conflict", "command_id": "c", "reason": "because", "version": 4}
    assert json.loads(done.stdout) == answer
    assert [headers["If-Match"] for headers in service.headers] == [header, header]


@pytest.mark.parametrize("wrong", ["-1", "1.0", "", "one", "٤", str(2**63), "W/1"])
def test_what_is_no_version_is_wrong_usage(wrong: str) -> None:
    done = run("send", "bank", "1", "Close", f"--expected-version={wrong}")
    assert done.exit_code == 2
    assert "--expected-version" in done.stderr
    assert "is neither an integer from 0 to 2^63-1 nor '*'" in done.stderr


def test_help_has_the_status_of_a_conflict() -> None:
    assert "7  conflict: the aggregate is at another version" in run("send", "--help").output


def test_a_stage_that_is_not_reached_in_time_has_its_status(service: "ServiceStub") -> None:
    service.answer = ACCEPTED | {"stage": "appended"}
    arguments = ("send", "orders", "1", "Deliver", "--wait", "relayed", "--patience", "2")
    done = run(*arguments, SERVICE_URL=service.url)
    assert done.exit_code == STATUSES["late"] == 5
    assert done.stdout == "accepted: event e in orders.events/0, appended\n"
    assert done.stderr == "not relayed within 2 s\n"


def test_a_repeat_whose_stage_is_not_known_is_no_acceptance(service: "ServiceStub") -> None:
    service.answer = ACCEPTED | {"outcome": "repeated", "stage": "appended"}
    arguments = ("send", "orders", "1", "Deliver", "--command-id", "c", "--wait", "relayed")
    done = run(*arguments, SERVICE_URL=service.url)
    assert done.exit_code == STATUSES["late"]
    assert done.stdout == "repeated: event e in orders.events/0, appended\n"
    assert done.stderr == "not known to be relayed: that was told to who sent it first\n"
    done = run(*arguments, "--json", SERVICE_URL=service.url)
    assert json.loads(done.stdout)["outcome"] == "repeated"


def test_without_an_answer_the_outcome_is_unknown() -> None:
    done = run("send", "orders", "1", "Deliver", SERVICE_URL="http://127.0.0.1:1")
    assert done.exit_code == STATUSES["unavailable"] == 6
    assert "nothing is known to be done" in done.stderr
    assert "--command-id " in done.stderr


class ServiceStub:
    """Answers every command with one outcome, or one type of problem."""

    def __init__(self) -> None:
        self.answer: Any = ACCEPTED | {"stage": "accepted"}
        self.bodies: list[bytes] = []
        self.headers: list[Any] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                service.headers.append(self.headers)
                service.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self._write(service.answer)

            def _write(self, answer: Any) -> None:
                kind = "application/json"
                if isinstance(answer, str):
                    kind = "application/problem+json"
                    name = f"urn:problem-type:eventfleet:{answer}"
                    answer = {"type": name, "title": "No", "status": 400, "detail": "because"}
                    answer |= {"version": 4} if "version" in name else {}
                self.send_response(answer.get("status", 200))
                self.send_header("Content-Type", kind)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def service() -> Iterator[ServiceStub]:
    service = ServiceStub()
    Thread(target=service.server.serve_forever, daemon=True).start()
    yield service
    service.server.shutdown()
    service.server.server_close()


def test_only_an_id_that_is_given_may_be_known_already(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []

    class Service:
        async def send(self, *_: Any, **options: Any) -> WaitResult:
            sent.append(options)
            return WaitResult(Accepted("e", "orders.events/0"), Stage.ACCEPTED)

    @asynccontextmanager
    async def opened(*_: Any) -> AsyncIterator[Service]:
        yield Service()

    monkeypatch.setattr("eventfleet.runtime.event_services.event_service", opened)
    for given in ([], ["--command-id", "c-1"]):
        done = run("send", "orders", "o-1", "Place", *given, DOMAINS="eventfleet.domains.orders")
        assert done.exit_code == 0, done.output
    assert [each["is_new"] for each in sent] == [True, False]
    assert sent[1]["command_id"] == "c-1"


# health, verbose, hints


def test_health_names_each_server_that_does_not_answer() -> None:
    nowhere = {
        "KAFKA_BROKERS": "127.0.0.1:1",
        "MONGO_URL": "mongodb://ann:hunter2@127.0.0.1:2/?directConnection=true",
        "REDIS_URL": "redis://127.0.0.1:3/0",
        "SERVICE_URL": "http://127.0.0.1:4",
        "MONGO_TIMEOUT": "1",
    }
    done = run("health", **nowhere)
    assert done.exit_code == 1
    assert "hunter2" not in done.output
    *lines, last = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["FAILED", "Kafka"],
        ["FAILED", "MongoDB"],
        ["FAILED", "Redis"],
        ["FAILED", "HTTP"],
    ]
    assert all(f"127.0.0.1:{port}" in line for port, line in enumerate(lines, 1))
    assert all(" ms  does not answer: " in line for line in lines)
    assert last == "the topics are not checked: EVENTFLEET_DOMAINS is not set"
    results = json.loads(run("health", "--json", **nowhere).stdout)
    assert [(each["check"], each["healthy"]) for each in results] == [
        (name, False) for name in ("Kafka", "MongoDB", "Redis", "HTTP service")
    ]


def test_verbose_shows_the_traceback_of_an_error() -> None:
    assert "Traceback" not in run("events", "orders", "1").stderr
    done = subprocess.run(
        [sys.executable, "-m", "eventfleet.cli", "-v", "events", "orders", "1"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("eventfleet: EVENTFLEET_DOMAINS is not set")


def test_a_part_that_is_not_installed_is_named_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "eventfleet.runtime.settings", None)
    done = run("settings")
    assert done.exit_code == 1
    assert "a part of the installation is missing" in done.stderr
    assert "`pip install eventfleet`" in done.stderr


def test_the_printed_environment_can_be_pasted_and_shows_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a b"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    settings = Settings(
        domains="shop.orders",
        mongo_url="mongodb://127.0.0.1:1/?directConnection=true&x=1",
        redis_url="redis://:hunter2@h:1/0",
        metrics_port=1,
        http_port=2,
    )
    lines = "\n".join(_environment(settings))
    assert "hunter2" not in lines
    assert "export EVENTFLEET_REDIS_URL as it is set here" in lines
    done = subprocess.run(
        ["sh", "-ec", f"{lines}\npwd; env"], cwd="/", capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == str(folder)
    given = {line for line in done.stdout.splitlines() if line.startswith(PREFIX)}
    assert given == {
        "EVENTFLEET_DOMAINS=shop.orders",
        "EVENTFLEET_MONGO_URL=mongodb://127.0.0.1:1/?directConnection=true&x=1",
    }


def test_shell_completion_is_installed_as_the_help_says() -> None:
    assert "_EVENTFLEET_COMPLETE=bash_source eventfleet" in run("--help").output
    done = subprocess.run(
        [sys.executable, "-m", "eventfleet.cli"],
        env=os.environ | {"_EVENTFLEET_COMPLETE": "bash_source"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "_eventfleet_completion" in done.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--command", "Pay"], "--command names a command: give --via commands too"),
        (["--command", "Pay", "--via", "commands", "--activity", "what"], "give one"),
        (["--command", "Bribe", "--via", "commands"], "'Bribe' is not a command of orders; known:"),
    ],
)
def test_a_command_for_every_row_is_checked_before_the_file_is_read(
    options: list[str], said: str
) -> None:
    done = run("load", "absent.csv", "--domain", "orders", *options, DOMAINS=SAMPLE_DOMAINS)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["deadletters", "redrive", "orders"], "say which"),
        (["deadletters", "redrive", "orders", "--all", "--role", "relay"], "say which"),
        (["deadletters", "redrive", "orders", "--role", ""], "'--role': is empty"),
        (["deadletters", "list", "orders", "--aggregate", ""], "'--aggregate': is empty"),
        (["deadletters", "list", "orders", "--reason", ""], "'--reason': is empty"),
        (["events", "orders", "o-1", "--types", ""], "--types names no type"),
        (["events", "orders", "o-1", "--types", " ,"], "--types names no type"),
        (["events", "orders", "", "--json"], "give the ID of one aggregate, or --all"),
        (["follow", "orders", "o-1", "--all"], "--all is for a whole domain, and without --cursor"),
        (["follow", "orders"], "EVENTFLEET_SERVICE_URL names no HTTP service to follow"),
        (["audit", "--views", ","], "--views names no view"),
        (["worker", "append", "--domain", ""], "there is no domain ''"),
        (["serve", ""], "there is no domain ''"),
    ],
)
def test_an_empty_choice_is_not_taken_for_all(arguments: list[str], reason: str) -> None:
    done = run(*arguments, DOMAINS=SAMPLE_DOMAINS)
    assert done.exit_code in (1, 2)
    assert reason in done.stderr


def test_a_time_that_is_none_is_refused_with_an_example() -> None:
    done = run("state", "orders", "o-1", "--at", "yesterday", DOMAINS=SAMPLE_DOMAINS)
    assert (done.exit_code, "such as 2026-01-31T09:00:00Z" in done.stderr) == (1, True)


def test_a_difference_of_nothing_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    _print_diff("orders", StateDiff("o-1", 2, 2, []))
    assert capsys.readouterr().out.splitlines() == ["orders  o-1  version 2 to 2", "no changes"]


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, "orders: nothing of that is parked\n"),
        (1, "orders: a redrive of 1 aggregate is requested\n"),
        (2, "orders: a redrive of 2 aggregates is requested\n"),
    ],
)
def test_a_redrive_tells_of_how_many(
    count: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Parked:
        async def redrive(self, *_: object, **__: object) -> int:
            return count

    monkeypatch.setattr("eventfleet.cli.deadletters.Source.open", lambda _: nullcontext(Parked()))
    assert run("deadletters", "redrive", "orders", "--all").stdout.startswith(told)


def test_an_empty_choice_of_domains_is_none() -> None:
    settings = Settings(domains=SAMPLE_DOMAINS)
    assert select_domains(settings, []) == {}
    assert [*select_domains(settings, ["orders", "orders"])] == ["orders"]
    assert len(select_domains(settings)) > 1
