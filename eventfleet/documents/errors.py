"""The errors of documents."""

from eventfleet.topics.errors import EventfleetError, InvalidRecord


class InvalidDocument(InvalidRecord):
    """A document can't be stored, or a stored one can't be read: `field` and `reason` say why."""


class OpeningFailed(EventfleetError):
    """A part of a storage can't be opened: `part` names it, the cause says why."""

    def __init__(self, part: str, reason: object) -> None:
        super().__init__(f"{part} can't be opened: {reason}")
        self.part = part
