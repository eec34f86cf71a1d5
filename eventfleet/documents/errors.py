"""The errors of documents, aggregates and commands."""

from collections.abc import Collection
from typing import Any

from eventfleet.topics.errors import EventfleetError


class NotFound(EventfleetError):
    """The document or aggregate `id` does not exist; `kind` is its collection or domain."""

    def __init__(self, kind: str, id: str) -> None:
        super().__init__(f"{kind} {id!r} does not exist: create it first, or check the id")
        self.kind, self.id = kind, id


class Conflict(EventfleetError):
    """Another writer changed the document or aggregate first; nothing is stored.

    `kind` is its collection or domain. The versions are the one that the change was made on, and
    the stored one; the diffs are of the change that was refused, and of those stored in between.
    Each is None where it is not known.
    """

    def __init__(
        self,
        kind: str,
        id: str,
        *,
        expected_version: int | None = None,
        present_version: int | None = None,
        refused_diff: Any = None,
        present_diff: Any = None,
    ) -> None:
        found = "was changed by another writer"
        if present_version is not None:
            found = f"is at version {present_version}"
        expected = "" if expected_version is None else f", not at {expected_version}"
        super().__init__(f"{kind} {id!r} {found}{expected}: load it again and repeat the change")
        self.kind, self.id = kind, id
        self.expected_version, self.present_version = expected_version, present_version
        self.refused_diff, self.present_diff = refused_diff, present_diff


class NotRegistered(EventfleetError):
    """Nothing is registered for `name`, a command or an aggregate's type; `known` are those with.

    `kind` is `command` or `aggregate`.
    """

    def __init__(self, kind: str, name: str, known: Collection[str]) -> None:
        names = ", ".join(sorted(known)) or "none"
        super().__init__(f"{kind} {name!r} is not registered; registered: {names}")
        self.kind, self.name, self.known = kind, name, frozenset(known)


class AlreadyRegistered(EventfleetError):
    """`name`, a command or an aggregate's type, has its handler or delegate already.

    `kind` is `command` or `aggregate`.
    """

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"{kind} {name!r} is registered already, and can be only once")
        self.kind, self.name = kind, name
