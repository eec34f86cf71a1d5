"""Clients in rooms: each sends, receives, loses its connection, and comes back."""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

RESEND_SECONDS = 8.0
RETRY_SECONDS = 0.2


class RoomClient:
    """A client in one room.

    `events` are (version, message id) as they came, `delays` (moment of arrival, seconds since the
    message was sent) of those that were sent while it was there: a bare relay does not keep others.
    `told` has the ids of messages whose outcome it knows, `untold` those that it
    sends again until it knows.
    """

    def __init__(self, number: int, room: str, urls: Sequence[str], bare: bool) -> None:
        self.number, self.room, self.bare = number, room, bare
        self._urls = [f"ws{url.removeprefix('http')}/rooms/{room}/socket" for url in urls]
        self.events: list[tuple[int, str]] = []
        self.delays: list[tuple[float, float]] = []
        self.told: dict[str, str] = {}
        self.untold: dict[str, tuple[str, float]] = {}
        self.faults: list[str] = []
        self.connects = self._missed = 0
        self.first_connection = asyncio.Event()
        self._socket: ClientConnection | None = None

    @property
    def connected(self) -> bool:
        return self._socket is not None

    @property
    def version(self) -> int:
        return self.events[-1][0] if self.events else 0

    async def run(self) -> None:
        """Stay in the room until cancelled, over the first process that takes the connection."""
        attempt = self.number
        while True:
            url = self._urls[attempt % len(self._urls)]
            asked = "" if self.bare else f"?sender=client-{self.number}&after={self.version}"
            try:
                async with connect(f"{url}{asked}", compression=None, open_timeout=10) as socket:
                    self._socket = socket
                    self.connects += 1
                    self.first_connection.set()
                    async for frame in socket:
                        self._receive(frame)
            except (OSError, WebSocketException, TimeoutError):
                attempt += 1
            finally:
                self._socket = None
            await asyncio.sleep(RETRY_SECONDS * random.random())

    async def say(self, message_id: str) -> None:
        """Send a message, whose content is the moment."""
        self.untold[message_id] = f"{time.monotonic():.6f} {message_id}", time.monotonic()
        await self._send(message_id)

    async def say_again(self) -> None:
        """Send again what has had no outcome for RESEND_SECONDS."""
        now = time.monotonic()
        for message_id, (content, moment) in list(self.untold.items()):
            if now - moment > RESEND_SECONDS:
                self.untold[message_id] = content, now
                await self._send(message_id)

    async def leave(self) -> None:
        """Lose the connection; `run` makes another."""
        if self._socket:
            with suppress(OSError, WebSocketException):
                await self._socket.close()

    async def _send(self, message_id: str) -> None:
        content = self.untold[message_id][0]
        data = {"id": message_id, "command": "SendMessage", "data": {"content": content}}
        frame = content if self.bare else orjson.dumps(data).decode()
        if self._socket:
            with suppress(OSError, WebSocketException):
                await self._socket.send(frame)

    def _receive(self, frame: Any) -> None:
        if self.bare:
            self._hear(frame)
            return
        said = orjson.loads(frame)
        if said["kind"] == "event":
            event = said["event"]
            if event["version"] != self.version + 1:
                self.faults.append(f"version {event['version']} came after {self.version}")
            self.events.append((event["version"], event["data"]["message_id"]))
            if event["version"] > self._missed:
                self._hear(event["data"]["content"])
        elif said["kind"] == "outcome":
            if said["outcome"] in ("accepted", "repeated"):
                self.untold.pop(said["id"], None)
                self.told[said["id"]] = said["outcome"]
            elif said["outcome"] != "unavailable":
                self.faults.append(f"{said['id']} is {said}")
        elif said["kind"] == "opened":
            self._missed = said["latest"]
            if said["after"] != self.version:
                self.faults.append(f"came back at {self.version}, opened at {said['after']}")

    def _hear(self, content: str) -> None:
        now = time.monotonic()
        moment, message_id = content.split(" ", 1)
        self.delays.append((now, now - float(moment)))
        if self.bare:
            self.untold.pop(message_id, None)
