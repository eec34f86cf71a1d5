"""Process logs of any kind: an event's type is an activity, its payload the row's other columns.

Without rules every activity may follow any other. With rules, given or learnt from a log, events
come only from commands: a command's name is the activity, and its rule names the activities that
may precede it.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace as with_changes
from typing import Any

from msgspec.structs import replace

from eventfleet.model.command_rules import Emits
from eventfleet.model.declaration import Route
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import SchemalessPayload, State
from eventfleet.snapshot_rules import every

Rules = Mapping[str, Collection[str]]
"""The activities that may directly precede each activity; START stands for none."""

# State and evolve


class Case(State):
    """A case: each activity's count, the last activity, and each column's latest value."""

    events: int = 0
    last: str = ""
    activities: dict[str, int] = {}  # noqa: RUF012 (msgspec copies it)
    attributes: dict[str, Any] = {}  # noqa: RUF012


def evolve(case: Case, event: SchemalessPayload) -> Case:
    times = case.activities.get(event.type, 0) + 1
    return replace(
        case,
        events=case.events + 1,
        last=event.type,
        activities=case.activities | {event.type: times},
        attributes=case.attributes | event.data,
    )


# Commands


def with_rules(domain: Domain[Any], rules: Rules) -> Domain[Any]:
    """Return the schema-free domain with a command for each activity of the rules."""
    commands = [Emits(activity, activity, after=before) for activity, before in rules.items()]
    return with_changes(domain, commands=commands)


# Snapshot rule

snapshot = every(5)

# Routes

routes = [Route("process_log.activities")]

# The Domain

process_log = Domain("process_log", state=Case, evolve=evolve, snapshot=snapshot, routes=routes)
