"""Finds the action after which a game was wrong: a hero must not have more than the full health.

    python examples/find_game_bug.py g-1

Half of the versions in question are left after each query, so that a game of a million actions
needs twenty. Needs a running fleet; the settings in the environment lead to its store.
"""

import asyncio
import sys

from eventfleet.domains.game import FULL_HEALTH, Adventure, game
from eventfleet.queries import Querier, load_settings, querier


def is_wrong(adventure: Adventure) -> bool:
    return adventure.health > FULL_HEALTH


async def main(game_id: str) -> None:
    async with querier(load_settings(), game) as queries:
        latest = await queries.latest(game_id)
        if latest is None:
            sys.exit(f"there is no game {game_id!r}")
        if not is_wrong(latest.state):
            sys.exit(f"{game_id} is right at version {latest.version}")
        version = await wrong_version(queries, game_id, latest.version)
        await show(queries, game_id, version)


async def wrong_version(queries: Querier[Adventure], game_id: str, wrong: int) -> int:
    """Return a version whose state is wrong, after one whose state is right; `wrong` is wrong."""
    right = 0
    while wrong - right > 1:
        middle = (right + wrong) // 2
        past = await queries.at(game_id, middle)
        if past and is_wrong(past.state):
            wrong = middle
        else:
            right = middle
    return wrong


async def show(queries: Querier[Adventure], game_id: str, version: int) -> None:
    async for record in queries.events(game_id, after=version - 1, limit=1):
        print(f"{game_id} went wrong at version {version}: {record.type} {record.data}")
    change = await queries.diff(game_id, version - 1, version)
    for step in change.patch if change else []:
        print(f"  {step['op']} {step['path']}: {step.get('value', '')}".rstrip(": "))
    before = await queries.at(game_id, version - 1)
    print(f"the state before, to reproduce it: {before.state if before else Adventure()}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
