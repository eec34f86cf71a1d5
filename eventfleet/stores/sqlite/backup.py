"""Copies a file while a process writes to it."""

import os
from contextlib import closing
from pathlib import Path
from uuid import uuid4

from eventfleet.stores.errors import Misconfigured
from eventfleet.stores.sqlite.database_file import check_owner, connect_reader, open_file
from eventfleet.stores.sqlite.errors import translate_errors, translated

STEP_PAGES = 1_000
BESIDE = ("-journal", "-wal", "-shm")
"""What SQLite keeps beside a file, by the ends of the names."""


def back_up(path: Path, copy: Path) -> int:
    """Copy all that is committed to a new file, which appears under its name once it is on the
    disk; return how many events it has had. Writers go on; a process that opens the copy begins a
    new incarnation.

    Misconfigured: a file of that name is there, its folder is not, or `path` is no file of ours.
    ServerUnavailable: the disk is full, or fails. Nothing is left then.
    """
    if not path.exists():
        raise Misconfigured(f"{path} is not there")
    if not copy.parent.is_dir():
        raise Misconfigured(f"{copy}: there is no folder {copy.parent}")
    _require_absent(copy)
    part = copy.with_name(f"{copy.name}-{uuid4().hex}.part")
    try:
        # As private as the file: SQLite would let everybody read it.
        os.close(os.open(part, os.O_CREAT | os.O_EXCL, path.stat().st_mode & 0o666))
        with translate_errors(copy):
            _copy_pages(path, part)
            events = _mark(part)
        _require_absent(copy)
        part.rename(copy)
        _sync_folder(copy.parent)
        return events
    except OSError as error:
        raise translated(copy, error) from error
    finally:
        for end in ("", *BESIDE):
            part.with_name(part.name + end).unlink(missing_ok=True)


def _require_absent(copy: Path) -> None:
    for end in ("", *BESIDE):
        if (file := copy.with_name(copy.name + end)).exists():
            raise Misconfigured(f"{file} is there already: name a new file")


def _copy_pages(path: Path, part: Path) -> None:
    """Copy what one moment has: without a transaction each write would begin the copy anew."""
    with closing(connect_reader(path)) as source, closing(open_file(part)) as target:
        source.execute("BEGIN")
        check_owner(source, path)
        with target.backup("main", source, "main") as backup:
            while not backup.done:
                backup.step(STEP_PAGES)


def _mark(part: Path) -> int:
    """Mark the file as a copy that has no incarnation of its own yet, and sync it; count events."""
    with closing(open_file(part)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("UPDATE file SET incarnation = '', inode = NULL")
        return int(connection.execute("SELECT coalesce(max(seq), 0) FROM events").get)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
