"""`make check-install`: from an empty environment to a first command that a kill does not lose.

Installs the checkout with the Pythons that are named as arguments, or with this one.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
READY_SECONDS = 120.0
PLACE = '{"customer": "ann", "total": 1999, "currency": "EUR"}'


def main(pythons: list[str]) -> None:
    for python in pythons or [sys.executable]:
        with tempfile.TemporaryDirectory(prefix="check-install-") as folder:
            print(f"{python}: {check(python, Path(folder))}")


def check(python: str, folder: Path) -> str:
    """Install, send, kill, start again and ask; return what was seen."""
    subprocess.run([python, "-m", "venv", folder / "venv"], check=True)
    pip = folder / "venv" / "bin" / "pip"
    subprocess.run([pip, "install", "--quiet", ROOT], check=True, cwd=folder)
    with up(folder) as (url, seconds):
        sent = eventfleet(folder, url, "send", "orders", "o-1", "Place", PLACE)
    assert sent.startswith("accepted"), sent
    with up(folder) as (url, again):
        state = eventfleet(folder, url, "state", "orders", "o-1")
    assert '"status": "placed"' in state, state
    return f"up after {seconds:.1f} s; after a kill {again:.1f} s later the event is there"


@contextmanager
def up(folder: Path) -> Iterator[tuple[str, float]]:
    """A fleet, which is killed at the end: the address of its service, and how long it took."""
    began, log = time.monotonic(), folder / "up.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [folder / "venv" / "bin" / "eventfleet", "up"],
            cwd=folder,
            env=environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        while "Ctrl-C ends the fleet" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < began + READY_SECONDS, log.read_text()
            time.sleep(0.05)
        took = time.monotonic() - began
        [url] = re.findall(r"(http://\S+)/domains", log.read_text())[:1]
        yield url, took
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def eventfleet(folder: Path, url: str, *arguments: str) -> str:
    done = subprocess.run(
        [folder / "venv" / "bin" / "eventfleet", *arguments],
        cwd=folder,
        env=environment() | {"EVENTFLEET_SERVICE_URL": url},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment() -> dict[str, str]:
    """Ours, without settings, and without this checkout on the path."""
    left_out = ("EVENTFLEET_", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if not name.startswith(left_out)}


if __name__ == "__main__":
    main(sys.argv[1:])
