"""What many callers produce at the same time goes out together."""

import asyncio
from collections import deque

from stores.contracts import LogWriter
from stores.errors import Unavailable
from topics.record import Outgoing

BATCH = 500

Sending = tuple[Outgoing, "asyncio.Future[None]"]


class Outbox:
    """Produces records in batches, one after the other. What is in the air is not called back
    when a caller stops waiting for it."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer
        self._waiting: deque[Sending] = deque()
        self._task: asyncio.Task[None] | None = None

    async def send(self, record: Outgoing, patience: float) -> bool:
        """Whether the log has acknowledged it within `patience` seconds; later it may still."""
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((record, sent))
        if self._task is None:
            self._task = asyncio.create_task(self._drain(), name="outbox")
        try:
            await asyncio.wait_for(sent, patience)
        except (Unavailable, TimeoutError):
            return False
        return True

    async def close(self) -> None:
        """What is not acknowledged yet is given up."""
        if self._task:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=1)

    async def _drain(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                await self._produce([each for each in batch if not each[1].done()])
        finally:
            self._task = None
            while self._waiting:
                _settle(self._waiting.popleft()[1], Unavailable("the outbox is closed"))

    async def _produce(self, batch: list[Sending]) -> None:
        error: Exception | None = Unavailable("not acknowledged")
        try:
            if batch:
                await self._writer.produce([record for record, _ in batch])
            error = None
        except Unavailable as refused:
            error = refused
        finally:
            for _, sent in batch:
                _settle(sent, error)


def _settle(sent: "asyncio.Future[None]", error: Exception | None) -> None:
    if sent.done():
        return
    if error:
        sent.set_exception(error)
    else:
        sent.set_result(None)
