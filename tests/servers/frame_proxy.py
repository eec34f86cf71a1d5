"""A proxy in front of a Kafka that knows requests: it holds one of a producer's, or cuts it off."""

import asyncio
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import NamedTuple, Self

ANSWER_SECONDS = 5.0


class Api(IntEnum):
    """The requests of a transactional producer, by their keys in Kafka's protocol."""

    PRODUCE = 0
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28


class Way(Enum):
    """What happens to a request."""

    HOLD = "hold"  # with what follows it on its connection, until it is let go
    HOLD_AND_CUT = "hold and cut"  # the client's end of the connection is lost meanwhile
    CUT_BEFORE = "cut before the broker has it"
    CUT_AFTER = "cut after the broker has it"


class Frame(NamedTuple):
    """A request as it is on the wire; the transactional id is the first field of each Api's."""

    data: bytes
    api: int
    correlation_id: int
    transactional_id: str | None

    @classmethod
    def of(cls, body: bytes) -> Self:
        api, _, correlation_id, length = struct.unpack_from(">hhih", body)
        at = 10 + max(0, length)
        named = api in set(Api)
        (length,) = struct.unpack_from(">h", body, at) if named else (-1,)
        name = body[at + 2 : at + 2 + length].decode() if length >= 0 else None
        return cls(struct.pack(">i", len(body)) + body, api, correlation_id, name)


@dataclass
class Mishap:
    """Meets the next request of this kind and producer. What is held is let go by `let_go`, or
    arrives just before the producer's next request of the kind `before`.

    `met` is set once the request has come, `delivered` once the broker has answered it.
    """

    api: Api
    transactional_id: str
    way: Way
    before: Api | None = None
    met: threading.Event = field(default_factory=threading.Event)
    delivered: threading.Event = field(default_factory=threading.Event)


class Link:
    """One connection of a client, passed on to the broker."""

    def __init__(self, proxy: "FrameProxy", client: asyncio.StreamWriter) -> None:
        self._proxy, self._client = proxy, client
        self._let_go = asyncio.Event()
        self._answered = asyncio.Event()
        self._awaited: int | None = None  # the correlation id of the request that has met a mishap
        self._drops_answer = False

    async def serve(self, reader: asyncio.StreamReader) -> None:
        from_broker, broker = await asyncio.open_connection(*self._proxy.behind)
        back = asyncio.create_task(self._pass_answers(from_broker))
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    (size,) = struct.unpack(">i", await reader.readexactly(4))
                    await self._pass(Frame.of(await reader.readexactly(size)), broker)
        finally:
            broker.close()
            self._client.close()
            await back

    async def _pass(self, frame: Frame, broker: asyncio.StreamWriter) -> None:
        await self._proxy.deliver_late(frame)
        mishap = self._proxy.mishap_of(frame)
        if mishap is None:
            broker.write(frame.data)
            await broker.drain()
            return
        self._awaited = frame.correlation_id
        self._drops_answer = mishap.way is Way.CUT_AFTER
        if mishap.way in (Way.HOLD_AND_CUT, Way.CUT_BEFORE):
            self._client.transport.abort()
        mishap.met.set()
        if mishap.way is Way.CUT_BEFORE:
            return
        if mishap.way is not Way.CUT_AFTER:
            self._proxy.hold(mishap, self)
            await self._let_go.wait()
        broker.write(frame.data)
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._answered.wait()
        mishap.delivered.set()

    async def deliver(self) -> None:
        """Let go what is held; return once the broker has answered it."""
        self._let_go.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._answered.wait()

    async def _pass_answers(self, reader: asyncio.StreamReader) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                size = await reader.readexactly(4)
                body = await reader.readexactly(*struct.unpack(">i", size))
                if body[:4] == struct.pack(">i", self._awaited if self._awaited else -1):
                    self._answered.set()
                    if self._drops_answer:
                        self._client.transport.abort()
                self._client.write(size + body)
                await self._client.drain()
        self._answered.set()


class FrameProxy:
    """Listens at a port, in a thread; the Kafka `behind` must advertise it: see ProxiedKafka."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.behind: tuple[str, int] = "127.0.0.1", 0
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._mishaps: list[Mishap] = []
        self._held: list[tuple[Mishap, Link]] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, behind: str) -> None:
        host, _, port = behind.rpartition(":")
        self.behind = host, int(port)
        self._thread.start()
        assert self._listening.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    # For tests; lists are changed by single steps, which threads see whole

    def await_request(self, mishap: Mishap) -> None:
        """Have the next request of this kind and producer meet a mishap."""
        self._mishaps.append(mishap)

    async def let_go(self, mishap: Mishap) -> None:
        """Let a held request arrive; return once the broker has answered it."""
        delivery = asyncio.run_coroutine_threadsafe(self._deliver(mishap), self._loop)
        await asyncio.wrap_future(delivery)

    def forget(self, mishap: Mishap) -> None:
        """Have no request meet it any more."""
        with suppress(ValueError):
            self._mishaps.remove(mishap)

    # For links

    def mishap_of(self, frame: Frame) -> Mishap | None:
        """Take the mishap that this request meets, if any."""
        wanted = frame.api, frame.transactional_id
        for mishap in [m for m in self._mishaps if (m.api, m.transactional_id) == wanted]:
            self._mishaps.remove(mishap)
            return mishap
        return None

    def hold(self, mishap: Mishap, link: Link) -> None:
        self._held.append((mishap, link))

    async def deliver_late(self, frame: Frame) -> None:
        """Let what waits for a request like this one arrive before it."""
        wanted = frame.api, frame.transactional_id
        for mishap in [m for m, _ in self._held if (m.before, m.transactional_id) == wanted]:
            await self._deliver(mishap)

    async def _deliver(self, mishap: Mishap) -> None:
        for held in [held for held in self._held if held[0] is mishap]:
            self._held.remove(held)
            await held[1].deliver()
            mishap.delivered.set()

    # The thread

    def _run(self) -> None:
        self._loop.set_exception_handler(lambda *_: None)  # connections that fail are the point
        self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port))
        self._listening.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Link(self, writer).serve(reader)
