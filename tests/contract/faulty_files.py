"""Files under SQLite that fail, kill their process, or remember what the power would leave."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

LOG_SUFFIX = "-wal"

OnWrite = Callable[[apsw.VFSFile, bytes, int], None]
"""Called before each write of bytes at an offset of a database's log."""

OnSync = Callable[[], None]
"""Called before each sync of a database's log."""


class FaultyFiles(apsw.VFS):
    """The files of all databases that are opened while it is the default."""

    def __init__(self, on_write: OnWrite | None = None, on_sync: OnSync | None = None) -> None:
        self.base = apsw.vfs_names()[0]
        super().__init__("faulty", self.base, makedefault=True)
        self.on_write, self.on_sync = on_write, on_sync
        self.synced: Path | None = None
        """The folder that gets a copy of each file as it is synced."""

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "FaultyFile":
        return FaultyFile(self, name, flags)


class FaultyFile(apsw.VFSFile):
    def __init__(
        self, files: FaultyFiles, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        super().__init__(files.base, name, flags)
        self._files = files
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._path = Path(path) if path else None
        self._is_log = bool(path and path.endswith(LOG_SUFFIX))

    def xWrite(self, data: bytes, offset: int) -> None:
        if self._is_log and self._files.on_write:
            self._files.on_write(self, data, offset)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        if self._is_log and self._files.on_sync:
            self._files.on_sync()
        super().xSync(flags)
        if self._files.synced and self._path:
            shutil.copy(self._path, self._files.synced)


@contextmanager
def faulty_files() -> Iterator[FaultyFiles]:
    files = FaultyFiles()
    try:
        yield files
    finally:
        files.unregister()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
