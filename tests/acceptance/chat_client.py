"""A client in a chat room, over a WebSocket."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlencode

from websockets.asyncio.client import ClientConnection, connect

PATIENCE_SECONDS = 30.0


class ChatClient:
    """An open socket; `events` are those that it was sent, in their order."""

    def __init__(self, socket: ClientConnection, opened: dict[str, Any]) -> None:
        self._socket, self.opened = socket, opened
        self.events: list[dict[str, Any]] = []

    async def send(self, command: str, id: str, **data: Any) -> dict[str, Any]:
        """Send a command; its outcome."""
        await self.write({"id": id, "command": command, "data": data})
        return await self.frame("outcome")

    async def write(self, frame: object) -> None:
        await self._socket.send(frame if isinstance(frame, str) else json.dumps(frame))

    async def frame(self, kind: str) -> dict[str, Any]:
        """The next frame of this kind; events before it are kept."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                frame = json.loads(await self._socket.recv())
                if frame["kind"] == "event":
                    self.events.append(frame["event"])
                if frame["kind"] == kind:
                    found: dict[str, Any] = frame
                    return found

    async def up_to(self, version: int) -> list[dict[str, Any]]:
        """The events, once there are those up to this version."""
        while not self.events or self.events[-1]["version"] < version:
            await self.frame("event")
        return self.events

    async def closed(self) -> tuple[int, str]:
        """Wait until the service closes the socket; its code and reason."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._socket.wait_closed()
        return self._socket.close_code or 0, self._socket.close_reason or ""


@asynccontextmanager
async def in_room(
    url: str, room: str, sender: str = "", after: int | None = None, **options: Any
) -> AsyncIterator[ChatClient]:
    """A client in a room of the service at this URL."""
    asked = {"sender": sender} if sender else {}
    asked |= {} if after is None else {"after": str(after)}
    path = f"/rooms/{quote(room, safe='')}/socket?{urlencode(asked)}"
    async with connect(f"ws{url.removeprefix('http')}{path}", **options) as socket:
        opened = json.loads(await asyncio.wait_for(socket.recv(), PATIENCE_SECONDS))
        yield ChatClient(socket, opened)
