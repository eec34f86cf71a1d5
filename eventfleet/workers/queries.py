"""The Querier of a domain, on the store that the settings name."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from eventfleet.domains.declaration import Domain
from eventfleet.domains.payloads import State
from eventfleet.service.queries import Querier
from eventfleet.stores.system import SystemClock
from eventfleet.workers import connect
from eventfleet.workers.settings import Settings

S = TypeVar("S", bound=State)


@asynccontextmanager
async def querier(settings: Settings, domain: Domain[S]) -> AsyncIterator[Querier[S]]:
    """Unreachable where the store does not answer."""
    async with connect.stores(settings, {domain.name: domain}, long_reads=True) as stores:
        opened, limit = stores[domain.name], settings.snapshot_bytes
        yield Querier(domain, opened, SystemClock(), limit=limit)
