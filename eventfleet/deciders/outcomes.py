"""Outcomes: what became of a command. They are values, not exceptions."""

from typing import Any, Literal

import msgspec
from msgspec.structs import asdict


class Accepted(msgspec.Struct, frozen=True):
    """The event is safe; `place` is the topic and partition that it is in, or will be in.

    In a synchronous domain `version` is the aggregate's after all events of the command, whose
    first is `event_id`; `published` is false when the stream did not take them yet (the sweep of
    the append role brings them there). In an asynchronous one `version` is 0: append gives it.
    """

    event_id: str
    place: str
    version: int = 0
    published: bool = True


class Rejected(msgspec.Struct, frozen=True):
    """A rule forbids the command. In an asynchronous domain `marked` is the type of the latest
    event ("": none)."""

    reason: str
    marked: str = ""


class IdReused(Rejected, frozen=True):
    """The command's id belongs to another command, of another name or payload."""


class Conflict(msgspec.Struct, frozen=True):
    """Concurrent changes of the aggregate won every retry; nothing is done."""

    reason: str


class VersionConflict(Conflict, frozen=True):
    """The aggregate is at `version`, not at the one that the command expects; nothing is done. To
    send the same again is of no use: read the aggregate, and decide on what it is now."""

    version: int


class Repeated(msgspec.Struct, frozen=True):
    """The command was accepted before: the first answer again."""

    event_id: str
    place: str
    version: int = 0


class Unavailable(msgspec.Struct, frozen=True):
    """Nothing is known to be done; send the command again with the same id."""

    reason: str


class Failed(msgspec.Struct, frozen=True):
    """The domain's own code raised: nothing is done, and the same command fails until the code or
    the aggregate's events are mended.

    `problem`: deciding the command failed, or replaying the aggregate's events, or append parks
    one of them; or this process or append is older than one, `newer-schema`. `reason` names the
    command or the event. `details` is the traceback, for logs only: it quotes the exception, which
    may quote anything.
    """

    problem: Literal["decide-failed", "replay-failed", "newer-schema", "aggregate-parked"]
    reason: str
    details: str = ""


DEADLINE_PASSED = Unavailable("the deadline has passed")

Outcome = Accepted | Rejected | Conflict | Repeated | Unavailable | Failed

OUTCOME_NAMES: dict[type[Outcome], str] = {
    Accepted: "accepted",
    Rejected: "rejected",
    IdReused: "rejected",
    Conflict: "conflict",
    VersionConflict: "conflict",
    Repeated: "repeated",
    Unavailable: "unavailable",
    Failed: "failed",
}
"""The names of outcomes in replies; a conflict with a `version` is a VersionConflict."""


def name_outcome(outcome: Outcome) -> str:
    """Return the name of an outcome for a caller: a roll-out that goes on is no failure of his."""
    if isinstance(outcome, Failed) and outcome.problem == "newer-schema":
        return OUTCOME_NAMES[Unavailable]
    return OUTCOME_NAMES[type(outcome)]


def outcome_fields(outcome: Outcome) -> dict[str, Any]:
    """The fields of an outcome in a reply; no version where the domain gives none."""
    if isinstance(outcome, Accepted | Repeated) and not outcome.version:
        return {"event_id": outcome.event_id, "place": outcome.place}
    if isinstance(outcome, Failed):
        return {"problem": outcome.problem, "reason": outcome.reason}
    return asdict(outcome)
