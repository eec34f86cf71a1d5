"""Dispositions: looks up what became of an event on its way to a stage, in the stores."""

from collections.abc import Sequence
from typing import Any

from eventfleet.model.views import View
from eventfleet.roles.build_parking import build_name
from eventfleet.stores.contracts import (
    NO_HEAD,
    DeadLetterStore,
    Disposition,
    DispositionKind,
    EventStore,
    Stage,
)
from eventfleet.stores.contracts.dead_letters import ParkedQuery
from eventfleet.stores.contracts.views import ViewBuilds, ViewStore
from eventfleet.topics.event import EventKey, EventRecord
from eventfleet.topics.parked import ParkedAggregate

ROLES = {Stage.SNAPSHOTTED: "snapshot", Stage.RELAYED: "relay", Stage.PROJECTED: "project"}


class Dispositions:
    """The events of one domain, as its stores have them; `letters` lists what is parked."""

    def __init__(
        self,
        events: EventStore,
        letters: DeadLetterStore | None = None,
        views: ViewStore | None = None,
        declared: Sequence[View[Any]] = (),
    ) -> None:
        self._events, self._letters = events, letters
        self._views, self._declared = views, declared

    async def find(
        self, key: EventKey, wanted: Stage, version: int
    ) -> tuple[Stage, Disposition | None]:
        """Return APPENDED where queries see an event, else ACCEPTED; with a disposition where it
        does not reach the wanted stage by itself.

        `version` is that of the command's last event, 0 where it has but one.
        """
        event = (await self._events.find([key])).get(key)
        if event is None:
            return Stage.ACCEPTED, None
        if not event.position and not await self._is_read(event):
            parked = await self._parked("append", key.aggregate_id)
            return Stage.ACCEPTED, _parked_in("append", parked)
        if event.discarded:
            role = await self._discarded_by(event)
            return Stage.ACCEPTED, Disposition(DispositionKind.DISCARDED, role)
        version = version or event.version
        return Stage.APPENDED, await self._of_role(ROLES.get(wanted), key.aggregate_id, version)

    async def _is_read(self, event: EventRecord) -> bool:
        """Return whether queries read an event that has no position: of a synchronous domain."""
        head = (await self._events.heads([event.aggregate_id])).get(event.aggregate_id, NO_HEAD)
        return event.version <= head.readable

    async def _of_role(
        self, role: str | None, aggregate_id: str, version: int
    ) -> Disposition | None:
        if role is None or self._letters is None:
            return None
        discarded = await self._letters.discarded(role, [aggregate_id])
        if any(each.version == version for each in discarded):
            return Disposition(DispositionKind.DISCARDED, role)
        parked = await self._parked(role, aggregate_id)
        first = await self._first(parked) if parked else None
        return _parked_in(role, parked) if first is not None and first <= version else None

    async def _first(self, parked: ParkedAggregate) -> int | None:
        """Return the first version that queries do not see; None: they see all of them."""
        if not parked.builds or self._views is None:
            return parked.first
        builds = await self._views.builds()
        read = {
            build_name(view.name, build.number)
            for view in self._declared
            if (build := builds.get(view.name, ViewBuilds()).read_by(view.shape))
        }
        return min((parked.builds[each] for each in read & parked.builds.keys()), default=None)

    async def _parked(self, role: str, aggregate_id: str) -> ParkedAggregate | None:
        if self._letters is None:
            return None
        found = await self._letters.find(ParkedQuery(role, aggregate_id), 1)
        return found[0] if found else None

    async def _discarded_by(self, event: EventRecord) -> str:
        for role in ("append", "snapshot") if self._letters else ():
            assert self._letters is not None
            found = await self._letters.discarded(role, [event.aggregate_id])
            if any(each.version == event.version for each in found):
                return role
        return ""


def _parked_in(role: str, parked: ParkedAggregate | None) -> Disposition:
    return Disposition(DispositionKind.PARKED, role, parked.reason if parked else "")
