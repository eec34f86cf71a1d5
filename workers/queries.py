"""The Querier of a domain, on the store that the settings name."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from domains.declaration import Domain
from domains.payloads import State
from service.queries import Querier
from stores.system import SystemClock
from workers import connect
from workers.settings import Settings

S = TypeVar("S", bound=State)


@asynccontextmanager
async def querier(settings: Settings, domain: Domain[S]) -> AsyncIterator[Querier[S]]:
    """Unreachable where the store does not answer."""
    async with connect.stores(settings, {domain.name: domain}, long_reads=True) as stores:
        opened, limit = stores[domain.name], settings.snapshot_bytes
        yield Querier(domain, opened, SystemClock(), limit=limit)
