"""Data of the HTTP scenarios: requests, and how a contender's server is measured while a client in
a process of its own sends them on several connections."""

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

from benchmarks.contenders.command_data import declare_shop
from benchmarks.contenders.task import EVENT_LOOP, ContenderTask, Result, Stopwatch
from eventfleet.domains.bank import bank
from eventfleet.model.domain import Domain

DEFAULT_CONNECTIONS = 64
ACCOUNTS = 5_000
STACK = {
    "stack": "Starlette, msgspec, uvicorn (httptools)",
    "event loop": EVENT_LOOP,
    "acks": "all",
}


class CommandRequest(msgspec.Struct, frozen=True):
    """A request: the aggregate, the command's name, and its payload."""

    aggregate_id: str
    command: str
    data: dict[str, Any]


class ClientResult(msgspec.Struct, frozen=True):
    """A client's counts of statuses, by status, and latencies in seconds."""

    statuses: dict[int, int]
    p50: float
    p99: float


def count_connections(task: ContenderTask) -> int:
    """Return the number of connections; over a single one the client gives commands no ids."""
    return int(task.extra.get("connections", DEFAULT_CONNECTIONS))


def declare_domain(task: ContenderTask) -> Domain[Any]:
    """Declare the bank for a synchronous task, else the shop, without snapshots and routes."""
    if task.extra["synchronous"]:
        return with_changes(bank, name=task.domain, snapshot=None, routes=())
    return declare_shop(task.domain)


def warm_up_requests(task: ContenderTask) -> Iterator[CommandRequest]:
    """Yield the first command of each aggregate, sent before the measurement."""
    if task.extra["synchronous"]:
        data = {"owner": "ann", "currency": "EUR"}
        yield from (CommandRequest(f"account-{n}", "Open", data) for n in range(ACCOUNTS))
    else:
        order = {"customer": "ann", "total": 1999, "currency": "EUR"}
        yield from (CommandRequest(f"order-{n}", "Place", order) for n in range(task.records))


def measured_requests(task: ContenderTask) -> Iterator[CommandRequest]:
    """Yield payments of orders, or deposits into accounts."""
    random = Random(7)
    for number in range(task.records):
        if task.extra["synchronous"]:
            account = f"account-{random.randrange(ACCOUNTS)}"
            yield CommandRequest(account, "Deposit", {"amount": random.randint(1, 100_000)})
        else:
            yield CommandRequest(f"order-{number}", "Pay", {"amount": 1999})


async def serve_and_measure(task: ContenderTask, app: ASGIApp, settings: dict[str, str]) -> Result:
    """Serve the application while the client sends all requests; the CPU is this process's own."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            app, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve([listener]))
        clock, client_result = await _run_client(task, listener.getsockname()[1])
        server.should_exit = True
        await serving
    expected_status = 200 if task.extra["synchronous"] else 202
    if client_result.statuses != {expected_status: task.records}:
        raise RuntimeError(f"answered {client_result.statuses}")
    measures = {"p50": client_result.p50, "p99": client_result.p99}
    all_settings = {**STACK, "connections": str(count_connections(task)), **settings}
    return Result(task.records, clock.seconds, clock.cpu, 0, all_settings, measures)


async def _run_client(task: ContenderTask, port: int) -> tuple[Stopwatch, ClientResult]:
    clock = Stopwatch()
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
    output = await client.stdout.readline()
    clock.stop()
    await client.wait()
    return clock, msgspec.json.decode(output, type=ClientResult)
