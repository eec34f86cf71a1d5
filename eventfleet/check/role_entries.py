"""Parked aggregates and passed-over events of roles, read from stores or from a file's lines."""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import msgspec

from eventfleet.stores.contracts import DomainStores, EventStore, Head, VersionRange
from eventfleet.stores.contracts.dead_letters import ParkedQuery
from eventfleet.topics.event import EventRecord

APPEND = "append"
PASSING_ROLES = ("relay", "project")
"""Those of append and snapshot mark the events that they pass over."""
PAGE = 500
PARKED_EVENTS = 1_000


class RoleEntry(msgspec.Struct, frozen=True, tag_field="entry", tag="parked", omit_defaults=True):
    """An aggregate that a role parks, from a version on; project in these `builds` of views."""

    domain: str
    role: str
    aggregate_id: str
    version: int
    builds: Sequence[str] = ()


class DiscardEntry(msgspec.Struct, frozen=True, tag_field="entry", tag="discarded"):
    """An event that a role passes over, as an operator has decided."""

    domain: str
    role: str
    aggregate_id: str
    version: int


AnyEntry = RoleEntry | DiscardEntry

encode_entry = msgspec.json.Encoder().encode
decode_entry = msgspec.json.Decoder(AnyEntry).decode


@dataclass
class RoleEntries:
    """The entries of all roles on one aggregate."""

    parked: list[RoleEntry] = field(default_factory=list)
    discarded: list[DiscardEntry] = field(default_factory=list)

    def add(self, entry: AnyEntry) -> None:
        """Add an entry."""
        if isinstance(entry, RoleEntry):
            self.parked.append(entry)
        else:
            self.discarded.append(entry)

    def parked_in(self, build: str) -> bool:
        """Return whether a build parks the aggregate; an entry that names none is for all."""
        entries = (each for each in self.parked if each.role == "project")
        return any(not each.builds or build in each.builds for each in entries)

    def passes_over(self, role: str, version: int) -> bool:
        """Return whether a role passes over an event."""
        return any((each.role, each.version) == (role, version) for each in self.discarded)


class StoredEntries:
    """The entries that a domain's stores have; it holds a short one for each parked aggregate."""

    def __init__(self, domain: str, stores: DomainStores) -> None:
        self._domain, self._stores = domain, stores
        self._entries: defaultdict[str, RoleEntries] = defaultdict(RoleEntries)

    async def read(self) -> None:
        """Read what is listed."""
        query, letters = ParkedQuery(), self._stores.dead_letters
        while letters and (page := await letters.find(query, PAGE)):
            for each in page:
                entry = RoleEntry(
                    self._domain, each.role, each.aggregate_id, each.first, sorted(each.builds)
                )
                self._entries[each.aggregate_id].add(entry)
            query = query._replace(after=(page[-1].role, page[-1].aggregate_id))
        for role in PASSING_ROLES:
            for event in await letters.discarded_by(role) if letters else ():
                place = event.aggregate_id, event.version
                self._entries[event.aggregate_id].add(DiscardEntry(self._domain, role, *place))

    async def parked_ids(self) -> set[str]:
        """Return the ids of the aggregates that roles park."""
        listed = {key for key, entries in self._entries.items() if entries.parked}
        return listed | await self._stores.events.parked()

    def of(self, aggregate_id: str, head: Head | None) -> RoleEntries:
        """Return the entries on an aggregate; whether append parks it, its head says."""
        found = self._entries.get(aggregate_id, RoleEntries())
        others = [each for each in found.parked if each.role != APPEND]
        if head and head.parked:
            others.append(RoleEntry(self._domain, APPEND, aggregate_id, head.placed + 1))
        return RoleEntries(others, found.discarded)


async def read_parked_events(
    events: EventStore, aggregate_id: str, head: Head | None
) -> AsyncIterator[EventRecord]:
    """Stream the events that append parks of an aggregate."""
    after = head.placed if head and head.parked else 0
    while head and head.parked and after < head.version:
        up_to = min(after + PARKED_EVENTS, head.version)
        for event in await events.unplaced([VersionRange(aggregate_id, after, up_to)]):
            yield event
        after = up_to
