"""The errors of documents, aggregates and commands."""

from collections.abc import Collection
from typing import Any

from eventfleet.topics.errors import EventfleetError, InvalidRecord


class NotFound(EventfleetError):
    """There is no document or aggregate `id`, or it was deleted; `kind` is its collection or
    domain."""

    def __init__(self, kind: str, id: Any) -> None:
        super().__init__(f"{kind} {id!r} does not exist: create it first, or check the id")
        self.kind, self.id = kind, id


class EditConflict(EventfleetError):
    """Other writers came first, and nothing was stored; `kind` is a collection or domain.

    `expected` is the version that the change was made on, `present` the stored one. For a document,
    `attempted` is the Diff that was not stored, and `others` are those stored meanwhile.
    """

    def __init__(
        self,
        kind: str,
        id: Any,
        expected: int,
        present: int,
        attempted: Any = None,
        others: tuple[Any, ...] = (),
    ) -> None:
        super().__init__(
            f"{kind} {id!r} is at version {present}, not at {expected}: load it again and repeat "
            "the change"
        )
        self.kind, self.id, self.expected, self.present = kind, id, expected, present
        self.attempted, self.others = attempted, others


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


class InvalidDocument(InvalidRecord):
    """A document can't be stored, or a stored one can't be read: `field` and `reason` say why."""


class OpeningFailed(EventfleetError):
    """A part of a storage can't be opened: `part` names it, the cause says why."""

    def __init__(self, part: str, reason: object) -> None:
        super().__init__(f"{part} can't be opened: {reason}")
        self.part = part
