"""Translates SQLite's errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from eventfleet.stores.errors import Misconfigured, ServerUnavailable, StoreError

REASONS: dict[type[apsw.Error], str] = {
    apsw.FullError: "the disk is full",
    apsw.BusyError: "another program has locked it",
    apsw.IOError: "the disk failed",
    apsw.InterruptError: "it is being closed",
    apsw.ReadOnlyError: "it can't be written",
    apsw.CantOpenError: "it can't be opened",
    apsw.PermissionsError: "its permissions forbid it",
    apsw.CorruptError: "it is damaged: restore a backup",
    apsw.NotADBError: "it is no SQLite file",
}
LASTING = (
    apsw.ReadOnlyError,
    apsw.CantOpenError,
    apsw.PermissionsError,
    apsw.CorruptError,
    apsw.NotADBError,
)
"""What no retry changes."""


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Raise Misconfigured or ServerUnavailable for what SQLite says of the file."""
    try:
        yield
    except tuple(REASONS) as error:
        raise translated(path, error) from error


def translated(path: Path, error: BaseException) -> BaseException:
    """The error that says of the file what SQLite's, or the system's, does; others stay as they
    are."""
    if isinstance(error, OSError):
        return ServerUnavailable(f"{path}: {error.strerror}")
    for kind, reason in REASONS.items():
        if isinstance(error, kind):
            fault: type[StoreError] = Misconfigured if kind in LASTING else ServerUnavailable
            return fault(f"{path}: {reason} ({error})")
    return error
