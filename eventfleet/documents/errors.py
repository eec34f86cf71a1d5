"""The errors of documents and aggregates."""

from typing import Any

from eventfleet.topics.errors import EventfleetError, InvalidRecord


class NotFound(EventfleetError):
    """There is no such document or aggregate, or it was deleted."""

    def __init__(self, kind: str, id: Any) -> None:
        super().__init__(f"{kind}/{id}: there is none")
        self.kind, self.id = kind, id


class Conflict(EventfleetError):
    """Other writers came first, and nothing was stored.

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
        super().__init__(f"{kind}/{id}: the version is {present}, not {expected}")
        self.kind, self.id, self.expected, self.present = kind, id, expected, present
        self.attempted, self.others = attempted, others


class InvalidDocument(InvalidRecord):
    """A document can't be stored, or a stored one can't be read: `field` and `reason` say why."""


class OpeningFailed(EventfleetError):
    """A part of a storage can't be opened: `part` names it, the cause says why."""

    def __init__(self, part: str, reason: object) -> None:
        super().__init__(f"{part} can't be opened: {reason}")
        self.part = part
