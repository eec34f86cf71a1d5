"""Rows that the command line prints."""

import json
import uuid
from pathlib import Path

MODULE = """
from msgspec.structs import replace

from eventfleet import Domain, Event, Route, State, every


class Opened(Event):
    owner: str


class Deposited(Event):
    amount: int


class Account(State):
    owner: str = ""
    balance: int = 0


def evolve(account, event):
    if isinstance(event, Opened):
        return replace(account, owner=event.owner)
    return replace(account, balance=account.balance + event.amount)


def declared(name):
    return Domain(
        name,
        state=Account,
        evolve=evolve,
        events=[Opened, Deposited],
        snapshot=every(3),
        routes=[Route(name + ".money", types=frozenset({Deposited}))],
    )


"""


def rows(folder: Path, *accounts: str) -> str:
    """A file of four events for each account, those of all accounts interleaved."""
    lines = []
    for number in range(4):
        for account in accounts:
            row = {
                "case:concept:name": account,
                "type": "Deposited" if number else "Opened",
                "time:timestamp": f"2026-03-0{number + 1}T10:00:00Z",
            }
            lines.append(json.dumps(row | ({"amount": number} if number else {"owner": "Ann"})))
    path = folder / f"{uuid.uuid4().hex}.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path.name
