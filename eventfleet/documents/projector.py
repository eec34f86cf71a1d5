"""Projector: writes documents after the events that changed them, many in one write."""

import asyncio
import logging
from typing import Any

from eventfleet.documents.errors import InvalidDocument
from eventfleet.states.lru_cache import LruCache
from eventfleet.stores.background_task import BackgroundTask
from eventfleet.stores.contracts.documents import DocumentStore, StoredDocument
from eventfleet.stores.errors import ServerUnavailable, StoreError
from eventfleet.topics.event import EventKey

MAX_WAITING = 2_000
"""Documents that wait; a writer of more waits too."""
MAX_BATCH_DOCUMENTS = 200
WAIT_SECONDS = 10.0
MAX_REFUSED = 1_000
"""Refused documents whose reasons are kept for a publisher."""


class Projector:
    """Writes documents in the background; of one document the newest version only.

    With `settles` it also takes the events from those that are pending: nobody publishes them. A
    document that the store refuses is left out, and its events stay pending: a publisher parks it.
    """

    def __init__(
        self, name: str, store: DocumentStore, logger: logging.Logger, *, settles: bool
    ) -> None:
        self._name, self._store, self._settles, self._logger = name, store, settles, logger
        self._waiting: dict[Any, StoredDocument] = {}
        self._written: list[EventKey] = []
        self._refused: LruCache[InvalidDocument] = LruCache(MAX_REFUSED)
        self._changed = asyncio.Condition()
        self._batches_in_hand = 0
        self._task = BackgroundTask(f"projector of {name}", self._work)

    def start(self) -> None:
        self._task.start()

    async def stop(self, timeout: float) -> None:
        """Write what waits, within `timeout` seconds; what is left, a publisher writes."""
        try:
            async with asyncio.timeout(timeout):
                await self.flush()
        except (TimeoutError, ServerUnavailable):
            self._logger.warning("%d documents were not written yet", len(self._waiting))
        await self._task.end()

    async def put(self, document: StoredDocument, key: EventKey | None = None) -> bool:
        """Have a document written, and its event settled.

        False: too many wait for too long, and nothing is done: the event stays pending for a
        publisher.
        """
        async with self._changed:
            if len(self._waiting) >= MAX_WAITING and not await self._has_room():
                return False
            present = self._waiting.get(document.id)
            if present is None or present.version < document.version:
                self._waiting[document.id] = document
            if key is not None and self._settles:
                self._written.append(key)
            self._changed.notify_all()
            return True

    async def flush(self) -> None:
        """Wait until everything that was put is written. ServerUnavailable: that takes too long."""
        try:
            async with asyncio.timeout(WAIT_SECONDS), self._changed:
                await self._changed.wait_for(self._is_idle)
        except TimeoutError:
            waiting = len(self._waiting)
            raise ServerUnavailable(f"{waiting} documents wait to be written") from None

    def _is_idle(self) -> bool:
        return not self._waiting and not self._batches_in_hand

    async def _has_room(self) -> bool:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._changed.wait_for(lambda: len(self._waiting) < MAX_WAITING)
        except TimeoutError:
            return False
        return True

    async def _work(self) -> None:
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: bool(self._waiting))
                batch = [*self._waiting.values()][:MAX_BATCH_DOCUMENTS]
                for document in batch:
                    del self._waiting[document.id]
                self._batches_in_hand += 1
            try:
                await self._write(batch)
            except BaseException:
                for document in batch:
                    self._waiting.setdefault(document.id, document)
                raise
            finally:
                self._batches_in_hand -= 1
                async with self._changed:
                    self._changed.notify_all()
            await self._settle()
            self._task.report_well()

    async def _write(self, batch: list[StoredDocument]) -> None:
        """Write documents; where the store refuses, one by one, to leave out those that it does."""
        try:
            await self._store.project(batch)
        except ServerUnavailable:
            raise
        except StoreError:
            for document in batch:
                try:
                    await self._store.project([document])
                except ServerUnavailable:
                    raise
                except StoreError as error:
                    self._leave_out(document, error)

    def _leave_out(self, document: StoredDocument, error: StoreError) -> None:
        text = str(document.id)
        where = f"{self._name} {text!r} version {document.version}"
        self._logger.warning("the store refuses %s: %s", where, error)
        self._refused.put(text, InvalidDocument("document", f"the store refuses it: {error}"))
        self._refused.trim()
        self._written = [key for key in self._written if key.aggregate_id != text]

    def take_refusal(self, text: str) -> InvalidDocument | None:
        """Return why the store refused a document since it was asked for last; by its id's text."""
        return self._refused.take(text)

    async def _settle(self) -> None:
        waiting = {str(document.id) for document in self._waiting.values()}
        settled = [key for key in self._written if key.aggregate_id not in waiting]
        if settled:
            await self._store.outbox.settle(settled)
            done = set(settled)
            self._written = [key for key in self._written if key not in done]
