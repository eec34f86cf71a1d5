"""What became of a command: values, not exceptions."""

from msgspec import Struct


class Accepted(Struct, frozen=True):
    """The stream has the event. `place` is its topic and partition."""

    event_id: str
    place: str


class Rejected(Struct, frozen=True):
    """The rule forbids the command after the aggregate's latest event, `marked` ("": none)."""

    reason: str
    marked: str


class Repeated(Struct, frozen=True):
    """The command was accepted before: the first answer again."""

    event_id: str
    place: str


class Unavailable(Struct, frozen=True):
    """Nothing is known to be done; repeat the command with the same id."""

    reason: str


Outcome = Accepted | Rejected | Repeated | Unavailable
