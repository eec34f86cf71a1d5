"""Notices within the process that has the file, of what is on the disk."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from eventfleet.stores.contracts import Notice, Notices
from eventfleet.stores.sqlite.database import Database


class SyncedNotices:
    """Notices that are published once what they tell of is synced: roles commit without that."""

    def __init__(self, database: Database, notices: Notices) -> None:
        self._database, self._notices = database, notices

    async def publish(self, notices: Mapping[str, Sequence[Notice]]) -> None:
        if any(notices.values()):
            await self._database.sync()
        await self._notices.publish(notices)

    def subscribe(self, channel: str) -> AbstractAsyncContextManager[AsyncIterator[Notice]]:
        return self._notices.subscribe(channel)

    async def close(self) -> None:
        await self._notices.close()
