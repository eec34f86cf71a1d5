"""A server process of the tests: started, killed, started again on the same data and port."""

import atexit
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.servers import reaper

READY_SECONDS = 60.0
STOP_SECONDS = 20.0
PORTS = 10_000, 32_000

_chance = random.SystemRandom()  # several processes look for ports, with equal seeds
_given_ports: set[int] = set()


class StartFailed(Exception):
    """The server did not get ready; carries the end of its log."""


def free_port() -> int:
    """Find a port that nothing listens on and that this process has not been given before.

    It is below the range that outgoing connections get theirs from, so that none of them takes it
    while its server is down.
    """
    while True:
        port = _chance.randrange(*PORTS)
        with suppress(OSError), socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            if port not in _given_ports:
                _given_ports.add(port)
                return port


class Server:
    """A process with its own folder and port; as a context manager it is started and removed."""

    name = "server"

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"eventfleet-{self.name}-"))
        self.log = self.folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._logged = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self) -> Sequence[str | Path]:
        raise NotImplementedError

    def ready(self) -> bool:
        """True once it serves; by default, once its port accepts."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def start(self) -> None:
        """Start, also again after a stop or kill, and wait until it serves."""
        self._logged = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(part) for part in self.command()],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        atexit.register(self.kill)
        reaper.note(self._process.pid)
        deadline = time.monotonic() + READY_SECONDS
        while not self.ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise StartFailed(f"{self.name} did not get ready:\n{self.output()[-4000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_SECONDS)
            reaper.note(-self._process.pid)
            self._process = None
        atexit.unregister(self.kill)

    def signal(self, number: int) -> None:
        """Send its process a signal."""
        assert self._process
        self._process.send_signal(number)

    def stop(self) -> None:
        """End it with SIGTERM, or after STOP_SECONDS with SIGKILL."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        self.kill()

    def output(self) -> str:
        """Its log since its last start."""
        return self.log.read_bytes()[self._logged :].decode(errors="replace")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
