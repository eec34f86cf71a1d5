"""Any process log: an event's type is the activity, its payload the other columns of the row."""

from typing import Any

from msgspec.structs import replace

from domains.declaration import Domain, Recorded, Route, State
from snapshot_rules import every

# State and evolve


class Case(State):
    """What has happened in a case: how often each activity, the latest, and its last columns."""

    events: int = 0
    last: str = ""
    activities: dict[str, int] = {}  # noqa: RUF012 (msgspec copies it)
    attributes: dict[str, Any] = {}  # noqa: RUF012


def evolve(case: Case, event: Recorded) -> Case:
    times = case.activities.get(event.type, 0) + 1
    return replace(
        case,
        events=case.events + 1,
        last=event.type,
        activities=case.activities | {event.type: times},
        attributes=case.attributes | event.data,
    )


# Snapshot rule

snapshot = every(5)

# Routes

routes = [Route("process_log.activities")]

# The Domain

process_log = Domain("process_log", state=Case, evolve=evolve, snapshot=snapshot, routes=routes)
