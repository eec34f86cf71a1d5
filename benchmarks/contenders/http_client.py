"""The HTTP client: keeps one request in flight on each connection, as bare bytes.

`python -m benchmarks.contenders.http_client TASK PORT`; prints a line when warmed
up, and begins when it reads one.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from statistics import quantiles
from typing import Any

import msgspec

from benchmarks.contenders.http_data import (
    ClientResult,
    CommandRequest,
    count_connections,
    measured_requests,
    warm_up_requests,
)
from benchmarks.contenders.task import ContenderTask, run

_keys = count(1)


class ClientConnection(asyncio.Protocol):
    """Sends requests one after another, each when the one before is answered."""

    def __init__(self, requests: Iterator[bytes], statuses: Counter[int]) -> None:
        self._requests, self._statuses = requests, statuses
        self._received = b""
        self._sent_at = 0.0
        self.times: list[float] = []
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        _, _, rest = head.lower().partition(b"content-length:")
        if len(body) < int(rest.split(b"\r\n", 1)[0]):
            return
        self.times.append(time.perf_counter() - self._sent_at)
        self._statuses[int(head[9:12])] += 1
        self._received = b""
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_exception(exc or ConnectionError("the server has closed"))

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self.closed.set_result(None)
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)


def encode_request(task: ContenderTask, request: CommandRequest) -> bytes:
    body = msgspec.json.encode(request.data)
    path = f"/domains/{task.domain}/{request.aggregate_id}/commands/{request.command}"
    key = f"Idempotency-Key: {task.domain}-{next(_keys)}\r\n" if count_connections(task) > 1 else ""
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"{key}Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def send_requests(
    task: ContenderTask, port: int, commands: Iterator[CommandRequest]
) -> ClientResult:
    requests = iter([encode_request(task, each) for each in commands])
    statuses: Counter[int] = Counter()
    loop = asyncio.get_running_loop()
    created = [
        await loop.create_connection(
            lambda: ClientConnection(requests, statuses), "127.0.0.1", port
        )
        for _ in range(count_connections(task))
    ]
    connections = [connection for _, connection in created]
    await asyncio.gather(*(connection.closed for connection in connections))
    times = [seconds for connection in connections for seconds in connection.times]
    percentiles = quantiles(times, n=100)
    return ClientResult(dict(statuses), percentiles[49], percentiles[98])


async def main(task: ContenderTask, port: int) -> None:
    warm_up = await send_requests(task, port, warm_up_requests(task))
    if len(warm_up.statuses) > 1:
        raise RuntimeError(f"answered {warm_up.statuses} while warming up")
    print("warm", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    result = await send_requests(task, port, measured_requests(task))
    print(msgspec.json.encode(result).decode(), flush=True)


if __name__ == "__main__":
    run(main(msgspec.json.decode(sys.argv[1], type=ContenderTask), int(sys.argv[2])))
