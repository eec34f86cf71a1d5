"""The outbox of a DocumentStore: the leases by which one process of many publishes."""

import asyncio

from tests.contract.document_openings import OpenGames, eventually
from tests.contract.document_openings import opening as opening


async def test_a_lease_has_one_owner_until_it_is_given_up(opening: OpenGames) -> None:
    store = opening.store.outbox
    async with opening():
        results = await asyncio.gather(
            *(store.hold_lease("games.test", owner, 60) for owner in "abcd")
        )
        assert results.count(True) == 1
        owner, other = "abcd"[results.index(True)], "abcd"[results.index(False)]
        assert await store.hold_lease("games.test", owner, 60), "its owner prolongs it"
        await store.release_lease("games.test", other)
        assert not await store.hold_lease("games.test", other, 60)
        assert await store.hold_lease("games.other", other, 60), "another lease is free"
        await store.release_lease("games.test", owner)
        assert await store.hold_lease("games.test", other, 60)


async def test_a_lease_that_is_not_prolonged_is_anothers(opening: OpenGames) -> None:
    store = opening.store.outbox
    async with opening():
        assert await store.hold_lease("games.test", "dead", 0.2)

        async def held() -> bool:
            return await store.hold_lease("games.test", "next", 60)

        await eventually(held)
        assert not await store.hold_lease("games.test", "dead", 0.2)
