"""What a store or log can answer instead of a result; drivers' errors are translated to these."""

from eventfleet.topics.errors import EventfleetError


class StoreError(EventfleetError):
    """Root of what the stores and the log raise."""


class ServerUnavailable(StoreError):
    """The server did not do it, or nothing is known of whether it did: try again."""


class Misconfigured(StoreError):
    """A server, index, topic or epoch is not what the protocols need: an operator must act."""


class InvalidCursor(Misconfigured):
    """A cursor that the listing did not give."""


class Duplicate(StoreError):
    """A unique key is taken. From the write at `index` on nothing was done, unless by a first try
    whose answer was lost: then it is the write itself that holds the key.

    `condition` is the key: `event id`, `version` or `position`.
    """

    def __init__(self, index: int, stream: str, version: int, condition: str) -> None:
        super().__init__(f"{stream} version {version}: {condition} is taken")
        self.index = index
        self.stream = stream
        self.version = version
        self.condition = condition


class Fenced(StoreError):
    """Another owner has taken the partition; this one must give it up.

    It may take it over afresh when it is assigned again, or still is a session later.
    """
