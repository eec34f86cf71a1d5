"""A proxy in front of a server: slow, cut or silent when a test wants it."""

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Self

READ_BYTES = 65_536


class Proxy:
    """Listens at `address`, in a thread; passes on to a server's address.

    With a `context` it ends TLS. Without a `port` it takes any free one.
    """

    def __init__(self, server: str, context: ssl.SSLContext | None = None, port: int = 0) -> None:
        host, _, server_port = server.rpartition(":")
        self._server, self._context = (host, int(server_port)), context
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._connections: set[asyncio.StreamWriter] = set()
        self._delay, self._is_cut = 0.0, False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.port = port

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listening.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @contextmanager
    def slowed(self, seconds: float) -> Iterator[None]:
        """Whatever is sent, in either direction, arrives so many seconds later."""
        self._delay = seconds
        try:
            yield
        finally:
            self._delay = 0.0

    @contextmanager
    def cut(self) -> Iterator[None]:
        """All connections are lost, and new ones as soon as they are made."""
        self._is_cut = True
        self._call(self._drop)
        try:
            yield
        finally:
            self._is_cut = False

    @contextmanager
    def silenced(self) -> Iterator[None]:
        """Connections stay, new ones are accepted, and nobody answers; what was sent comes late."""
        self._call(self._flowing.clear)
        try:
            yield
        finally:
            self._call(self._flowing.set)

    def _call(self, change: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(change)

    def _drop(self) -> None:
        for writer in self._connections:
            writer.transport.abort()

    def _run(self) -> None:
        self._loop.set_exception_handler(lambda *_: None)  # connections that fail are the point
        self._loop.run_until_complete(self._listen())
        self._listening.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _listen(self) -> None:
        listener = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, ssl=self._context
        )
        self.port = listener.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        with self._kept(writer):
            try:
                there, back = await asyncio.open_connection(*self._server)
            except OSError:
                writer.transport.abort()
                return
            with self._kept(back):
                await asyncio.gather(
                    self._pass(reader, back), self._pass(there, writer), return_exceptions=True
                )

    @contextmanager
    def _kept(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        self._connections.add(writer)
        try:
            yield
        finally:
            self._connections.discard(writer)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(READ_BYTES):
                if self._delay:
                    await asyncio.sleep(self._delay)
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        finally:
            with suppress(OSError):
                writer.close()
