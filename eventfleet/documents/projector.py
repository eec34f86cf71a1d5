"""Projector: writes documents after the events that changed them, many in one write."""

import asyncio
import logging
from contextlib import suppress
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
COLLECT_SECONDS = 0.1
"""How long changes are collected before they are written, unless somebody waits for them."""
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
        self._unsettled: dict[str, list[tuple[int, str]]] = {}
        self._refused: LruCache[InvalidDocument] = LruCache(MAX_REFUSED)
        self._changed = asyncio.Condition()
        self._batches_in_hand = self._flushes = 0
        self._wanted, self._is_settling = asyncio.Event(), False
        self._task = BackgroundTask(f"projector of {name}", self._work)

    def start(self) -> None:
        self._task.start()

    async def stop(self, timeout: float) -> None:
        """Write and settle what waits, within `timeout` seconds; a publisher does what is left."""
        try:
            async with asyncio.timeout(timeout):
                await self.flush()
                async with self._changed:
                    await self._changed.wait_for(lambda: not self._is_settling)
        except (TimeoutError, ServerUnavailable):
            self._logger.warning("%d documents were not written yet", len(self._waiting))
        await self._task.end()

    async def put(self, document: StoredDocument, event_id: str | None = None) -> bool:
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
            if event_id is not None and self._settles:
                unsettled = self._unsettled.setdefault(str(document.id), [])
                unsettled.append((document.version, event_id))
            self._changed.notify_all()
            return True

    async def flush(self) -> None:
        """Wait until everything that was put is written. ServerUnavailable: that takes too long."""
        self._flushes += 1
        self._wanted.set()
        try:
            async with asyncio.timeout(WAIT_SECONDS), self._changed:
                await self._changed.wait_for(lambda: not (self._waiting or self._batches_in_hand))
        except TimeoutError:
            waiting = len(self._waiting)
            raise ServerUnavailable(f"{waiting} documents wait to be written") from None
        finally:
            self._flushes -= 1
            if not self._flushes:
                self._wanted.clear()

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
            if len(self._waiting) < MAX_BATCH_DOCUMENTS:
                await self._collect()
            self._is_settling = True
            try:
                await self._settle(await self._write_batch())
            finally:
                self._is_settling = False
                async with self._changed:
                    self._changed.notify_all()
            self._task.report_well()

    async def _collect(self) -> None:
        """Let changes come together: each write is as dear to the server as an edit's own."""
        with suppress(TimeoutError):
            async with asyncio.timeout(COLLECT_SECONDS):
                await self._wanted.wait()

    async def _write_batch(self) -> list[StoredDocument]:
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
        return batch

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
        self._unsettled.pop(text, None)

    def take_refusal(self, text: str) -> InvalidDocument | None:
        """Return why the store refused a document since it was asked for last; by its id's text."""
        return self._refused.take(text)

    async def _settle(self, written: list[StoredDocument]) -> None:
        """Settle the events up to the written versions; should that fail, a publisher does it."""
        settled: list[EventKey] = []
        for document in written:
            text = str(document.id)
            events = self._unsettled.pop(text, [])
            settled += [EventKey(text, id) for version, id in events if version <= document.version]
            if later := [each for each in events if each[0] > document.version]:
                self._unsettled[text] = later
        if settled:
            await self._store.outbox.settle(settled)
