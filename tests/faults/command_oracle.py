"""What must be true of commands and their events, whatever happened between them."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from eventfleet.deciders.event_id import event_id
from tests.acceptance.command_fleet import Commanded
from tests.faults.command_senders import Answered, Asked, Noted

TAKEN = ("accepted", "repeated")


@dataclass(frozen=True)
class Rules:
    """A domain's rules once more, by hand: the event of each command, and what each event may
    follow ("": no event)."""

    event_of: Mapping[str, str]
    may_follow: Mapping[str, Collection[str]]


DOORS = Rules(
    {
        "Open": "Opened",
        "Close": "Closed",
        "Lock": "Locked",
        "Unlock": "Unlocked",
        "Knock": "Knocked",
    },
    {
        "Opened": {"", "Closed", "Unlocked"},
        "Closed": {"Opened"},
        "Locked": {"Closed", "Unlocked"},
        "Unlocked": {"Locked", "Knocked"},
        "Knocked": {"Locked"},
    },
)
ORDERS = Rules(
    {
        "Place": "Placed",
        "Pay": "Paid",
        "Pack": "Packed",
        "Ship": "Shipped",
        "Deliver": "Delivered",
        "Cancel": "Cancelled",
        "Return": "Returned",
    },
    {
        "Placed": {""},
        "Paid": {"Placed"},
        "Packed": {"Paid"},
        "Shipped": {"Packed"},
        "Delivered": {"Shipped"},
        "Cancelled": {"Placed", "Paid"},
        "Returned": {"Delivered"},
    },
)


@dataclass
class Verdicts:
    """What a run came to. `logged`: records in `.events`; more than stored are repeats."""

    commands: int
    accepted: int
    rejected: int
    repeated: int
    unavailable: int
    stored: int
    logged: int

    def __str__(self) -> str:
        named = vars(self).items()
        return ", ".join(f"{name} {number:,}" for name, number in named)


def answers_in(*files: Path) -> list[Answered]:
    """The outcomes that services have written down."""
    lines = [line for file in files if file.exists() for line in file.read_bytes().splitlines()]
    said = [msgspec.json.decode(line) for line in lines]
    return [msgspec.convert(each, Answered) for each in said if "outcome" in each]


def last_word(file: Path) -> Noted:
    """What a service that has killed itself had noted; it is written last."""
    return msgspec.json.decode(file.read_bytes().splitlines()[-1], type=Noted)


def judge(
    fleet: Commanded,
    asked: Iterable[Asked],
    answers: Sequence[Answered],
    rules: Rules,
    *,
    nothing_lost: bool,
) -> Verdicts:
    """Every command is decided, and all that is stored and passed on is what was accepted.

    `nothing_lost`: Redis kept all that it had, so nothing is in the log that append had to drop.
    """
    fleet.settle("append")
    events = list(fleet.events.find().sort([("aggregate_id", 1), ("version", 1)]))
    stored = _by_aggregate((e["aggregate_id"], e["_id"]) for e in events)
    passed = fleet.passed("stored")
    assert _by_aggregate((e["subject"], e["id"]) for e in passed) == stored
    _assert_succession(((e["aggregate_id"], e["type"]) for e in events), rules)
    _assert_succession(((e["subject"], e["type"]) for e in passed), rules)
    types = _by_aggregate((e["aggregate_id"], e["type"]) for e in events)
    _assert_reasons((a for a in answers if a.outcome == "rejected"), types, rules)

    taken = _taken(answers)
    wanted = {each.command_id: each for each in asked}
    decided = {a.command_id for a in answers if a.outcome != "unavailable"}
    assert set(wanted) == decided
    ids = {command: event for command, (event, _) in taken.items()}
    assert ids == {c: event_id(fleet.domain, wanted[c].aggregate_id, c) for c in ids}
    assert sorted(ids.values()) == sorted(e["_id"] for e in events)

    logged = fleet.passed("events")
    if nothing_lost:
        in_log = _by_aggregate((e["subject"], e["id"]) for e in logged)
        assert {key: list(dict.fromkeys(found)) for key, found in in_log.items()} == stored
    report = fleet.json("audit", fleet.domain)
    assert (report["violations"], report["dead_letters"]) == ([], 0)
    if nothing_lost:
        assert report["superseded"] == 0
    return Verdicts(
        len(wanted),
        *(sum(a.outcome == kind for a in answers) for kind in ("accepted", "rejected")),
        *(sum(a.outcome == kind for a in answers) for kind in ("repeated", "unavailable")),
        len(events),
        len(logged),
    )


def replies(fleet: Commanded) -> list[Answered]:
    """The answers on the replies' topic."""
    names = Answered.__struct_fields__
    found = [json.loads(record.value) for record in fleet.kafka.records(fleet.topic("replies"))]
    return [Answered(**{k: v for k, v in each.items() if k in names}) for each in found]


def _taken(answers: Iterable[Answered]) -> dict[str, tuple[str, str]]:
    """Event id and place of each command that was taken: the same in each of its answers."""
    taken: dict[str, tuple[str, str]] = {}
    for answer in answers:
        if answer.outcome in TAKEN:
            first = taken.setdefault(answer.command_id, (answer.event_id, answer.place))
            assert (answer.event_id, answer.place) == first
    return taken


def _by_aggregate(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for aggregate_id, of_event in pairs:
        found[aggregate_id].append(of_event)
    return dict(found)


def _assert_succession(events: Iterable[tuple[str, str]], rules: Rules) -> None:
    latest: dict[str, str] = {}
    for aggregate_id, kind in events:
        before = latest.get(aggregate_id, "")
        assert before in rules.may_follow[kind], f"{aggregate_id}: {kind} after {before}"
        latest[aggregate_id] = kind


def _assert_reasons(
    rejected: Iterable[Answered], types: Mapping[str, list[str]], rules: Rules
) -> None:
    """Each names a type that the aggregate has had, and that forbids the command."""
    for answer in rejected:
        event = rules.event_of[answer.command]
        assert answer.marked in ("", *types.get(answer.aggregate_id, ()))
        assert answer.marked not in rules.may_follow[event]
        assert answer.reason.startswith(f"{event} may follow ")
        assert answer.reason.endswith(f", not {answer.marked or 'no event'}")
