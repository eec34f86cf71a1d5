"""nats-server with JetStream."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.servers.install import Absent
from tests.servers.server import Server


class Nats(Server):
    """A server that keeps its streams in its folder."""

    name = "nats"

    def __init__(self) -> None:
        if not shutil.which("nats-server"):
            raise Absent("nats-server is not installed: python -m tests.servers.install")
        super().__init__()

    @property
    def url(self) -> str:
        return f"nats://{self.address}"

    def command(self) -> Sequence[str | Path]:
        place = ("--addr", "127.0.0.1", "--port", str(self.port))
        return ("nats-server", *place, "--jetstream", "--store_dir", self.folder / "data")
