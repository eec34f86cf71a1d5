"""HeldBuilds: why builds of views must not be made live, in one partition.

A build that is to follow the live one is held while it parks an aggregate that the one has further
which queries read: they would miss what they see now. One that parks too much is stopped: it is
brought no further in this process.
"""

import logging
from collections.abc import Mapping

from eventfleet.roles.build_parking import BuildParking, build_name
from eventfleet.roles.parking import TooManyParked
from eventfleet.stores.contracts.views import ViewBuilds

logger = logging.getLogger(__name__)


class HeldBuilds:
    """The held builds of one partition's owner, by view and number."""

    def __init__(self, domain: str, partition: int, parking: BuildParking) -> None:
        self._domain, self._partition, self._parking = domain, partition, parking
        self._builds: Mapping[str, ViewBuilds] = {}
        self._stopped: dict[tuple[str, int], str] = {}
        self._without_indexes: dict[tuple[str, int], str] = {}
        self._repaired: Mapping[str, int] = {}

    def clear(self, repaired: Mapping[str, int]) -> None:
        """Begin anew: stopped builds are tried again.

        `repaired`: by view, up to which number its builds are no measure for the next one, since
        their store was repaired.
        """
        self._repaired = repaired
        self._builds, self._stopped, self._without_indexes = {}, {}, {}

    def see(self, builds: Mapping[str, ViewBuilds]) -> None:
        """Take the present builds; the live ones are not stopped."""
        self._builds = builds
        for key in [key for key in self._stopped if self._live(key[0]) == key[1]]:
            del self._stopped[key]

    def stop(self, key: tuple[str, int], fault: TooManyParked) -> None:
        """Bring a build no further: it parks too much."""
        parked = fault.parked
        self._stopped[key] = (
            f"parks {fault.most} aggregates, and is brought no further; {parked.aggregate_id!r} at "
            f"version {parked.first} would be another: {parked.reason}"
        )

    def note_indexes(self, key: tuple[str, int], error: Exception | None = None) -> None:
        """Note that a build has its indexes, or why it has not."""
        self._without_indexes.pop(key, None)
        if error:
            self._without_indexes[key] = f"has no indexes: {error}"

    def is_stopped(self, key: tuple[str, int]) -> bool:
        return key in self._stopped

    def reason(self, key: tuple[str, int]) -> str:
        """Return why a build must not be made live; empty where it may, or is the live one."""
        if known := self._stopped.get(key) or self._without_indexes.get(key):
            return known
        view, number = key
        builds = self._builds.get(view, ViewBuilds())
        if builds.next is None or builds.next.number != number:
            return ""
        present = builds.read_by(builds.next.shape) or builds.live
        if present is None or present.number <= self._repaired.get(view, 0):
            return ""
        missing = self._parking.missing(build_name(view, number), build_name(view, present.number))
        if not missing:
            return ""
        return (
            f"parks {len(missing)} aggregates that the live build has, among them "
            f"{missing[0].aggregate_id!r} at version {missing[0].first}: {missing[0].reason}"
        )

    def log(self, key: tuple[str, int], before: str, reason: str) -> None:
        """Log that a build is held, or no longer; not each other reason."""
        if bool(before) == bool(reason):
            return
        what = f"is not made live: it {reason}" if reason else "is held no longer"
        logger.warning(
            "view %s of %s, partition %d: build %d %s",
            *(key[0], self._domain, self._partition, key[1], what),
            extra={"domain": self._domain, "role": "project", "partition": self._partition},
        )

    def _live(self, view: str) -> int | None:
        live = self._builds.get(view, ViewBuilds()).live
        return live.number if live else None
