"""The walk of a document's edit, on a store in memory: the call, and then what follows it."""

import asyncio

import msgspec

from eventfleet.documents import MemoryClient, open_storage
from tests.walks.walk import Walk


class User(msgspec.Struct):
    """A document."""

    id: str
    name: str = ""
    tags: list[str] = []
    version: int = 0


def rename(user: User) -> None:
    user.name += "n"
    user.tags.append("new")


async def main() -> tuple[Walk, Walk]:
    """Return the walk of an edit, and that of another one until its document is written."""
    answered, written = Walk(), Walk()
    async with open_storage(MemoryClient(), "shop", "users", User) as users:
        await users.find_one_and_upsert(User("u1"))
        await users.find_one_and_update("u1", rename)
        await users.find()
        await answered.during(lambda: users.find_one_and_update("u1", rename))
        await users.find()

        async def edit_and_find() -> None:
            await users.find_one_and_update("u1", rename)
            await users.find({"_id": "u1"})

        await written.during(edit_and_find)
    return answered, written


if __name__ == "__main__":
    for walk in asyncio.run(main()):
        print(walk)
