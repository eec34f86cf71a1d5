"""The client: keeps a request on each of its connections, as bare bytes.

`python -m benchmarks.contenders.http_client TASK PORT`; says when it is warm, and begins at a line.
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

from benchmarks.contenders.http_data import CONNECTIONS, Asked, Done, measured_commands, warming
from benchmarks.contenders.task import Task, run

_keys = count(1)


class Connection(asyncio.Protocol):
    """Sends one request after the other, each when the one before is answered."""

    def __init__(self, requests: Iterator[bytes], statuses: Counter[int]) -> None:
        self._requests, self._statuses = requests, statuses
        self._got = b""
        self._began = 0.0
        self.times: list[float] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, found, body = self._got.partition(b"\r\n\r\n")
        if not found:
            return
        _, _, rest = head.lower().partition(b"content-length:")
        if len(body) < int(rest.split(b"\r\n", 1)[0]):
            return
        self.times.append(time.perf_counter() - self._began)
        self._statuses[int(head[9:12])] += 1
        self._got = b""
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(exc or ConnectionError("the server has closed"))

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self.ended.set_result(None)
            self._transport.close()
            return
        self._began = time.perf_counter()
        self._transport.write(request)


def written(task: Task, asked: Asked) -> bytes:
    body = msgspec.json.encode(asked.data)
    path = f"/domains/{task.domain}/{asked.aggregate_id}/commands/{asked.command}"
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Idempotency-Key: {task.domain}-{next(_keys)}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def ask(task: Task, port: int, asked: Iterator[Asked]) -> Done:
    requests = iter([written(task, each) for each in asked])
    statuses: Counter[int] = Counter()
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Connection(requests, statuses), "127.0.0.1", port)
        for _ in range(CONNECTIONS)
    ]
    connections = [connection for _, connection in made]
    await asyncio.gather(*(connection.ended for connection in connections))
    times = [seconds for connection in connections for seconds in connection.times]
    cuts = quantiles(times, n=100)
    return Done(dict(statuses), cuts[49], cuts[98])


async def main(task: Task, port: int) -> None:
    warm = await ask(task, port, warming(task))
    if len(warm.statuses) > 1:
        raise RuntimeError(f"answered {warm.statuses} while warming up")
    print("warm", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    done = await ask(task, port, measured_commands(task))
    print(msgspec.json.encode(done).decode(), flush=True)


if __name__ == "__main__":
    run(main(msgspec.json.decode(sys.argv[1], type=Task), int(sys.argv[2])))
