"""Commands over HTTP: what is asked, and how a side's server is measured while a client of its own
process asks it on several connections."""

import asyncio
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace as with_changes
from random import Random
from typing import Any

import msgspec
import uvicorn
from starlette.types import ASGIApp

from benchmarks.contenders.command_data import shop
from benchmarks.contenders.task import LOOP, Clock, Result, Task
from eventfleet.domains.bank import bank
from eventfleet.model.domain import Domain

CONNECTIONS = 64
ACCOUNTS = 5_000
STACK = {"stack": "Starlette, msgspec, uvicorn (httptools)", "event loop": LOOP, "acks": "all"}


class Asked(msgspec.Struct, frozen=True):
    """One command: of which aggregate, its name, its payload."""

    aggregate_id: str
    command: str
    data: dict[str, Any]


class Done(msgspec.Struct, frozen=True):
    """What a client saw. Latencies in seconds; statuses by number."""

    statuses: dict[int, int]
    p50: float
    p99: float


def domain_of(task: Task) -> Domain[Any]:
    """The shop, or where the task says synchronous the bank; nothing is to be done but to decide
    and append."""
    if task.more["synchronous"]:
        return with_changes(bank, name=task.domain, snapshot=None, routes=())
    return shop(task.domain)


def warming(task: Task) -> Iterator[Asked]:
    """What each aggregate must have seen before: unmeasured."""
    if task.more["synchronous"]:
        terms = {"owner": "ann", "currency": "EUR"}
        yield from (Asked(f"account-{n}", "Open", terms) for n in range(ACCOUNTS))
    else:
        order = {"customer": "ann", "total": 1999, "currency": "EUR"}
        yield from (Asked(f"order-{n}", "Place", order) for n in range(task.records))


def measured_commands(task: Task) -> Iterator[Asked]:
    """Payments of orders, or deposits into accounts."""
    random = Random(7)
    for number in range(task.records):
        if task.more["synchronous"]:
            account = f"account-{random.randrange(ACCOUNTS)}"
            yield Asked(account, "Deposit", {"amount": random.randint(1, 100_000)})
        else:
            yield Asked(f"order-{number}", "Pay", {"amount": 1999})


async def measured(task: Task, app: ASGIApp, settings: dict[str, str]) -> Result:
    """Serve the application while the client asks it all; the clock is this process's own."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            app, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve([listener]))
        clock, done = await _asked(task, listener.getsockname()[1])
        server.should_exit = True
        await serving
    wanted = 200 if task.more["synchronous"] else 202
    if done.statuses != {wanted: task.records}:
        raise RuntimeError(f"answered {done.statuses}")
    measures = {"p50": done.p50, "p99": done.p99}
    shown = {**STACK, "connections": str(CONNECTIONS), **settings}
    return Result(task.records, clock.seconds, clock.cpu, 0, shown, measures)


async def _asked(task: Task, port: int) -> tuple[Clock, Done]:
    clock = Clock()
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.contenders.http_client"),
        *(msgspec.json.encode(task).decode(), str(port)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert client.stdin
    assert client.stdout
    await client.stdout.readline()
    await asyncio.sleep(2)
    clock.start()
    client.stdin.write(b"go\n")
    told = await client.stdout.readline()
    clock.stop()
    await client.wait()
    return clock, msgspec.json.decode(told, type=Done)
