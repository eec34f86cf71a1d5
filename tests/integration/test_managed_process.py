"""Programs beside a process: they end with it, however it ends, and leave nothing."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from eventfleet.cli.managed_process import start_process

PATIENCE = 30.0

USER = """
import asyncio, sys
from eventfleet.cli.managed_process import start_process

async def main():
    program = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(600)"]
    async with start_process("sleeper", lambda folder: program) as kept:
        while "ready" not in kept.tail():
            await asyncio.sleep(0.02)
        print("started", flush=True)
        if sys.argv[1] == "raise":
            raise RuntimeError("on purpose")
        await asyncio.sleep(600)

asyncio.run(main())
"""


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def files_in(folder: Path) -> list[str]:
    return os.listdir(folder)


def processes_in(folder: Path) -> list[str]:
    """Command lines of the living processes that name the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


@pytest.fixture
def own_temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_nothing_is_left_when_the_user_is_ended(own_temp: Path, end: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", USER, "wait"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as user:
        assert user.stdout
        assert user.stdout.readline() == b"started\n"
        assert files_in(own_temp)
        assert processes_in(own_temp)
        user.send_signal(end)
    assert user.returncode != 0
    wait_for(lambda: not files_in(own_temp))
    wait_for(lambda: not processes_in(own_temp))


def test_nothing_is_left_after_an_exception(own_temp: Path) -> None:
    user = subprocess.run(
        [sys.executable, "-c", USER, "raise"], capture_output=True, text=True, timeout=60
    )
    assert "on purpose" in user.stderr
    assert not files_in(own_temp)
    assert not processes_in(own_temp)


async def test_a_failure_shows_the_end_of_the_output(own_temp: Path) -> None:
    broken = [sys.executable, "-c", "print('no memory left'); raise SystemExit(3)"]
    async with start_process("broken", lambda folder: broken) as kept:
        failure = kept.failure(f"ended with status {await kept.wait()}")
    assert str(failure).startswith("broken ended with status 3; its output ends with:")
    assert "no memory left" in str(failure)
    assert not files_in(own_temp)


async def test_a_program_has_its_grace_and_no_more(own_temp: Path) -> None:
    stubborn = "import signal,time; signal.signal(15, lambda *_: print('asked', flush=True)); "
    code = stubborn + "print('ready', flush=True); [time.sleep(0.1) for _ in range(6000)]"
    async with start_process(
        "stubborn", lambda folder: [sys.executable, "-c", code], grace=1.0
    ) as kept:
        await asyncio.to_thread(wait_for, lambda: "ready" in kept.tail())
        log = os.open(kept.log, os.O_RDONLY)
    assert b"asked" in os.read(log, 1000)
    os.close(log)
    assert not files_in(own_temp)
    assert not processes_in(own_temp)
