"""A game on documents: a server, a panel and a telephone change and follow one document.

    python examples/game/main.py mongodb://localhost:27017

MongoDB is all that it needs.
"""

import asyncio
import sys
from uuid import uuid4

from game_state import GameState, reward

from eventfleet.documents import EventSourcedStorage, open_storage


async def main(url: str) -> None:
    # 1. Open the storage: the cache, the watch and the names of the fields are options.
    async with open_storage(
        url, "games", "games", GameState, version_field="version", cache_seconds=600, watch=True
    ) as games:
        await play(games, f"game-{uuid4().hex[:8]}")


async def play(games: EventSourcedStorage[GameState], id: str) -> None:
    # 2. Create a document, as the game server.
    game = await games.find_one_and_upsert(GameState(id, "ann"), "game-server")
    print(f"created at version {game.version}: {game.gold} gold")

    # 3. Change it, as the panel of an administrator.
    game, diff = await games.find_one_and_update(id, reward, "admin-panel")
    print(f"version {diff.version}: {game.gold} gold, {game.experience} experience")

    # 4. Delete it.
    await games.delete_one(id, "admin-panel")
    print(f"deleted: {await games.get(id)}")

    # 5. A telephone that has seen version 1 asks for what it has missed.
    for change in await games.get_missing_events(id, after_version=1):
        changed = ", ".join(sorted(change.diff.merge_patch)) or "everything"
        print(f"missed {change.version}: {change.operation} by {change.client_id} of {changed}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
