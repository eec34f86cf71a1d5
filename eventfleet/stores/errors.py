"""The errors of stores and log; drivers' errors are translated to these."""

from eventfleet.topics.errors import EventfleetError


class StoreError(EventfleetError):
    """Root of the errors that the stores and the log raise."""


class ServerUnavailable(StoreError):
    """The server did not do it, or it is unknown whether it did: try again."""


class HalfDone(ServerUnavailable):
    """The server did a part of it, which is kept: try the rest again."""


class Misconfigured(StoreError):
    """A server, index, topic or epoch is not as the protocols need it: an operator must act."""


class TopicRefused(Misconfigured):
    """A topic does not exist, or does not take a record."""


class InvalidCursor(Misconfigured):
    """The cursor is not one of this listing."""


class Duplicate(StoreError):
    """A unique key is taken; nothing was done from the write at `index` on.

    After a first try whose answer was lost, the key may be taken by that very write. `key` is
    `event id` or `version`; `stream` is the domain and the aggregate's id.
    """

    def __init__(self, index: int, stream: str, version: int, key: str) -> None:
        super().__init__(f"{stream} version {version}: {key} is taken")
        self.index = index
        self.stream = stream
        self.version = version
        self.key = key


class Fenced(StoreError):
    """Another owner has taken the partition over; this one must give it up.

    It may open the partition again when it is assigned again, or is still assigned after a session.
    """
