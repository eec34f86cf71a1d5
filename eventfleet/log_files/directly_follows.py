"""Rules of which activities follow each other: read from a file, or learned from a log."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from eventfleet.log_files import LogRow, RowProblem
from eventfleet.model.command_rules import START
from eventfleet.topics.errors import EventfleetError
from eventfleet.topics.event import Identifier
from eventfleet.topics.values import DECODE_ERRORS

Rules = dict[str, list[str]]
"""For each activity the activities that may come directly before it; START for none."""

MAX_PROBLEMS = 20


class UnusableRules(EventfleetError):
    """A file of rules can't be used: which, and why."""


@dataclass
class LearnedRules:
    """Rules learned from a log: every direct succession in it is allowed, no other.

    `problems` holds the first reasons why rows were left out.
    """

    rules: Rules = field(default_factory=dict)
    rows: int = 0
    left_out: int = 0
    problems: list[str] = field(default_factory=list)


def learn_rules(rows: Iterable[LogRow | RowProblem]) -> LearnedRules:
    """Learn rules from rows, each case's in order. Keeps the latest activity of each case."""
    learned, latest = LearnedRules(), dict[str, str]()
    found: dict[str, set[str]] = {}
    for row in rows:
        learned.rows += 1
        if isinstance(row, RowProblem):
            learned.left_out += 1
            if len(learned.problems) < MAX_PROBLEMS:
                learned.problems.append(str(row))
            continue
        found.setdefault(row.activity, set()).add(latest.get(row.case, START))
        latest[row.case] = row.activity
    learned.rules = {activity: sorted(found[activity]) for activity in sorted(found)}
    return learned


def read_rules(path: str) -> Rules:
    """Read rules from a file: a JSON object of lists, in which `""` means no activity yet.

    UnusableRules gives the reason.
    """
    try:
        rules = msgspec.json.decode(Path(path).read_bytes(), type=dict[Identifier, list[str]])
    except OSError as error:
        raise UnusableRules(f"{path}: can't be read: {error.strerror}") from None
    except DECODE_ERRORS as error:
        raise UnusableRules(f"{path}: {error}") from None
    if not rules:
        raise UnusableRules(f"{path}: has no activity")
    unknown = {name for before in rules.values() for name in before} - {START, *rules}
    if unknown:
        raise UnusableRules(
            f"{path}: {min(unknown)!r} precedes other activities, but has no rule itself"
        )
    return rules


def format_rules(rules: Rules) -> bytes:
    """Format rules as JSON, one activity per line."""
    lines = [
        f"  {msgspec.json.encode(activity).decode()}: {msgspec.json.encode(before).decode()}"
        for activity, before in rules.items()
    ]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()
