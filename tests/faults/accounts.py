"""Accounts of the bank, and what must hold of them after a run with faults."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from eventfleet.stores.mongo.documents import event_id as stored_event_id
from eventfleet.topics.event import event_id
from tests.acceptance.kafka_by_hand import wait_for
from tests.faults.command_oracle import TAKEN_OUTCOMES
from tests.faults.command_senders import CommandAnswer, SentCommand
from tests.faults.services import ServedFleet, Servers

OVERDRAFT_LIMIT_CENTS = 5_00
SIGNS = {"Deposited": 1, "Withdrawn": -1, "FeeCharged": -1}


class BankFleet(ServedFleet):
    """A fleet for the bank; its accounts have an overdraft limit and some money to begin with."""

    def __init__(self, servers: Servers, folder: Path, accounts: int, **settings: str) -> None:
        super().__init__(servers, folder, "eventfleet.domains.bank", **settings)
        self.accounts = [f"account-{number}" for number in range(accounts)]

    def open_accounts(self, cents: int) -> None:
        """Open the accounts and put an amount into each."""
        terms = {"owner": "ann", "currency": "EUR", "overdraft_limit": OVERDRAFT_LIMIT_CENTS}
        self.sent_commands = [SentCommand(f"open-{a}", a, "Open", terms) for a in self.accounts]
        assert self.service(self.sent_commands, 10).wait() == 0
        deposits = [SentCommand(f"put-{a}", a, "Deposit", {"amount": cents}) for a in self.accounts]
        self.sent_commands += deposits
        assert self.service(deposits, 10).wait() == 0

    def withdrawals(self, name: str, count: int, seed: int) -> dict[str, SentCommand]:
        """By command id; a third of them with a fee, which makes a second event."""
        chance = Random(seed)
        made = {}
        for number in range(count):
            account = chance.choice(self.accounts)
            fee = chance.choice([0, 0, 25])
            data = {"amount": chance.randint(1, 5_00), "fee": fee}
            made[f"{name}-{number}"] = SentCommand(f"{name}-{number}", account, "Withdraw", data)
        return made


def check(fleet: BankFleet, sent_commands: Iterable[SentCommand], *, limited: bool = True) -> str:
    """Asserts that the accounts are as their commands left them; a summary of the run.

    Every command is decided; what was accepted is stored once and whole, nothing else is; no
    balance was ever below its limit; `.stored` has each account's versions in order, once.

    `limited`: some withdrawals were more than the account held.
    """
    wait_for(lambda: not fleet.events.find_one({"unplaced": {"$gte": 0}}), "all to be published")
    fleet.settle("append", "snapshot")
    by_id = {each.command_id: each for each in (*fleet.sent_commands, *sent_commands)}
    answers = fleet.answers()
    found = fleet.events.find().sort([("aggregate_id", 1), ("version", 1)])
    events = [event | {"_id": stored_event_id(event["_id"])} for event in found]
    taken = {a.command_id for a in answers if a.outcome in TAKEN_OUTCOMES}
    rejected = {a.command_id for a in answers if a.outcome == "rejected"}
    assert taken | rejected == set(by_id)
    assert taken & rejected == set()
    assert rejected or not limited

    wanted = {command: _ids(fleet, by_id[command]) for command in taken}
    assert sorted(e["_id"] for e in events) == sorted(i for ids in wanted.values() for i in ids)
    _assert_whole(events, wanted)
    _assert_answers(answers, events)
    histories = _histories(events)
    for history in histories.values():
        _assert_history(history)
    passed: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for event in fleet.topic_events("stored"):
        passed[event["subject"]].append((event["version"], event["id"]))
    assert passed == {a: [(e["version"], e["_id"]) for e in h] for a, h in histories.items()}
    report = fleet.json("audit", fleet.domain)
    assert (report["violations"], report["dead_letters"], report["superseded"]) == ([], 0, 0)

    outcomes = [a.outcome for a in answers]
    counted = {name: outcomes.count(name) for name in ("repeated", "conflict", "unavailable")}
    unpublished = sum(not a.published for a in answers)
    return (
        f"{len(by_id):,} commands, accepted {len(taken):,}, rejected {len(rejected):,}, answered "
        f"{counted}, unpublished {unpublished}; stored {len(events):,} events"
    )


def _ids(fleet: BankFleet, command: SentCommand) -> list[str]:
    both = range(2 if command.data.get("fee") else 1)
    return [event_id(fleet.domain, command.aggregate_id, command.command_id, i) for i in both]


def _histories(events: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for event in events:
        found[event["aggregate_id"]].append(event)
    return found


def _assert_history(history: Sequence[Mapping[str, Any]]) -> None:
    assert [event["version"] for event in history] == list(range(1, len(history) + 1))
    balance = 0
    for event in history:
        assert event["offset"] >= 0
        balance += SIGNS.get(event["type"], 0) * event["data"].get("amount", 0)
        assert balance >= -OVERDRAFT_LIMIT_CENTS, (
            f"{event['aggregate_id']} version {event['version']}: {balance}"
        )


def _assert_whole(events: Sequence[Mapping[str, Any]], wanted: Mapping[str, Sequence[str]]) -> None:
    """The events of each command have consecutive versions."""
    version = {event["_id"]: event["version"] for event in events}
    for ids in wanted.values():
        first = version[ids[0]]
        assert [version[each] for each in ids] == [first + i for i in range(len(ids))]


def _assert_answers(answers: Iterable[CommandAnswer], events: Sequence[Mapping[str, Any]]) -> None:
    """Each answer that a command was accepted names its event and version."""
    version = {event["_id"]: event["version"] for event in events}
    type_of = {event["_id"]: event["type"] for event in events}
    at = {(event["aggregate_id"], event["version"]): event["type"] for event in events}
    for answer in answers:
        if answer.outcome in TAKEN_OUTCOMES:
            first = version[answer.event_id]
            two = type_of[answer.event_id] == "Withdrawn" and answer.version == first + 1
            assert answer.version == first + two
            assert not two or at[answer.aggregate_id, answer.version] == "FeeCharged"
