"""Users in three steps: a model, commands, and subscribers that react to what happened.

    python examples/users/main.py mongodb://localhost:27017
    python examples/users/main.py mongodb://localhost:27017 redis://localhost:6379

MongoDB is all that it needs; with Redis the events go over a stream, to subscribers in any process.
"""

import asyncio
import sys
from contextlib import AsyncExitStack
from uuid import uuid4

from handlers import UserMapper, subscribe_all
from user import User, make_dispatcher

from eventfleet.aggregates import CommandEnvelope
from eventfleet.buses import EventBus, MemoryBus
from eventfleet.documents import Documents

SETTLE_SECONDS = 1.0


async def main(mongo_url: str, redis_url: str = "") -> None:
    async with AsyncExitStack() as stack:
        bus = await open_bus(stack, redis_url)
        subscribe_all(bus)
        await stack.enter_async_context(bus)
        opening = Documents(mongo_url, "mydb", {"users": User}, bus=bus, mapper=UserMapper())
        documents = await stack.enter_async_context(opening)
        dispatcher = make_dispatcher(documents)
        id, data = str(uuid4()), {"name": "John Doe", "email": "john@example.com"}
        await dispatcher.dispatch(CommandEnvelope.of("CreateUser", id, data))
        changed = {"email": "john.doe@example.com"}
        user = await dispatcher.dispatch(CommandEnvelope.of("ChangeEmail", id, changed))
        await asyncio.sleep(SETTLE_SECONDS)  # a program that goes on need not wait
        print(f"{user.name} <{user.email}>, version {user.version}")


async def open_bus(stack: AsyncExitStack, redis_url: str) -> EventBus:
    """Return the bus; Redis and its client are needed only where there is one."""
    if not redis_url:
        return MemoryBus()
    from redis.asyncio import Redis

    from eventfleet.buses import RedisBus

    client = await stack.enter_async_context(Redis.from_url(redis_url))
    return RedisBus(client, "app:events")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
