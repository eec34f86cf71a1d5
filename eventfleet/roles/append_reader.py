"""AppendReader: reads records, checked against the declaration, and heads before append plans."""

from collections.abc import Sequence
from typing import Any

from eventfleet.model.domain import Domain
from eventfleet.roles.append_parking import ROLE
from eventfleet.roles.append_plan import AppendItem, Heads
from eventfleet.roles.role import UndeclaredEvent
from eventfleet.states.lru_cache import LruCache, cache_statistics
from eventfleet.stores.contracts import NO_HEAD, EventStore, Head
from eventfleet.topics.codec import EVENT_HEADERS, REDRIVEN_HEADERS, decode, encode, parse
from eventfleet.topics.dead_letters import UNREADABLE, make_dead_letter
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EventRecord
from eventfleet.topics.record import LogRecord, ProducerRecord

NEWER_FIELDS = ("type", "schemaversion")
"""A newer deployment may know what these have."""


class AppendReader:
    """Reads records of one domain, in an epoch of its log."""

    def __init__(self, domain: Domain[Any]) -> None:
        self._domain = domain
        self._synchronous, self._uses_marker = domain.synchronous, domain.uses_marker
        self._commands_only = domain.commands_only
        self.epoch = 0

    def read(
        self, records: Sequence[LogRecord], unreadable: list[tuple[LogRecord, str]]
    ) -> tuple[list[AppendItem], list[ProducerRecord]]:
        """The items of the readable records, and dead letters for the others, with the reasons."""
        items: list[AppendItem] = []
        dead_letters: list[ProducerRecord] = []
        headers, redriven = EVENT_HEADERS, False
        for record in records:
            if record.headers is not headers:  # a chunk's records share theirs
                headers, redriven = record.headers, record.headers == REDRIVEN_HEADERS
            try:
                event = self._event(record, redriven)
                fault = None if self._synchronous else self._fault(event, redriven)
                items.append(AppendItem(record, event, self.epoch, fault, redriven))
            except InvalidRecord as error:
                dead_letters.append(
                    make_dead_letter(
                        *(self._domain.topics.dead_letters, ROLE, record, UNREADABLE, str(error))
                    )
                )
                unreadable.append((record, str(error)))
        return items, dead_letters

    def _event(self, record: LogRecord, redriven: bool) -> EventRecord:
        # Nobody reads what an event of a synchronous domain holds: it is only placed.
        event = decode(record.value, None if self._synchronous else self._domain.always_storable)
        # What our own writers have encoded has no key twice, and no number of too many digits.
        if not self._commands_only and record.value and encode(event) != record.value:
            event = self._domain.fit_numbers(event, parse(record.value)["data"])
        if record.key != event.aggregate_id.encode():
            raise InvalidRecord("key", f"is {record.key!r}, not the subject {event.aggregate_id!r}")
        if self._uses_marker and event.prev is None and not redriven:
            raise InvalidRecord("prev", "is missing; events of this domain are made by commands")
        return event

    def _fault(self, event: EventRecord, redriven: bool) -> Exception | None:
        """Return the fault that parks the event's aggregate, unless it is superseded or stored.

        InvalidRecord: it is not of this domain, or its writer did not ask any declaration.
        """
        try:
            self._domain.check(event)
        except InvalidRecord as error:
            made_here = self._uses_marker or redriven or error.field in NEWER_FIELDS
            if made_here and event.domain == self._domain.name:
                return UndeclaredEvent(event, str(error))
            raise
        except Exception as error:
            return error
        return None


class AppendHeads:
    """The heads of one partition, up to `cached` of them after `trim`."""

    def __init__(self, domain: str, store: EventStore, cached: int) -> None:
        self._store = store
        self._cache: LruCache[Head] = LruCache(cached)
        self._statistics = cache_statistics(domain, ROLE, "heads")
        self.clear, self.trim = self._cache.clear, self._cache.trim

    async def of(self, items: Sequence[AppendItem]) -> Heads:
        """The heads of the items' aggregates; those not cached are loaded into the cache."""
        aggregate_ids = {item.event.aggregate_id for item in items}
        heads = self._cache.get_all(aggregate_ids)
        misses = aggregate_ids - heads.keys()
        self._statistics.add(len(heads), len(misses))
        if misses:
            loaded = dict.fromkeys(misses, NO_HEAD) | await self._store.heads(misses)
            self._cache.put_all(loaded)
            heads |= loaded
        return heads

    def remember(self, heads: Heads) -> None:
        """Keep the heads after writes that are acknowledged."""
        self._cache.put_all(heads)

    def forget(self, items: Sequence[AppendItem]) -> None:
        """Forget the heads of the items' aggregates, which another writer may have moved."""
        self._cache.drop(item.event.aggregate_id for item in items)
