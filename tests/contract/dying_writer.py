"""Saves a user with a bus, and dies when the events are committed: URL DATABASE USER."""

import asyncio
import os
import sys
from typing import Any

from eventfleet.aggregates import Repository
from eventfleet.buses import MemoryBus, publisher
from eventfleet.stores.mongo import open_stores
from tests.unit.users import User

EXIT_CODE = 3
LEASE_SECONDS = 0.1


async def save(url: str, database: str, id: str) -> None:
    async with open_stores(url, database, ["users"], timeout=30, snapshots_kept=3) as stores:
        publisher.LEASE_SECONDS = LEASE_SECONDS
        events: Any = stores["users"].events
        put = events.put

        async def put_and_die(*arguments: Any, **options: Any) -> None:
            await put(*arguments, **options)
            os._exit(EXIT_CODE)

        events.put = put_and_die
        async with Repository(User, stores["users"], bus=MemoryBus()) as users:
            user = await users.load_or_new(id)
            user.create("John", "john@example.com")
            user.rename("Jack")
            await users.save(user)


asyncio.run(save(*sys.argv[1:]))
