"""The tutorial: each step's code and commands as they stand, from an empty folder to a chat."""

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
from websockets.asyncio.client import ClientConnection, connect

from eventfleet.cli.local_fleet import free_port
from tests.acceptance.fleet import ROOT
from tests.acceptance.terminal import TIMEOUT_SECONDS, Terminal, _until_up

TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()


def blocks(language: str, step: str) -> list[str]:
    """The code blocks of a step."""
    section = TUTORIAL.split(f"\n## {step}")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


DOMAIN, TESTS = blocks("python", "1. ")
UP, TALK = blocks("sh", "2. ")
[CHANGES] = blocks("python", "3. ")
VIEW, TESTS_OF_CHANGES = blocks("python", "4. ")
[QUERIES] = blocks("sh", "4. ")
[SERVER] = blocks("python", "5. ")
START_SERVER, JOIN = blocks("sh", "5. ")
WHOLE = f"{DOMAIN}\n\n{CHANGES}\n\n{VIEW}"


@contextmanager
def up(terminal: Terminal) -> Iterator[None]:
    """Run the fleet of `talk.py`, with the printed lines pasted into the terminal."""
    before = terminal.environment
    with subprocess.Popen(
        ["bash", "-c", f"exec env {UP}"],
        cwd=terminal.folder,
        env={**before, "EVENTFLEET_HTTP_PORT": str(free_port())},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            printed = _until_up(process)
            terminal.paste("\n".join(re.findall(r"^  ((?:cd|export) .*)$", printed, re.MULTILINE)))
            yield
        finally:
            terminal.environment = before
            process.terminate()
            process.wait(TIMEOUT_SECONDS)


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    return Terminal(tmp_path_factory.mktemp("tutorial"))


def save(terminal: Terminal, **files: str) -> None:
    for name, text in files.items():
        (terminal.folder / f"{name}.py").write_text(text)


@pytest.fixture(scope="module")
def talk_outputs(terminal: Terminal) -> list[str]:
    """What the commands of the second step print; their events stay."""
    save(terminal, talk=DOMAIN)
    with up(terminal):
        return [terminal.run(line) for line in TALK.splitlines()]


def test_the_first_steps_test_passes(terminal: Terminal) -> None:
    save(terminal, talk=DOMAIN, test_talk=TESTS)
    terminal.run('"$PYTHON" test_talk.py')


def test_the_first_domain_talks(talk_outputs: list[str]) -> None:
    *sent, events, state = talk_outputs
    assert [line.split(":")[0] for line in sent] == ["accepted", "accepted", "repeated"]
    types = [line.split()[2] for line in events.splitlines()]
    assert types == ["MESSAGE_SENT", "MESSAGE_SENT"]
    assert state.count('"content"') == 2


def test_the_changes_test_passes(terminal: Terminal) -> None:
    save(terminal, talk=WHOLE, test_talk=TESTS_OF_CHANGES)
    terminal.run('"$PYTHON" test_talk.py')


@pytest.mark.usefixtures("talk_outputs")
def test_the_whole_domain_edits_deletes_is_viewed_and_talks_over_sockets(
    terminal: Terminal,
) -> None:
    save(terminal, talk=WHOLE, server=SERVER)
    with up(terminal):
        *sent, view, events, state, diff = QUERIES.splitlines()
        outcomes = [terminal.run(line).partition(":")[0] for line in sent]
        assert outcomes == ["repeated", "repeated", "accepted", "accepted"]
        shown = terminal.run(view)
        assert ("hi all" in shown, "hello" in shown) == (True, False)
        types = [line.split()[2] for line in terminal.run(events).splitlines()]
        assert types == ["MESSAGE_SENT", "MESSAGE_SENT", "MESSAGE_EDITED", "MESSAGE_DELETED"]
        was = terminal.run(state)
        assert '"hi"' in was
        assert '"hello"' in was
        assert "hi all" in terminal.run(diff)
    over_sockets(terminal)


def over_sockets(terminal: Terminal) -> None:
    data, *server = START_SERVER.split()
    assert (data, server) == ("EVENTFLEET_DATA=eventfleet-data", ["python", "server.py"])
    url = JOIN.split()[-1]
    port = str(free_port())
    environment = {**terminal.environment, "PORT": port, "EVENTFLEET_DATA": "eventfleet-data"}
    command = [sys.executable, "server.py"]
    with subprocess.Popen(command, cwd=terminal.folder, env=environment) as process:
        try:
            asyncio.run(talk_over(url.replace("8090", port)))
        finally:
            process.terminate()
            process.wait(TIMEOUT_SECONDS)


async def talk_over(url: str) -> None:
    [frame] = re.findall(r'Type `(\{"id".*?\})`', TUTORIAL)
    async with opened(url) as ann, connect(url.replace("ann", "bob")) as bob:
        await ann.send(frame)
        for socket in (ann, bob):
            told = json.loads(await asyncio.wait_for(socket.recv(), TIMEOUT_SECONDS))
            assert told == {**json.loads(frame), "sender": "ann", "version": 5}
        await ann.send(frame)
        told = json.loads(await asyncio.wait_for(ann.recv(), TIMEOUT_SECONDS))
        assert "Repeated" in told["outcome"]


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[ClientConnection]:
    """A socket, as soon as the server takes one."""
    end = time.monotonic() + TIMEOUT_SECONDS
    while True:
        try:
            socket = await connect(url)
            break
        except OSError:
            assert time.monotonic() < end
            await asyncio.sleep(0.1)
    async with socket:
        yield socket


def test_the_finished_file_is_short() -> None:
    assert len([line for line in WHOLE.splitlines() if line.strip()]) <= 160
