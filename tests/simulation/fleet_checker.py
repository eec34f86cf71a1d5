"""What a fleet of a synchronous domain promises: answers and replies against the store."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from eventfleet.deciders.outcomes import (
    Accepted,
    Outcome,
    Rejected,
    Repeated,
    Unavailable,
    VersionConflict,
)
from eventfleet.topics.record import LogRecord
from tests.simulation.accounts import FEE
from tests.simulation.checker import BrokenInvariant, History


@dataclass
class Answer:
    """One time that a command was sent, named `sending`; `by_topic`: its answer is a reply.
    `expected`: the version that it was sent on."""

    command_id: str
    event_id: str
    amount: int
    aggregate_id: str
    sending: str
    expected: int | None = None
    began: int = 0
    ended: int = 0
    by_topic: bool = False
    outcome: Outcome | None = None

    @property
    def unknown(self) -> bool:
        return self.outcome is None or isinstance(self.outcome, Unavailable)


Answers = Mapping[str, list[Answer]]


def check_balances(stored: History) -> None:
    """No account is ever overdrawn."""
    for aggregate_id, events in stored.items():
        balance = 0
        for event in events:
            balance += event.data["amount"]
            if balance < 0:
                told = [(e.data["n"], e.data["amount"]) for e in events]
                raise BrokenInvariant("overdrawn", f"{aggregate_id}: {told}")


def check_whole(stored: History) -> None:
    """All events of a command are stored, or none: a withdrawal has its fee right behind it."""
    for aggregate_id, events in stored.items():
        names = [event.data["n"] for event in events]
        for event, after in zip(events, [*names[1:], ""], strict=True):
            name, fee = event.data["n"], f"{event.data['n']}-fee"
            paid_out = event.data["amount"] < 0 and not name.endswith("-fee")
            if paid_out and after != fee:
                raise BrokenInvariant("half a command", f"{aggregate_id}: {names}")


def check_answers(answers: Answers, replies: list[LogRecord], stored: History) -> None:
    """What was said of a command is true, and each command in the topic has one reply."""
    counts = Counter(event.id for events in stored.values() for event in events)
    replied: dict[str, list[str]] = {}
    for reply in map(orjson.loads, (record.value or b"" for record in replies)):
        replied.setdefault(reply["command_id"], []).append(reply["outcome"])
    for command_id, asked in answers.items():
        said = replied.get(command_id, [])
        if len(said) != sum(each.by_topic for each in asked):
            raise BrokenInvariant("not one reply for each command", f"{command_id}: {said}")
        direct = [each for each in asked if not each.by_topic]
        positive = any(isinstance(each.outcome, Accepted | Repeated) for each in direct)
        told = positive or {"accepted", "repeated"} & {*said}
        if told and counts[asked[0].event_id] != 1:
            raise BrokenInvariant("accepted but not stored", f"{asked}, replies {said}")
        if said.count("accepted") + sum(isinstance(e.outcome, Accepted) for e in direct) > 1:
            _check_one_acceptance(asked)


def check_refusals(
    answers: Answers, replies: list[LogRecord], stored: History, dates: Mapping[str, list[int]]
) -> None:
    """What is stored was asked for by a call that was not refused, while it was under way."""
    replied = {reply["correlation_id"]: reply["outcome"] for reply in map(_reply, replies)}
    placed = {
        event.id: date
        for aggregate_id, events in stored.items()
        for event, date in zip(events, dates[aggregate_id], strict=True)
    }
    for asked in answers.values():
        date = placed.get(asked[0].event_id)
        if date is not None and not any(_may_store(each, date, replied) for each in asked):
            raise BrokenInvariant("refused but stored", f"{asked}, {replied}, in step {date}")


def _may_store(answer: Answer, date: int, replied: Mapping[str, str]) -> bool:
    if answer.began > date:
        return False
    if answer.by_topic:
        return replied.get(answer.sending) in {"accepted", "repeated"}
    positive = isinstance(answer.outcome, Accepted | Repeated)
    return answer.unknown or (positive and date <= answer.ended)


def _check_one_acceptance(asked: list[Answer]) -> None:
    """Who asks after an acceptance is told that it is a repeat."""
    ends = [each.ended for each in asked if isinstance(each.outcome, Accepted)]
    for each in asked:
        if isinstance(each.outcome, Accepted) and ends and each.began > min(ends):
            raise BrokenInvariant("accepted again", asked)


def check_rejections(answers: Answers, stored: History, dates: Mapping[str, list[int]]) -> None:
    """Who was rejected met a balance, that of its time, which is not enough."""
    for asked in answers.values():
        for answer in asked:
            if isinstance(answer.outcome, Rejected):
                _check_rejection(answer, stored, dates[answer.aggregate_id])


def _check_rejection(answer: Answer, stored: History, dates: list[int]) -> None:
    assert isinstance(answer.outcome, Rejected)
    said = int(answer.outcome.reason.removeprefix("there are "))
    if said >= answer.amount + FEE:
        raise BrokenInvariant("rejected although allowed", answer)
    balances = [0]
    for event in stored.get(answer.aggregate_id, []):
        balances.append(balances[-1] + event.data["amount"])
    begins, ends = [0, *dates], [*dates, answer.ended]
    reigning = {
        balance
        for balance, begin, end in zip(balances, begins, ends, strict=True)
        if begin <= answer.ended and answer.began <= end
    }
    if said not in reigning:
        raise BrokenInvariant("rejected for what was not there", f"{answer}, {reigning}")


def check_expected(
    answers: Answers,
    replies: list[LogRecord],
    stored: History,
    dates: Mapping[str, list[int]],
) -> None:
    """An accepted command that expects a version has its event at the next; one that is refused
    for its version met another, that of its time."""
    versions = {event.id: event.version for events in stored.values() for event in events}
    replied = {reply["correlation_id"]: reply for reply in map(_reply, replies)}
    for answer in (each for asked in answers.values() for each in asked):
        if answer.expected is None:
            continue
        outcome, reply = answer.outcome, replied.get(answer.sending, {})
        first = versions.get(answer.event_id)
        if isinstance(outcome, Accepted) or reply.get("outcome") == "accepted":
            if first != answer.expected + 1:
                raise BrokenInvariant("accepted on another version", f"{answer}, at {first}")
        elif isinstance(outcome, VersionConflict):
            _check_conflict(answer, outcome.version, dates[answer.aggregate_id])
        elif reply.get("outcome") == "conflict" and reply.get("version") == answer.expected:
            raise BrokenInvariant("refused on the version that it expects", f"{answer}, {reply}")


def _check_conflict(answer: Answer, version: int, dates: list[int]) -> None:
    if version == answer.expected:
        raise BrokenInvariant("refused on the version that it expects", answer)
    begins, ends = [0, *dates], [*dates, answer.ended]
    reigned = version < len(begins) and (
        begins[version] <= answer.ended and answer.began <= ends[version]
    )
    if not reigned:
        raise BrokenInvariant("refused for a version that was not there", f"{answer}, {dates}")


def _reply(record: LogRecord) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(record.value or b"")
    return found
