"""Deposits into accounts at a fixed rate, and their latencies."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace as with_changes
from itertools import count
from random import Random
from statistics import quantiles
from typing import Any

from msgspec.structs import replace

from benchmarks.contenders.task import ContenderTask, Result, Stopwatch
from benchmarks.data import (
    Account,
    Cents,
    DatasetSize,
    Deposited,
    Text,
    declare_ledger,
    make_events,
)
from eventfleet.model.command_rules import START, Emits
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Command
from eventfleet.topics.event import EventRecord

ACCOUNTS = 5_000
EAGER_SENDERS = 500
"""Concurrent senders in the search for the peak rate, each of which sends without a pause."""

SendDeposit = Callable[[str, dict[str, Any]], Awaitable[None]]
"""Sends a deposit into an account; raises unless it is accepted."""


class Deposit(Command):
    amount: Cents
    reference: Text
    channel: Text


def declare_bank(name: str) -> Domain[Account]:
    """Declare a ledger by this name whose deposits are commands with a rule."""
    rule = Emits(Deposit, Deposited, after=frozenset({START, Deposited}))
    return with_changes(declare_ledger(name), commands=[rule], snapshot=None, routes=())


def make_first_deposits(name: str) -> list[EventRecord]:
    """Return the first event of each account, as a command would have made it."""
    (events,) = make_events(name, DatasetSize(ACCOUNTS, ACCOUNTS, 1))
    data = {"amount": 1, "reference": "opening", "channel": "branch"}
    kind = Deposited.__name__
    return [replace(e, type=kind, data=data, version=0, position=None, prev="") for e in events]


def deposits(start: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield accounts and payloads, in the same order at every call."""
    random = Random(7)
    for number in count(start):
        account = f"account-{random.randrange(ACCOUNTS):06}"
        amount = random.randrange(1, 1_000_000)
        yield account, {"amount": amount, "reference": f"slip {number:08}", "channel": "card"}


async def warm_up(send: SendDeposit) -> None:
    """Send one deposit into each account, then pause, so that lag guards refresh."""
    for start in range(0, ACCOUNTS, EAGER_SENDERS):
        accounts = [f"account-{number:06}" for number in range(start, start + EAGER_SENDERS)]
        data = {"amount": 1, "reference": "warming up", "channel": "card"}
        await asyncio.gather(*(send(account, data) for account in accounts))
    await asyncio.sleep(2)


async def measure_sends(task: ContenderTask, send: SendDeposit, settings: dict[str, Any]) -> Result:
    """Send at `rate` a second, or, when it is 0, as fast as EAGER_SENDERS can."""
    await warm_up(send)
    clock = Stopwatch()
    rate = task.extra["rate"]
    clock.start()
    times = await (
        _send_paced(task.records, rate, send) if rate else _send_eagerly(task.records, send)
    )
    clock.stop()
    percentiles = quantiles(times, n=100)
    measures = {"p50": percentiles[49], "p99": percentiles[98]}
    all_settings = settings | {"rate": f"{rate:,.0f}/s"}
    return Result(task.records, clock.seconds, clock.cpu, 0, all_settings, measures)


async def _send_paced(records: int, rate: float, send: SendDeposit) -> list[float]:
    """Return latencies in seconds, each from when the command was due, not when it was sent."""
    times: list[float] = []

    async def send_timed(due: float, account: str, data: dict[str, Any]) -> None:
        await send(account, data)
        times.append(time.perf_counter() - due)

    started, source = time.perf_counter(), deposits()
    async with asyncio.TaskGroup() as tasks:
        for number in range(records):
            due = started + number / rate
            if (wait_seconds := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait_seconds)
            tasks.create_task(send_timed(due, *next(source)))
    return times


async def _send_eagerly(records: int, send: SendDeposit) -> list[float]:
    times: list[float] = []
    source = iter(list(zip(range(records), deposits(), strict=False)))

    async def sender() -> None:
        for _, (account, data) in source:
            started = time.perf_counter()
            await send(account, data)
            times.append(time.perf_counter() - started)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(EAGER_SENDERS):
            tasks.create_task(sender())
    return times
