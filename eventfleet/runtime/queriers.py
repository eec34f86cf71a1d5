"""Opens the Querier of a domain on the store of the settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from eventfleet.model.domain import Domain
from eventfleet.model.payloads import State
from eventfleet.runtime import connections
from eventfleet.runtime.settings import Settings
from eventfleet.states.querier import Querier
from eventfleet.stores.clock import SystemClock

S = TypeVar("S", bound=State)


@asynccontextmanager
async def querier(settings: Settings, domain: Domain[S]) -> AsyncIterator[Querier[S]]:
    """Opens the Querier of a domain. Unreachable: the store does not answer."""
    async with connections.stores(settings, {domain.name: domain}, long_reads=True) as stores:
        opened, limit = stores[domain.name], settings.snapshot_bytes
        async with Querier(domain, opened, SystemClock(), limit=limit).running() as queries:
            yield queries
