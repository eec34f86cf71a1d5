"""Puts two events, and stands still between their insert and the commit: URL DATABASE AGGREGATE.

Writes a line to standard output when it is there; goes on after one from standard input, and
writes another when the put is done.
"""

import asyncio
import sys

from pymongo.asynchronous.client_session import AsyncClientSession

from eventfleet.stores.mongo import open_stores
from tests.contract.samples import DOMAIN, event

commit = AsyncClientSession.commit_transaction


async def stand_still(session: AsyncClientSession) -> None:
    AsyncClientSession.commit_transaction = commit  # type: ignore[method-assign]
    print("inserted", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await commit(session)


async def put(url: str, database: str, aggregate_id: str) -> None:
    async with open_stores(url, database, [DOMAIN], timeout=30, snapshots_kept=1) as stores:
        AsyncClientSession.commit_transaction = stand_still  # type: ignore[method-assign]
        try:
            await stores[DOMAIN].events.put([event(aggregate_id, 2), event(aggregate_id, 3)], 0)
        except Exception as error:
            print(f"{type(error).__name__}: {error}", flush=True)
        else:
            print("put", flush=True)


asyncio.run(put(*sys.argv[1:]))
