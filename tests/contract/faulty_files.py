"""Files under SQLite that fail, kill their process, or remember what the power would leave."""

import os
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

Change = tuple[int, bytes | None]
"""Bytes written at an offset, or the size that the file is cut to."""


class FaultyFiles(apsw.VFS):
    """The files of all databases that are opened while it is the default."""

    def __init__(self, on_write: OnWrite | None = None, on_sync: OnSync | None = None) -> None:
        self.base = apsw.vfs_names()[0]
        super().__init__("faulty", self.base, makedefault=True)
        self.on_write, self.on_sync = on_write, on_sync
        self.disk: Path | None = None
        """The folder that gets what is synced of each file. A sync that fails loses what it was to
        write, as it does in Linux: the next one does not write it again."""
        self._unsynced: dict[Path, list[Change]] = {}

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "FaultyFile":
        return FaultyFile(self, name, flags)

    def xDelete(self, name: str, syncdir: bool) -> None:
        super().xDelete(name, syncdir)
        if self.disk:
            (self.disk / Path(name).name).unlink(missing_ok=True)

    def note(self, path: Path | None, change: Change) -> None:
        """Note a change of a file that is not synced yet."""
        if self.disk and path:
            self._unsynced.setdefault(path, []).append(change)

    def sync(self, path: Path | None, is_lost: bool) -> None:
        """Bring a file's changes to the disk, unless they are lost."""
        if not self.disk or not path:
            return
        changes = self._unsynced.pop(path, [])
        if is_lost:
            return
        synced = self.disk / path.name
        synced.touch()
        with synced.open("r+b") as file:
            for offset, data in changes:
                if data is None:
                    file.truncate(offset)
                else:
                    file.seek(offset)
                    file.write(data)


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
        self._files.note(self._path, (offset, bytes(data)))

    def xTruncate(self, size: int) -> None:
        super().xTruncate(size)
        self._files.note(self._path, (size, None))

    def xSync(self, flags: int) -> None:
        try:
            if self._is_log and self._files.on_sync:
                self._files.on_sync()
        except apsw.Error:
            self._files.sync(self._path, is_lost=True)
            raise
        super().xSync(flags)
        self._files.sync(self._path, is_lost=False)


@contextmanager
def faulty_files() -> Iterator[FaultyFiles]:
    files = FaultyFiles()
    try:
        yield files
    finally:
        files.unregister()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
