"""Commands and their events, judged after a run by rules of our own."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from eventfleet.stores.mongo.documents import event_id as stored_event_id
from eventfleet.topics.event import event_id
from tests.acceptance.command_fleet import CommandFleet
from tests.faults.command_senders import CommandAnswer, LastNote, SentCommand

TAKEN_OUTCOMES = ("accepted", "repeated")


@dataclass(frozen=True)
class Rules:
    """A domain's rules, written independently: the event of each command, and the types that each
    event may follow ("": no event)."""

    event_of: Mapping[str, str]
    may_follow: Mapping[str, Collection[str]]


DOOR_RULES = Rules(
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
ORDER_RULES = Rules(
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
class CommandSummary:
    """Counts of a run. `logged`: records in `.events`; more than stored are repeats."""

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


def read_answers(*files: Path) -> list[CommandAnswer]:
    """The outcomes that services have written down; a last line may be half written."""
    whole = [file.read_bytes().rpartition(b"\n")[0] for file in files if file.exists()]
    lines = [line for text in whole for line in text.splitlines()]
    decoded = [msgspec.json.decode(line) for line in lines]
    return [msgspec.convert(each, CommandAnswer) for each in decoded if "outcome" in each]


def read_last_note(file: Path) -> LastNote:
    """The last line of a service that has killed itself."""
    return msgspec.json.decode(file.read_bytes().splitlines()[-1], type=LastNote)


def judge(
    fleet: CommandFleet,
    sent_commands: Iterable[SentCommand],
    answers: Sequence[CommandAnswer],
    rules: Rules,
    *,
    nothing_lost: bool,
) -> CommandSummary:
    """Asserts that every command is decided, and that just what was accepted is stored and sent on.

    `nothing_lost`: Redis kept all its data, so the log has nothing that append had to drop.
    """
    fleet.settle("append")
    events = list(fleet.events.find().sort([("aggregate_id", 1), ("version", 1)]))
    stored = _by_aggregate((e["aggregate_id"], stored_event_id(e["_id"])) for e in events)
    passed = fleet.topic_events("stored")
    assert _by_aggregate((e["subject"], e["id"]) for e in passed) == stored
    _assert_succession(((e["aggregate_id"], e["type"]) for e in events), rules)
    _assert_succession(((e["subject"], e["type"]) for e in passed), rules)
    types = _by_aggregate((e["aggregate_id"], e["type"]) for e in events)
    _assert_reasons((a for a in answers if a.outcome == "rejected"), types, rules)

    taken = _taken(answers)
    wanted = {each.command_id: each for each in sent_commands}
    decided = {a.command_id for a in answers if a.outcome != "unavailable"}
    assert set(wanted) == decided
    ids = {command: event for command, (event, _) in taken.items()}
    assert ids == {c: event_id(fleet.domain, wanted[c].aggregate_id, c) for c in ids}
    assert sorted(ids.values()) == sorted(stored_event_id(e["_id"]) for e in events)

    logged = fleet.topic_events("events")
    if nothing_lost:
        in_log = _by_aggregate((e["subject"], e["id"]) for e in logged)
        assert {key: list(dict.fromkeys(found)) for key, found in in_log.items()} == stored
    report = fleet.json("audit", fleet.domain)
    assert (report["violations"], report["dead_letters"]) == ([], 0)
    if nothing_lost:
        assert report["superseded"] == 0
    return CommandSummary(
        len(wanted),
        *(sum(a.outcome == kind for a in answers) for kind in ("accepted", "rejected")),
        *(sum(a.outcome == kind for a in answers) for kind in ("repeated", "unavailable")),
        len(events),
        len(logged),
    )


def read_replies(fleet: CommandFleet) -> list[CommandAnswer]:
    """The answers on the replies' topic."""
    names = CommandAnswer.__struct_fields__
    found = [json.loads(record.value) for record in fleet.kafka.records(fleet.topic("replies"))]
    return [CommandAnswer(**{k: v for k, v in each.items() if k in names}) for each in found]


def _taken(answers: Iterable[CommandAnswer]) -> dict[str, tuple[str, str]]:
    """Event id and place of each command that was taken: the same in each of its answers."""
    taken: dict[str, tuple[str, str]] = {}
    for answer in answers:
        if answer.outcome in TAKEN_OUTCOMES:
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
    rejected: Iterable[CommandAnswer], types: Mapping[str, list[str]], rules: Rules
) -> None:
    """Each reason names a type of the aggregate's events, one that forbids the command."""
    for answer in rejected:
        event = rules.event_of[answer.command]
        assert answer.marked in ("", *types.get(answer.aggregate_id, ()))
        assert answer.marked not in rules.may_follow[event]
        assert answer.reason.startswith(f"{event} may follow ")
        present = f"not {answer.marked}" if answer.marked else "and there is no event"
        assert answer.reason.endswith(f", {present}")
