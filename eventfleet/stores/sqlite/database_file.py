"""Opens and checks the file: whose it is, whether it is whole, and that no other process has it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import apsw

from eventfleet.stores.errors import FileInUse, Misconfigured
from eventfleet.stores.sqlite.errors import translate_errors
from eventfleet.stores.sqlite.schema import APPLICATION_ID, SCHEMA, SCHEMA_VERSION

FIXED_SQLITE = (3, 51, 3)
"""The first release in which no reset of the write-ahead log can corrupt the file."""

MAGIC = b"SQLite format 3\0"
BUSY_MILLISECONDS = 1_000
REWRITTEN_BYTES = 65_536
"""At a time; at most 131,071: SQLite writes no more to a file at once."""
CACHE_KIBIBYTES = 16_384


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file for this process. Misconfigured names the process that has it, or says why it
    can't be held."""
    lock = path.with_name(f"{path.name}-lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise Misconfigured(f"{path}: {error.strerror}: {error.filename}") from error
    try:
        _lock(descriptor, path)
        os.truncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 20, 0).decode() or "another one"
        raise FileInUse(f"{path} is in use by process {owner}: stop it first") from None
    except OSError as error:
        raise Misconfigured(
            f"{path}: its file system keeps no locks ({error.strerror}): use a local disk"
        ) from error


def connect(path: Path) -> apsw.Connection:
    """Open the file for writing, and create it where it is not there yet.

    Misconfigured where it is not ours, not whole, or of a newer release; nothing is changed then.
    """
    version = tuple(map(int, apsw.sqlite_lib_version().split(".")))
    if version < FIXED_SQLITE:
        found, needed = (".".join(map(str, each)) for each in (version, FIXED_SQLITE))
        raise Misconfigured(f"SQLite {found} may corrupt its log: {needed} or later is needed")
    _check_file(path)
    with translate_errors(path):
        connection = open_file(path)
        try:
            check_owner(connection, path)
            _create_tables(connection)
            _begin_incarnation(connection, path)
            if connection.execute("PRAGMA journal_mode = WAL").get != "wal":
                raise Misconfigured(
                    f"{path}: its file system has no shared memory for SQLite's WAL"
                )
        except BaseException:
            connection.close()
            raise
    return connection


def connect_reader(path: Path) -> apsw.Connection:
    """Open the file that a writer has open, to read it."""
    with translate_errors(path):
        connection = open_file(path)
        connection.execute(f"PRAGMA query_only = ON; PRAGMA cache_size = -{CACHE_KIBIBYTES // 4}")
    return connection


def rewrite_log(path: Path) -> None:
    """Write the file's write-ahead log again as it is, and sync it.

    Linux forgets what a sync that fails was to write: the next one succeeds without that.
    """
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_WAL
    log = apsw.VFSFile("", f"{path}-wal", [flags, 0])
    try:
        size = log.xFileSize()
        for offset in range(0, size, REWRITTEN_BYTES):
            log.xWrite(log.xRead(min(REWRITTEN_BYTES, size - offset), offset), offset)
        log.xSync(apsw.SQLITE_SYNC_FULL)
    finally:
        log.xClose()


def open_file(path: Path) -> apsw.Connection:
    """Open a file as all of ours are opened."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(BUSY_MILLISECONDS)
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
    connection.execute("PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON")
    return connection


def _check_file(path: Path) -> None:
    if not path.exists() or not path.stat().st_size:
        if path.with_name(f"{path.name}-wal").exists():
            raise Misconfigured(f"{path}-wal is there without {path}: copy both, or neither")
        return
    if path.is_dir():
        raise Misconfigured(f"{path} is a folder, not a file")
    with path.open("rb") as file:
        header = file.read(100)
    if not header.startswith(MAGIC):
        raise Misconfigured(f"{path} is no SQLite file")
    page_size, size = int.from_bytes(header[16:18], "big"), path.stat().st_size
    pages = int.from_bytes(header[28:32], "big")
    absent = range(size // (page_size or 1) + 1, pages + 1)
    has_journal = path.with_name(f"{path.name}-journal").exists()
    if absent and not has_journal and {*absent} - _logged_pages(path, page_size):
        raise Misconfigured(f"{path} is copied in part: it has {size} of {pages * page_size} bytes")


def _logged_pages(path: Path, page_size: int) -> set[int]:
    """Return the pages in the log: a checkpoint that was killed has written the header first."""
    pages = set[int]()
    with suppress(FileNotFoundError), Path(f"{path}-wal").open("rb") as log:
        salts = log.read(32)[16:24]
        while (frame := log.read(24 + page_size)) and frame[8:16] == salts:
            pages.add(int.from_bytes(frame[:4], "big"))
    return pages


def check_owner(connection: apsw.Connection, path: Path) -> None:
    """Misconfigured: the file is another program's, or of a newer release."""
    application: int = connection.execute("PRAGMA application_id").get
    version: int = connection.execute("PRAGMA user_version").get
    tables: int = connection.execute("SELECT count(*) FROM sqlite_schema").get
    if tables and application != APPLICATION_ID:
        raise Misconfigured(f"{path} is another program's")
    if version > SCHEMA_VERSION:
        raise Misconfigured(
            f"{path} is of a newer release: its tables have version {version},"
            f" this one knows {SCHEMA_VERSION}"
        )


def _create_tables(connection: apsw.Connection) -> None:
    """Create all tables in one transaction, before the file gets its write-ahead log: so the header
    names its owner whenever there are tables."""
    if connection.execute("PRAGMA user_version").get:
        return
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(SCHEMA)
    connection.execute("INSERT INTO file (incarnation) VALUES ('')")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def _begin_incarnation(connection: apsw.Connection, path: Path) -> None:
    """Begin a new incarnation in a new file, and in a copy: it has another inode than the file that
    was opened last, or it was marked."""
    inode = str(path.stat().st_ino)
    if connection.execute("SELECT incarnation <> '' AND inode = ? FROM file", (inode,)).get:
        return
    connection.execute("UPDATE file SET incarnation = ?, inode = ?", (uuid4().hex, inode))
