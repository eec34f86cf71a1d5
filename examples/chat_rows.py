"""A chat that keeps rows: the structure before event sourcing.

    python examples/chat_rows.py serve mongodb://localhost:27017/old_chat redis://localhost 8090
    python examples/chat_rows.py export mongodb://localhost:27017/old_chat rows.csv

A message sent again under its id is an edit, and without content a deletion. Of what a row was
before nothing is left, nor of a row that is deleted.
"""

import asyncio
import csv
import json
import sys
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import uvicorn
from pymongo import AsyncMongoClient
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

CHANNEL = "chat_rows"
COLUMNS = ["id", "room_id", "sender_id", "content", "timestamp"]


async def receive(socket: WebSocket) -> None:
    """WebSocket message received -> Redis publish."""
    await socket.accept()
    room, sender = socket.path_params["room"], socket.query_params["sender"]
    async for given in socket.iter_json():
        message = {"id": uuid4().hex, "content": None} | given
        message |= {"room_id": room, "sender_id": sender, "timestamp": f"{datetime.now(UTC)}"}
        await socket.app.state.redis.publish(CHANNEL, json.dumps(message))


async def store(subscriber: PubSub, table: Any) -> None:
    """Redis subscriber -> ChatMessage stored in MongoDB."""
    async for published in subscriber.listen():
        if published["type"] == "message":
            message = json.loads(published["data"])
            key, row = {"_id": message["id"]}, {name: message[name] for name in COLUMNS[1:]}
            row["timestamp"] = datetime.fromisoformat(row["timestamp"])
            if row["content"]:
                await table.replace_one(key, row, upsert=True)
            else:
                await table.delete_one(key)


async def show(request: Request) -> JSONResponse:
    """GET /rooms/{id}/messages -> read from MongoDB."""
    of_room = {"room_id": request.path_params["room"]}
    return JSONResponse({"messages": await read(request.app.state.table, of_room)})


async def read(table: Any, where: dict[str, str]) -> list[dict[str, str]]:
    """The rows in the order of their times, with the names of COLUMNS."""
    rows = await table.find(where).sort(["timestamp", "_id"]).to_list()
    return [row | {"id": row.pop("_id"), "timestamp": f"{row['timestamp']}"} for row in rows]


async def serve(table: Any, redis_url: str, port: str) -> None:
    routes = [
        WebSocketRoute("/rooms/{room}/socket", receive),
        Route("/rooms/{room}/messages", show),
    ]
    app = Starlette(routes=routes)
    redis = Redis.from_url(redis_url, socket_connect_timeout=10)
    app.state.redis, app.state.table = redis, table
    async with redis, redis.pubsub() as subscriber, asyncio.TaskGroup() as tasks:
        await subscriber.subscribe(CHANNEL)
        storing = tasks.create_task(store(subscriber, table))
        await uvicorn.Server(uvicorn.Config(app, port=int(port))).serve()
        storing.cancel()


async def export(table: Any, path: str) -> None:
    """Write the rows as a file that `eventfleet load` reads."""
    write(await read(table, {}), path)


def write(rows: list[dict[str, str]], path: str) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


async def main(command: str, mongo_url: str, *more: str) -> None:
    async with AsyncMongoClient[Any](mongo_url, tz_aware=True, timeoutMS=10_000) as mongo:
        table = mongo.get_default_database("old_chat").messages
        await {"serve": serve, "export": export}[command](table, *more)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
