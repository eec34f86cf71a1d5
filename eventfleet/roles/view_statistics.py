"""ViewStatistics: the rows and builds of a domain's views, as the owners in a process know them."""

from collections import Counter
from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol

from eventfleet.stores.contracts.views import ViewBuilds
from eventfleet.stores.cursors import FeedPoint

BuildKind = Literal["live", "next", "former"]


class BuildStatus(NamedTuple):
    """A build of a view in one partition: the live one, the one to follow it, or the former one.

    `behind`: the offsets of `<domain>.events` between what it has and what is projected there.
    `held`: why it must not be made live; then it is not ready.
    """

    view: str
    kind: BuildKind
    ready: bool
    behind: int
    held: str = ""


class KeptBuild(Protocol):
    """A build as its owner in a partition keeps it."""

    @property
    def ready(self) -> bool: ...
    @property
    def point(self) -> FeedPoint: ...


class ViewStatistics:
    """The rows written, by view and totals, and the status of the builds, by partition."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.builds: dict[int, list[BuildStatus]] = {}


def build_statuses(
    view: str, builds: ViewBuilds, kept: Mapping[tuple[str, int], KeptBuild], reached: FeedPoint
) -> list[BuildStatus]:
    """Return the status of each build of a view, at a partition that is projected to a point.

    A build that is not `kept` here falls behind, as the former one is meant to.
    """
    statuses = []
    kinds: tuple[BuildKind, ...] = ("live", "next", "former")
    for kind, build in zip(kinds, builds, strict=True):
        here = kept.get((view, build.number)) if build else None
        if build and (here or kind != "former"):
            ready = here is not None and here.ready
            noted = build.progress(reached.partition)
            behind = 0 if ready else _offsets_between(here.point if here else noted.point, reached)
            ready_to_read = ready and not noted.held
            statuses.append(BuildStatus(view, kind, ready_to_read, behind, noted.held))
    return statuses


def _offsets_between(point: FeedPoint | None, end: FeedPoint) -> int:
    """Return the offsets between two points; those of the last epoch, where there are several."""
    start = point.offset if point and point.epoch == end.epoch else -1
    return max(0, end.offset - start)
