"""The root of eventfleet's errors, and the error of reading a record."""


class EventfleetError(Exception):
    """Root of all errors that eventfleet raises on purpose."""


class InvalidRecord(EventfleetError, ValueError):
    """A record or payload is invalid: `field` names where, `reason` says why."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class NewerSchema(InvalidRecord):
    """A record has a type or schema version that another deployment of the team's code knows."""
