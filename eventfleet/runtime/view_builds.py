"""Begins a build of a view, and watches the workers that make it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from eventfleet.model.domain import Domain
from eventfleet.model.views import View
from eventfleet.states.view_reader import UnknownView
from eventfleet.stores.contracts import DomainStores
from eventfleet.stores.contracts.views import ViewBuilds
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.topics.errors import EventfleetError

POLL_SECONDS = 0.5
MAX_TRIES = 10
HELD_SECONDS = 10.0
"""How long a held build may stand still: by then all its partitions are held or ready."""


class BuildStalled(EventfleetError):
    """Nothing of a build has moved for too long."""

    def __init__(self, view: str, seconds: float) -> None:
        super().__init__(
            f"view {view}: nothing of the build has moved for {seconds:g} s: are workers of the "
            "role project running for every partition, with this version of the view? The build "
            "goes on as soon as they are"
        )


class BuildHeld(EventfleetError):
    """A build must not be made live: it would have less than the one that queries read."""

    def __init__(self, view: str, held: Mapping[int, str]) -> None:
        partition, reason = next(iter(sorted(held.items())))
        super().__init__(
            f"view {view}: the build is not made live: in partition {partition} it {reason}; mend "
            "the code and deploy it, or discard the events: eventfleet deadletters"
        )


class BuildReplaced(EventfleetError):
    """Another build was begun meanwhile."""


async def begin_build(domain: Domain[Any], stores: DomainStores, name: str) -> int:
    """Begin a build of a view, as this process declares it; return its number. UnknownView."""
    view = find_view(domain, name)
    tables = [table.name for table in view.tables]
    assert stores.views is not None
    for _ in range(MAX_TRIES):
        last = (await builds_of(stores, name)).last_number
        if await stores.views.begin(name, tables, view.shape, last):
            return last + 1
    raise ServerUnavailable(f"view {name}: others begin builds of it all the time")


def find_view(domain: Domain[Any], name: str) -> View[Any]:
    """Return a view of a domain. UnknownView: it has no such view; totals belong to a view."""
    for view in domain.views:
        if view.name == name:
            return view
    raise UnknownView(domain, name)


async def builds_of(stores: DomainStores, name: str) -> ViewBuilds:
    assert stores.views is not None
    return (await stores.views.builds()).get(name, ViewBuilds())


async def watch_build(
    domain: Domain[Any], stores: DomainStores, name: str, number: int, patience: float
) -> AsyncIterator[int]:
    """Yield in how many partitions a build is ready, whenever it moves, until queries read it.

    BuildStalled after `patience` seconds without progress, BuildHeld if it is held then;
    BuildReplaced.
    """
    loop = asyncio.get_running_loop()
    seen, moved_at = None, loop.time()
    while True:
        live, following, _ = await builds_of(stores, name)
        if live and live.number >= number:
            return
        if following is None or following.number != number:
            raise BuildReplaced(f"view {name}: build {number} was given up for another one")
        if following != seen:
            seen, moved_at = following, loop.time()
            yield sum(each.ready for each in following.partitions.values())
        elif following.held and loop.time() - moved_at > min(patience, HELD_SECONDS):
            raise BuildHeld(name, following.held)
        elif loop.time() - moved_at > patience:
            raise BuildStalled(name, patience)
        await asyncio.sleep(POLL_SECONDS)
