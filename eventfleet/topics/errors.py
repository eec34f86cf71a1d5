"""The root of every error that eventfleet raises, and the errors of reading a record."""


class EventfleetError(Exception):
    """Root of all errors raised on purpose."""


class InvalidRecord(EventfleetError, ValueError):
    """A record or payload that can't be accepted: which field, and why."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason
