"""Any process log: an event's type is the activity, its payload the other columns of the row.

Without rules every event may come at any time. With rules, given or learnt from a log, events come
from commands: a command's name is the activity, and the rule names those that may precede it.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace as with_changes
from typing import Any

from msgspec.structs import replace

from eventfleet.model.command_rules import Emits
from eventfleet.model.domain import Domain, Route
from eventfleet.model.payloads import SchemalessPayload, State
from eventfleet.snapshot_rules import every

Rules = Mapping[str, Collection[str]]
"""For each activity those that may come directly before it, START for none."""

# State and evolve


class Case(State):
    """What has happened in a case: how often each activity, the latest, and its last columns."""

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
    """The schema-free domain with a command for each activity of the rules."""
    commands = [
        Emits(activity, activity, after=frozenset(before)) for activity, before in rules.items()
    ]
    return with_changes(domain, commands=commands)


# Snapshot rule

snapshot = every(5)

# Routes

routes = [Route("process_log.activities")]

# The Domain

process_log = Domain("process_log", state=Case, evolve=evolve, snapshot=snapshot, routes=routes)
