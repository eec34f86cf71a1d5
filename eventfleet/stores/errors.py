"""The errors of stores and log; drivers' errors are translated to these."""

from collections.abc import Sequence
from enum import Enum
from typing import Any

from eventfleet.topics.errors import EventfleetError
from eventfleet.topics.record import ProducerRecord


class StoreError(EventfleetError):
    """Root of the errors that the stores and the log raise."""


class ServerUnavailable(StoreError):
    """The server did not do it, or it is unknown whether it did: try again."""


class HungUp(ServerUnavailable):
    """The server has closed the connection, or kept silent, before its first answer.

    It is starting or stopping, or another protocol is spoken there.
    """


class Misconfigured(StoreError):
    """A server, index, topic or epoch is not as the protocols need it: an operator must act."""


class FileInUse(Misconfigured):
    """Another process has the file of a fleet, or of documents."""


class DoubtfulOffset(Misconfigured):
    """A group's offset is not what it must be, as Kafka answers: one answer is no proof.

    A coordinator that has just started may answer "no offset". So it is asked again for a while
    before the error counts. `finding` is its text without the advice, for as long as it does not.
    """

    @property
    def finding(self) -> str:
        [fault] = self.args
        return getattr(fault, "finding", str(fault))


class OffsetMovedBack(DoubtfulOffset):
    """The coordinator's offset is below one that this process has committed."""

    def __init__(self, offset: int, known: int) -> None:
        super().__init__(f"the group's offset is {offset}, below {known}, which was committed")
        self.offset, self.known = offset, known


class AccessFault(Enum):
    """The reason for which a server refuses a client, or a client a server."""

    CREDENTIALS = "credentials"
    CERTIFICATE = "certificate"
    PROTOCOL = "protocol"
    RIGHT = "right"


class AccessRefused(Misconfigured):
    """A server does not let the client in or do this, or shows a certificate that can't be trusted.

    `where` names the server, `access` what an operator must look at. Neither holds a secret.
    """

    def __init__(self, where: str, reason: str, access: AccessFault) -> None:
        super().__init__(f"{where}: {reason}")
        self.reason, self.access = reason, access


class TopicRefused(Misconfigured):
    """A topic does not exist, or does not take a record."""


class RecordsTooLarge(TopicRefused):
    """A topic refuses records for their size.

    `records` are those that it can't take; none where a batch of several was refused: then the
    writer's next try makes smaller batches.
    """

    def __init__(self, reason: str, records: Sequence[ProducerRecord] = ()) -> None:
        super().__init__(reason)
        self.records = records


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


class Fenced(StoreError):
    """Another owner has taken the partition over; this one must give it up.

    It may open the partition again when it is assigned again, or is still assigned after a session.
    """
