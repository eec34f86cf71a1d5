"""secantusd-rs, a server that speaks MongoDB's protocol."""

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

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


class SmallDiskMongoDB(RefusingMongoDB):
    """A MongoDB whose data have a small file system of their own, which only root may mount."""

    SIZE = "96m"

    @classmethod
    def is_possible(cls) -> bool:
        """Return whether this process may mount a file system."""
        with tempfile.TemporaryDirectory() as folder:
            possible = cls._mount(Path(folder))
            if possible:
                cls._unmount(Path(folder))
        return possible

    def __enter__(self) -> Self:
        self._data = self.folder / "data"
        self._data.mkdir()
        self._mount(self._data)
        try:
            return super().__enter__()
        except BaseException:
            self._unmount(self._data)
            raise

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._unmount(self._data)
        super().__exit__(*_)

    @classmethod
    def _mount(cls, folder: Path) -> bool:
        command = ("mount", "-t", "tmpfs", "-o", f"size={cls.SIZE}", "tmpfs", str(folder))
        return subprocess.run(command, capture_output=True).returncode == 0

    @staticmethod
    def _unmount(folder: Path) -> None:
        subprocess.run(("umount", "--lazy", str(folder)), check=False)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Leave no room on the disk for the length of the block."""
        ballast = self._data / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(65_536))
        try:
            yield
        finally:
            ballast.unlink()


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
