"""secantusd-rs, a server that speaks MongoDB's protocol."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymongo

from tests.servers.install import SECANTUSD, Absent
from tests.servers.server import Server


class MongoDB(Server):
    """Writes acknowledged with journal are on the disk, also after a kill."""

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


class RefusingMongoDB(MongoDB):
    """A MongoDB with fail points."""

    def command(self) -> Sequence[str | Path]:
        return (*super().command(), "--enable-test-commands")

    @contextmanager
    def failing(self, *commands: str, times: int | None = None, **how: Any) -> Iterator[None]:
        """These commands of eventfleet's fail for the length of the block."""
        mode: Any = {"times": times} if times else "alwaysOn"
        data = {"failCommands": list(commands), "appName": "eventfleet", **how}
        with pymongo.MongoClient[dict[str, Any]](self.url) as client:
            order = {"configureFailPoint": "failCommand"}
            client.admin.command({**order, "mode": mode, "data": data})
            try:
                yield
            finally:
                client.admin.command({**order, "mode": "off"})


class SecuredMongoDB(MongoDB):
    """A MongoDB that asks for credentials, with one user who may do all, at `admin_url`."""

    ADMIN = "admin", "adm1n"

    def __init__(self) -> None:
        super().__init__()
        self._options: tuple[str, ...] = ()

    @property
    def admin_url(self) -> str:
        return f"mongodb://{':'.join(self.ADMIN)}@{self.address}/?directConnection=true"

    def command(self) -> Sequence[str | Path]:
        return *super().command(), *self._options

    def start(self) -> None:
        """Start, at first without asking for credentials, to make the user."""
        super().start()
        if not self._options:
            name, password = self.ADMIN
            with pymongo.MongoClient[dict[str, Any]](self.url) as client:
                client.admin.command("createUser", name, pwd=password, roles=["root"])
            self.stop()
            self._options = ("--auth",)
            super().start()
