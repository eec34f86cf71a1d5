"""Contract of the dead-letter store: what is parked, what operators ask for, what was discarded."""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from eventfleet.topics.parked import Discard, DiscardedEvent, ParkedAggregate


class RedriveRequest(NamedTuple):
    """A request to handle an aggregate's parked events; with a `discard` all but the first.

    It holds for the aggregate as it was parked at version `first`, and else for nothing.
    """

    aggregate_id: str
    first: int
    discard: Discard | None = None


class ParkedQuery(NamedTuple):
    """A query of parked aggregates; each condition that is not empty must hold.

    `reason` is the beginning of a reason; `after` the role and the aggregate of the last one of the
    page before.
    """

    role: str = ""
    aggregate_id: str = ""
    reason: str = ""
    after: tuple[str, str] = ("", "")


class ParkedEntries(NamedTuple):
    """The entries that the log has of one role in a partition."""

    parked: list[ParkedAggregate]
    discarded: list[DiscardedEvent]


class DeadLetterStore(Protocol):
    """The parked aggregates and the discarded events of one domain.

    For snapshot it is the truth. Relay and project keep theirs in the log, beside their offsets:
    of them it has a copy, for listings, and the requests.
    """

    async def prepare(self) -> None:
        """Create the indexes."""

    async def parked_in(self, role: str, partition: int) -> list[ParkedAggregate]:
        """Return what a role parks in a partition."""

    async def park(self, parked: Sequence[ParkedAggregate]) -> None:
        """Note these, durably, in place of what was noted of the same role and aggregates.

        A request stays where `first` stays.
        """

    async def unpark(self, role: str, aggregate_ids: Collection[str]) -> None:
        """Remove these, and their requests."""

    async def find(self, query: ParkedQuery, limit: int) -> list[ParkedAggregate]:
        """Return up to `limit` parked aggregates, by role and aggregate."""

    async def count(self) -> dict[str, int]:
        """Count the parked aggregates by role."""

    async def request(self, parked: ParkedAggregate, discard: Discard | None) -> bool:
        """Request a redrive; False where the aggregate is no longer parked at this `first`.

        A request without a discard leaves one with a discard as it is.
        """

    async def request_redrives(self, parked: Sequence[ParkedAggregate]) -> int:
        """Request redrives as `request` does without a discard; return how many are parked so."""

    async def requests(self, role: str, partition: int, limit: int) -> list[RedriveRequest]:
        """Return up to `limit` requests."""

    async def end_request(self, role: str, request: RedriveRequest) -> None:
        """Remove this request, if it is still the one that counts; its aggregate stays parked."""

    async def note_discarded(self, events: Collection[DiscardedEvent]) -> None:
        """Note these, durably; a second time changes nothing."""

    async def discarded(self, role: str, aggregate_ids: Collection[str]) -> list[DiscardedEvent]:
        """Return the discarded events of a role in these aggregates, by aggregate and version."""

    async def discarded_by(self, role: str) -> list[DiscardedEvent]:
        """Return all discarded events of a role, by aggregate and version."""
