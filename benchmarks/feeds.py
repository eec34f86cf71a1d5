"""`python -m benchmarks.feeds` measures live feeds beside a bare stream of Starlette's.

A fleet in one process stores events of commands, and each goes to all clients; the bare stream gets
as many messages of the same size. CLIENTS=1200, RATE=10 (events a second), SECONDS=20.
"""

import asyncio
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import uvicorn
from rich.console import Console
from rich.table import Table
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tests.servers.server import free_port

CLIENTS = int(os.environ.get("CLIENTS", "1200"))
RATE = float(os.environ.get("RATE", "10"))
SECONDS = float(os.environ.get("SECONDS", "20"))
NUMBER = re.compile(rb'"customer":"c([0-9]+)"')
CLOCK_TICKS, PAGE_BYTES = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
PATIENCE_SECONDS = 60.0


class Measured(NamedTuple):
    """What a stream took; `p99` in seconds from the accepted message to a client."""

    client_bytes: float
    delivery_seconds: float
    p50: float
    p99: float
    missing: int


class Client(asyncio.Protocol):
    """A connection to a stream, which notes when each message came."""

    def __init__(self, came: dict[int, list[float]], path: str) -> None:
        self._came, self._path, self._rest = came, path, b""
        self.opened = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        asked = f"GET {self._path} HTTP/1.1", "Host: localhost", "Accept: text/event-stream", "", ""
        transport.write("\r\n".join(asked).encode())

    def data_received(self, data: bytes) -> None:
        if not self.opened.done():
            self.opened.set_result(None)
        now, data = time.perf_counter(), self._rest + data
        end = 0
        for found in NUMBER.finditer(data):
            self._came.setdefault(int(found[1]), []).append(now)
            end = found.end()
        self._rest = data[max(end, len(data) - 100) :]


def process_tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in process_tree(int(child)))]


def cpu_seconds(pid: int) -> float:
    total = 0
    for each in process_tree(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / CLOCK_TICKS


def resident_bytes(pid: int) -> int:
    pages = (Path(f"/proc/{each}/statm").read_text().split()[1] for each in process_tree(pid))
    return sum(map(int, pages)) * PAGE_BYTES


async def measure(
    pid: int, port: int, path: str, send: Callable[[int], Awaitable[object]]
) -> Measured:
    loop, came = asyncio.get_running_loop(), dict[int, list[float]]()
    await send(0)
    before = resident_bytes(pid)
    clients = []
    for _ in range(CLIENTS):
        _, client = await loop.create_connection(lambda: Client(came, path), "127.0.0.1", port)
        clients.append(client)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(*(client.opened for client in clients))
    await asyncio.sleep(2)
    client_bytes = (resident_bytes(pid) - before) / CLIENTS
    accepted, started = dict[int, float](), cpu_seconds(pid)
    for number in range(1, round(RATE * SECONDS) + 1):
        next_at = time.perf_counter() + 1 / RATE
        await send(number)
        accepted[number] = time.perf_counter()
        await asyncio.sleep(max(0.0, next_at - time.perf_counter()))
    await asyncio.sleep(2)
    wanted = CLIENTS * len(accepted)
    late = sorted(at - accepted[n] for n in accepted for at in came.get(n, ()))
    used = cpu_seconds(pid) - started
    return Measured(
        *(client_bytes, used / len(late), statistics.median(late), late[int(len(late) * 0.99)]),
        wanted - len(late),
    )


async def until_answered(client: httpx.AsyncClient, path: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                if (await client.get(path)).is_success:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)


@contextmanager
def running(*arguments: str, **variables: str) -> Iterator[int]:
    """Run a module of this Python, and kill it; its process id."""
    server = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env=os.environ | variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield server.pid
    finally:
        for pid in process_tree(server.pid):
            os.kill(pid, signal.SIGKILL)
        server.wait()


async def measure_ours(port: int, pid: int) -> Measured:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        await until_answered(client, "/ready")

        async def send(number: int) -> None:
            body = {"customer": f"c{number}", "total": 1999, "currency": "EUR"}
            path = f"/domains/orders/{time.time_ns()}/commands/Place"
            (await client.post(path, json=body)).raise_for_status()

        return await measure(pid, port, "/domains/orders/feed?from=latest", send)


async def measure_bare(port: int, pid: int) -> Measured:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        await until_answered(client, "/ready")

        async def send(number: int) -> None:
            (await client.post(f"/send?number={number}")).raise_for_status()

        return await measure(pid, port, "/stream", send)


def measure_both() -> dict[str, Measured]:
    port = free_port()
    with running("benchmarks.feeds", "bare", str(port)) as pid:
        bare = asyncio.run(measure_bare(port, pid))
    named = {"EVENTFLEET_DOMAINS": "eventfleet.domains.orders", "EVENTFLEET_HTTP_PORT": str(port)}
    with (
        tempfile.TemporaryDirectory() as folder,
        running("eventfleet.cli", "up", "--data", folder, **named) as pid,
    ):
        ours = asyncio.run(measure_ours(port, pid))
    return {"bare Starlette": bare, "live feed": ours}


def bare_stream() -> Starlette:
    """A stream of Starlette's: each client has a queue."""
    queues: set[asyncio.Queue[bytes]] = set()

    async def stream(request: Request) -> StreamingResponse:
        async def messages() -> AsyncIterator[bytes]:
            queue: asyncio.Queue[bytes] = asyncio.Queue()
            queues.add(queue)
            try:
                yield b": welcome\n\n"
                while True:
                    yield await queue.get()
            finally:
                queues.discard(queue)

        return StreamingResponse(messages(), media_type="text/event-stream")

    async def send(request: Request) -> Response:
        number = request.query_params["number"]
        message = b'id: %b\ndata: {"customer":"c%b","text":"%b"}\n\n'
        encoded = message % (b"x" * 150, number.encode(), b"x" * 300)
        for queue in queues:
            queue.put_nowait(encoded)
        return Response()

    async def ready(request: Request) -> Response:
        return Response()

    routes = [
        Route("/stream", stream),
        Route("/ready", ready),
        Route("/send", send, methods=["POST"]),
    ]
    return Starlette(routes=routes)


def main() -> None:
    if sys.argv[1:2] == ["bare"]:
        uvicorn.run(bare_stream(), port=int(sys.argv[2]), log_level="error", access_log=False)
        return
    table = Table("", "KiB a client", "us of CPU a delivery", "p50 ms", "p99 ms", "missing")
    found = measure_both()
    for name, each in found.items():
        costs = each.client_bytes / 1024, each.delivery_seconds * 1e6
        numbers = *costs, each.p50 * 1e3, each.p99 * 1e3
        table.add_row(name, *(f"{number:.1f}" for number in numbers), str(each.missing))
    bare, ours = found.values()
    ratios = (getattr(ours, name) / getattr(bare, name) for name in Measured._fields[:2])
    table.add_row("ratio", *(f"{ratio:.2f}" for ratio in ratios), "", "", "")
    Console().print(table)


if __name__ == "__main__":
    main()
