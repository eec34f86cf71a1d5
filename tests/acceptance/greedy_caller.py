"""A caller who takes as many waits, slow streams and sockets of a service as it is let.

`python -m tests.acceptance.greedy_caller URL TOKEN`, as a process, prints what it holds.
"""

import asyncio
import json
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count, cycle

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

ROOM = "greedy"
RETRY_SECONDS = 1.0
READ_BYTES, READ_PAUSE_SECONDS = 8_192, 1.0
LONG_MESSAGE = "\N{GRINNING FACE}" * 2_000

Refusal = tuple[int, str]
Opened = Awaitable[object] | Refusal
"""What lasts as long as it is held, or a status or close code with its reason."""


class GreedyCaller:
    """Opens sockets, and waits and streams by turns, without end, and again whatever has ended."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url, token
        self._headers = {"Authorization": f"Bearer {token}"}
        self.held: Counter[str] = Counter()
        self.refusals: dict[str, set[Refusal]] = {
            "waits": set(),
            "streams": set(),
            "sockets": set(),
        }
        self._all_refused = asyncio.Event()
        self._ids = count()
        self._keeping: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def taking(self) -> AsyncIterator[None]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=self._url, headers=self._headers, timeout=90, limits=limits
        ) as self._client:
            requests = self._take({"waits": self._wait, "streams": self._stream})
            sockets = self._take({"sockets": self._socket})
            opening = [asyncio.create_task(each) for each in (requests, sockets)]
            try:
                yield
            finally:
                tasks = [*opening, *self._keeping]
                for each in tasks:
                    each.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def has_all(self) -> None:
        """Wait until each kind was refused."""
        await self._all_refused.wait()

    async def fill_room(self, messages: int) -> None:
        """Say so many messages of 8 kB."""
        async with httpx.AsyncClient(base_url=self._url, headers=self._headers) as client:
            for number in range(messages):
                url = f"/domains/chat/{ROOM}/commands/SendMessage"
                said = await client.post(url, json={"content": LONG_MESSAGE})
                assert said.status_code == 200, (number, said.text)

    async def _take(self, kinds: dict[str, Callable[[], Awaitable[Opened]]]) -> None:
        for kind, opens in cycle(kinds.items()):
            opened = await opens()
            if isinstance(opened, tuple):
                self.refusals[kind].add(opened)
                if all(self.refusals.values()):
                    self._all_refused.set()
                await asyncio.sleep(RETRY_SECONDS)
            else:
                task = asyncio.create_task(self._keep(kind, opened))
                self._keeping.add(task)
                task.add_done_callback(self._keeping.discard)

    async def _keep(self, kind: str, opened: Awaitable[object]) -> None:
        self.held[kind] += 1
        try:
            await opened
        except (OSError, httpx.HTTPError, ConnectionClosed):
            pass
        finally:
            self.held[kind] -= 1

    async def _wait(self) -> Opened:
        """Wait for a stage that no role brings events to here."""
        url = f"/domains/chat/{ROOM}-{next(self._ids)}/commands/SendMessage?wait=projected"
        sent = self._client.post(url, json={"content": "hi"}, headers={"Prefer": "wait=60"})
        task = asyncio.ensure_future(sent)
        done, _ = await asyncio.wait({task}, timeout=0.05)
        if done and (answer := task.result()).status_code != 200:
            return answer.status_code, answer.json()["detail"]
        return task

    async def _stream(self) -> Opened:
        host, _, port = self._url.removeprefix("http://").partition(":")
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READ_BYTES)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, (host, int(port)))
        reader, writer = await asyncio.open_connection(sock=connection, limit=READ_BYTES)
        writer.write(
            f"GET /domains/chat/{ROOM}/events HTTP/1.1\r\nHost: {host}\r\n"
            f"Accept: application/x-ndjson\r\nAuthorization: Bearer {self._token}\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split()[1])
        if status == httpx.codes.OK:
            return self._read_slowly(reader, writer)
        body = json.loads(await reader.readuntil(b"}"))
        writer.close()
        return status, body["detail"]

    async def _read_slowly(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            more = True
            while more:
                more = bool(await reader.read(READ_BYTES))
                await asyncio.sleep(READ_PAUSE_SECONDS)
        finally:
            writer.close()

    async def _socket(self) -> Opened:
        url = f"ws{self._url.removeprefix('http')}/domains/chat/{ROOM}/socket"
        opened = await connect(url, additional_headers=self._headers, compression=None)
        try:
            await opened.recv()
        except ConnectionClosed:
            return opened.close_code or 0, opened.close_reason or ""
        return opened.wait_closed()


async def main(url: str, token: str) -> None:
    caller = GreedyCaller(url, token)
    async with caller.taking():
        await caller.has_all()
        while True:
            print(json.dumps(caller.held), flush=True)
            await asyncio.sleep(RETRY_SECONDS)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
