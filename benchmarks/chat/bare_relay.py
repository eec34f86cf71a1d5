"""The limit to compare with: WebSocket -> Redis publish -> Redis subscriber -> WebSockets.

Nothing is stored, decided or ordered.

    python -m benchmarks.chat.bare_relay PORT REDIS_URL
"""

import asyncio
import sys
from collections import defaultdict

import orjson
import redis.asyncio
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

CHANNEL = "bare-relay"


class BareRelay:
    """One process of the relay."""

    def __init__(self, url: str) -> None:
        self._redis = redis.asyncio.Redis.from_url(url)
        self._rooms: defaultdict[str, set[WebSocket]] = defaultdict(set)

    async def serve(self, websocket: WebSocket) -> None:
        room = websocket.path_params["room"]
        await websocket.accept()
        self._rooms[room].add(websocket)
        try:
            while True:
                text = await websocket.receive_text()
                await self._redis.publish(CHANNEL, orjson.dumps([room, text]))
        except WebSocketDisconnect:
            pass
        finally:
            self._rooms[room].discard(websocket)

    async def subscribe(self) -> None:
        subscription = self._redis.pubsub()
        await subscription.subscribe(CHANNEL)
        async for message in subscription.listen():
            if message["type"] == "message":
                room, text = orjson.loads(message["data"])
                for websocket in tuple(self._rooms[room]):
                    try:
                        await websocket.send_text(text)
                    except (WebSocketDisconnect, RuntimeError):
                        self._rooms[room].discard(websocket)


async def main(port: int, url: str) -> None:
    relay = BareRelay(url)
    app = Starlette(routes=[WebSocketRoute("/rooms/{room}/socket", relay.serve)])
    config = uvicorn.Config(
        app,
        port=port,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        log_level="error",
        lifespan="off",
    )
    subscribing = asyncio.create_task(relay.subscribe())
    await uvicorn.Server(config).serve()
    subscribing.cancel()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
