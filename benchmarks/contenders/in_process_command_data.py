"""Deposits into accounts, one after another at a fixed rate, and how long each takes."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace as with_changes
from itertools import count
from random import Random
from statistics import quantiles
from typing import Any

from msgspec.structs import replace

from benchmarks.contenders.task import Clock, Result, Task
from benchmarks.data import Account, Amount, Cents, Deposited, Text, ledger, made
from eventfleet.model.command_rules import START, Emits
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Command
from eventfleet.topics.event import EventRecord

ACCOUNTS = 5_000
EAGER = 500
"""Senders that send again at once, where the peak is sought."""

Send = Callable[[str, dict[str, Any]], Awaitable[None]]
"""Deposits into an account, and raises unless it was accepted."""


class Deposit(Command):
    amount: Cents
    reference: Text
    channel: Text


def bank(name: str) -> Domain[Account]:
    """A ledger by this name whose deposits are commands, with a rule."""
    rule = Emits(Deposit, Deposited, after=frozenset({START, Deposited}))
    return with_changes(ledger(name), commands=[rule], snapshot=None, routes=())


def first_deposits(name: str) -> list[EventRecord]:
    """The first event of each account, as a command would have made it."""
    (events,) = made(name, Amount(ACCOUNTS, ACCOUNTS, 1))
    data = {"amount": 1, "reference": "opening", "channel": "branch"}
    kind = Deposited.__name__
    return [replace(e, type=kind, data=data, version=0, position=None, prev="") for e in events]


def deposits(start: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """Accounts and payloads, in the same order at every call; the sum of their lengths is known."""
    random = Random(7)
    for number in count(start):
        account = f"account-{random.randrange(ACCOUNTS):06}"
        amount = random.randrange(1, 1_000_000)
        yield account, {"amount": amount, "reference": f"slip {number:08}", "channel": "card"}


async def warm(send: Send) -> None:
    """One deposit into each account; then the pause in which servers and guards have a look."""
    for start in range(0, ACCOUNTS, EAGER):
        accounts = [f"account-{number:06}" for number in range(start, start + EAGER)]
        data = {"amount": 1, "reference": "warming up", "channel": "card"}
        await asyncio.gather(*(send(account, data) for account in accounts))
    await asyncio.sleep(2)


async def measured(task: Task, send: Send, settings: dict[str, Any]) -> Result:
    """At `rate` a second, or, where that is 0, as fast as EAGER senders can."""
    await warm(send)
    clock = Clock()
    rate = task.more["rate"]
    clock.start()
    times = await (_paced(task.records, rate, send) if rate else _eager(task.records, send))
    clock.stop()
    cuts = quantiles(times, n=100)
    measures = {"p50": cuts[49], "p99": cuts[98]}
    shown = settings | {"rate": f"{rate:,.0f}/s"}
    return Result(task.records, clock.seconds, clock.cpu, 0, shown, measures)


async def _paced(records: int, rate: float, send: Send) -> list[float]:
    """Seconds from the moment when each was due, whenever it was sent."""
    times: list[float] = []

    async def one(due: float, account: str, data: dict[str, Any]) -> None:
        await send(account, data)
        times.append(time.perf_counter() - due)

    began, source = time.perf_counter(), deposits()
    async with asyncio.TaskGroup() as tasks:
        for number in range(records):
            due = began + number / rate
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            tasks.create_task(one(due, *next(source)))
    return times


async def _eager(records: int, send: Send) -> list[float]:
    times: list[float] = []
    source = iter(list(zip(range(records), deposits(), strict=False)))

    async def sender() -> None:
        for _, (account, data) in source:
            began = time.perf_counter()
            await send(account, data)
            times.append(time.perf_counter() - began)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(EAGER):
            tasks.create_task(sender())
    return times
