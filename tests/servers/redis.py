"""redis-server, in memory."""

import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

from tests.servers.install import Absent
from tests.servers.server import STOP_SECONDS, Server


class Redis(Server):
    """Never evicts. A start is empty, unless it is a restart on a dump."""

    name = "redis"

    def __init__(self, *options: str) -> None:
        if not shutil.which("redis-server"):
            raise Absent("redis-server is not installed: python -m tests.servers.install")
        super().__init__()
        self.options = options

    @property
    def url(self) -> str:
        return f"redis://{self.address}/0"

    def command(self) -> Sequence[str | Path]:
        place = ("--bind", "127.0.0.1", "--port", str(self.port))
        return (
            "redis-server",
            *place,
            "--save",
            "",
            "--maxmemory-policy",
            "noeviction",
            *self.options,
        )

    def execute(self, command: str) -> str:
        """Send an inline command; the answer's first line, or the bulk string that it announces."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=STOP_SECONDS) as talk:
            talk.sendall(f"{command}\r\n".encode())
            answer = talk.makefile()
            line = answer.readline().strip()
            return answer.readline().strip() if line.startswith("$") else line

    def dump(self) -> bytes:
        """A dump of its current data."""
        assert self.execute("SAVE") == "+OK"
        dump = self._dump.read_bytes()
        self._dump.unlink()
        return dump

    def restart(self, dump: bytes | None = None) -> None:
        """Kill it and start it again, empty or on a dump."""
        self.kill()
        if dump is not None:
            self._dump.write_bytes(dump)
        self.start()
        self._dump.unlink(missing_ok=True)

    @property
    def _dump(self) -> Path:
        return self.folder / "dump.rdb"
