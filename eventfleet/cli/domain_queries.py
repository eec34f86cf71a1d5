"""The queries of one domain, on its event store or by way of a running HTTP service."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Protocol

from eventfleet.cli.http_client import http_client
from eventfleet.runtime import connections
from eventfleet.runtime.queriers import querier
from eventfleet.runtime.settings import load_settings
from eventfleet.states.querier import MissingEvents, StateAt, StateDiff
from eventfleet.stores.contracts import Snapshot
from eventfleet.topics.event import EventRecord


class DomainQueries(Protocol):
    """The queries that commands use; Querier and HttpClient answer them alike."""

    def events(
        self,
        aggregate_id: str,
        after: int = 0,
        limit: int | None = None,
        types: Collection[str] | None = None,
    ) -> AsyncIterator[EventRecord]: ...

    async def snapshot(self, aggregate_id: str) -> Snapshot | None: ...

    async def latest(self, aggregate_id: str) -> StateAt[Any] | None: ...

    async def at(self, aggregate_id: str, version: int) -> StateAt[Any] | None: ...

    async def at_time(self, aggregate_id: str, moment: datetime) -> StateAt[Any] | None: ...

    async def diff(self, aggregate_id: str, first: int, second: int) -> StateDiff | None: ...

    async def missing(
        self, aggregate_id: str, after: int, limit: int | None = None
    ) -> MissingEvents: ...


@asynccontextmanager
async def domain_queries(name: str) -> AsyncIterator[DomainQueries]:
    """Open the queries of a domain: of the HTTP service where the settings name one."""
    settings = load_settings()
    if settings.service_url:
        async with http_client(settings, name) as client:
            yield client
        return
    domain = connections.select_domains(settings, [name])[name]
    async with querier(settings, domain) as opened:
        yield opened
