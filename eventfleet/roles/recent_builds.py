"""RecentBuilds: the builds of a domain's views as an owner of one of its partitions last read them.

Owners at rest look for new builds again and again; one look serves all of a process.
"""

from collections.abc import Mapping
from datetime import datetime

from eventfleet.stores.contracts import Clock
from eventfleet.stores.contracts.views import ViewBuilds, ViewStore


class RecentBuilds:
    """The builds of one domain, shared by the owners of a process."""

    def __init__(self, views: ViewStore, clock: Clock) -> None:
        self._views, self._clock = views, clock
        self._builds: Mapping[str, ViewBuilds] = {}
        self._asked_at: datetime | None = None

    async def read(self, since: datetime) -> Mapping[str, ViewBuilds]:
        """Return the builds as they were at some moment after `since`, of the steady clock."""
        if self._asked_at is None or self._asked_at <= since:
            asked_at = self._clock.steady()
            builds = await self._views.builds()
            if self._asked_at is None or self._asked_at <= asked_at:
                self._builds, self._asked_at = builds, asked_at
            return builds
        return self._builds
