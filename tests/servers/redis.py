"""redis-server, in memory."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.servers.install import Absent
from tests.servers.server import Server


class Redis(Server):
    """Starts empty each time and never evicts."""

    name = "redis"

    def __init__(self) -> None:
        if not shutil.which("redis-server"):
            raise Absent("redis-server is not installed: python -m tests.servers.install")
        super().__init__()

    @property
    def url(self) -> str:
        return f"redis://{self.address}/0"

    def command(self) -> Sequence[str | Path]:
        place = ("--bind", "127.0.0.1", "--port", str(self.port))
        return ("redis-server", *place, "--save", "", "--maxmemory-policy", "noeviction")
