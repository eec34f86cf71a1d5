"""What became of a command: values, not exceptions."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Accepted:
    """The stream has the event. `place` is its topic and partition."""

    event_id: str
    place: str


@dataclass(frozen=True)
class Rejected:
    """The rule forbids the command after the aggregate's latest event, `marked` ("": none)."""

    reason: str
    marked: str


@dataclass(frozen=True)
class Repeated:
    """The command was accepted before: the first answer again."""

    event_id: str
    place: str


@dataclass(frozen=True)
class Unavailable:
    """Nothing is known to be done; repeat the command with the same id."""

    reason: str


Outcome = Accepted | Rejected | Repeated | Unavailable
