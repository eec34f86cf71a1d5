"""secantusd-rs, a server that speaks MongoDB's protocol."""

from collections.abc import Sequence
from pathlib import Path

from tests.servers.install import SECANTUSD, Absent
from tests.servers.server import Server


class MongoDB(Server):
    """What it acknowledged with journal is on the disk, also through a kill."""

    name = "mongodb"

    def __init__(self) -> None:
        if not SECANTUSD.exists():
            raise Absent("secantusd-rs is not installed: python -m tests.servers.install")
        super().__init__()

    @property
    def url(self) -> str:
        return f"mongodb://{self.address}/?directConnection=true"

    def command(self) -> Sequence[str | Path]:
        place = ("--host", "127.0.0.1", "--port", str(self.port), "--storage-path", "data")
        return (SECANTUSD, *place, "--cache-size", "256M", "--sync-on-commit")
