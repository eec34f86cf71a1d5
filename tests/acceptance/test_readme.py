"""The README's walk with a domain of one's own, and its pages': each block runs as it stands."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.terminal import TIMEOUT_SECONDS, Terminal, _until_up

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SEND_COMMANDS = (ROOT / "docs" / "guides" / "send-commands.md").read_text()
ONE_PROCESS = (ROOT / "docs" / "guides" / "one-process.md").read_text()
COMMAND_LINE = (ROOT / "docs" / "command-line.md").read_text()
FEEDS = (ROOT / "docs" / "guides" / "feeds.md").read_text()


def blocks(language: str, page: str, heading: str = "") -> list[str]:
    """The code blocks of a page or of its section."""
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0] if heading else page
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


DOMAIN, TESTS = blocks("python", README, "A domain")
UP, COMMANDS = blocks("sh", README, "A domain")
[PROGRAM] = blocks("python", SEND_COMMANDS)
[PROGRAM_ON_A_FILE] = blocks("python", ONE_PROCESS)
REQUESTS, AGAIN = blocks("sh", SEND_COMMANDS)
FOLLOWED, CLIENT = blocks("python", FEEDS)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    with beside_up(Terminal(tmp_path_factory.mktemp("readme"))) as shell:
        yield shell


@contextmanager
def beside_up(shell: Terminal) -> Iterator[Terminal]:
    """A second terminal beside `eventfleet up`, with the printed lines pasted."""
    (shell.folder / "parcels.py").write_text(f"{DOMAIN}\n{FOLLOWED}")
    with subprocess.Popen(
        ["bash", "-c", f"exec env {UP}"],
        cwd=shell.folder,
        env=shell.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            shell.printed = printed = _until_up(process)
            shell.paste("\n".join(re.findall(r"^  ((?:cd|export) .*)$", printed, re.MULTILINE)))
            yield shell
        finally:
            process.terminate()
            process.wait(TIMEOUT_SECONDS)


def test_the_domain_fits_a_screen() -> None:
    assert len([line for line in DOMAIN.splitlines() if line.strip()]) <= 40


def test_the_commands_are_answered_and_the_states_shown(shell: Terminal) -> None:
    *sent, state, events = COMMANDS.splitlines()
    assert [shell.run(line).split(":")[0] for line in sent[:2]] == ["accepted"] * 2
    [rejected] = re.findall(r"The third command is rejected: `(.*)`", README)
    assert shell.run(sent[2], status=3) == f"rejected: {rejected}\n"
    assert '"delivered": true' in shell.run(state)
    assert [line.split()[2] for line in shell.run(events).splitlines()] == ["Posted", "Delivered"]


def test_the_requests_are_answered(shell: Terminal) -> None:
    [url] = re.findall(r"HTTP service: +(http://\S+)/domains", shell.printed)
    answers = shell.run(f"set -e\n{REQUESTS.replace('http://127.0.0.1:8080', url)}")
    assert '"outcome":"accepted"' in answers
    assert '"state":{"grams":7,"delivered":false}' in answers


def test_a_command_that_is_sent_again_is_repeated(shell: Terminal) -> None:
    outcomes = [line.partition(":")[0] for line in shell.run(AGAIN).splitlines()]
    assert outcomes == ["accepted", "repeated"]


def test_the_program_sends_and_asks_beside_a_fleet_on_servers(
    kafka: str, mongo_url: str, redis_url: str, prefix: str, tmp_path: Path
) -> None:
    terminal = Terminal(tmp_path)
    terminal.environment |= {
        "EVENTFLEET_KAFKA_BROKERS": kafka,
        "EVENTFLEET_MONGO_URL": mongo_url,
        "EVENTFLEET_MONGO_DATABASE": prefix,
        "EVENTFLEET_REDIS_URL": redis_url,
        "EVENTFLEET_TOPIC_PREFIX": f"{prefix}.",
    }
    with beside_up(terminal) as shell:
        run_program(shell, PROGRAM)


def test_the_program_on_a_file_is_the_fleet(tmp_path: Path) -> None:
    shell = Terminal(tmp_path)
    (tmp_path / "parcels.py").write_text(DOMAIN)
    shell.environment["EVENTFLEET_DATA"] = "eventfleet-data"
    run_program(shell, PROGRAM_ON_A_FILE)


def run_program(shell: Terminal, program: str) -> None:
    (shell.folder / "program.py").write_text(program)
    accepted, state = shell.run('"$PYTHON" program.py').splitlines()
    assert accepted.startswith("Accepted(")
    assert "Parcel(grams=9, delivered=False)" in state


def test_the_guides_client_follows_a_parcel_over_a_socket(shell: Terminal) -> None:
    [url] = re.findall(r"HTTP service: +(http://\S+)/domains", shell.printed)
    (shell.folder / "client.py").write_text(CLIENT)
    frames = [*map(json.loads, shell.run(f'"$PYTHON" client.py {url} p-9').splitlines())]
    assert frames[0] == {"kind": "opened", "aggregate_id": "p-9", "after": 0, "latest": 0}
    outcomes = [(each["id"], each["outcome"]) for each in frames if each["kind"] == "outcome"]
    assert outcomes == [("c-1", "accepted"), ("c-2", "accepted")]
    events = [each["event"] for each in frames if each["kind"] == "event"]
    assert [(each["version"], each["type"]) for each in events] == [(1, "Posted"), (2, "Delivered")]


def test_the_domains_tests_pass(shell: Terminal) -> None:
    (shell.folder / "test_parcels.py").write_text(TESTS)
    shell.run('"$PYTHON" test_parcels.py')


def test_health_finds_all_well(shell: Terminal) -> None:
    lines = shell.run("eventfleet health").splitlines()
    assert {line.split()[0] for line in lines} == {"ok"}


def test_shell_completion_is_found(shell: Terminal) -> None:
    completion, _ = blocks("sh", COMMAND_LINE)
    shell.run(f"{completion}\ncomplete -p eventfleet")
