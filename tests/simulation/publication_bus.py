"""A bus on a simulated server, as RedisBus is on Redis: a stream, groups, an incarnation."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from eventfleet.buses.errors import BusRestarted, EventRefused
from eventfleet.buses.event import DocumentEvent
from eventfleet.stores.errors import ServerUnavailable
from tests.simulation.faults import Faults
from tests.simulation.scheduler import Scheduler, checkpoint

CLAIM_SECONDS = 3.0
READ_SECONDS = 0.2
MOST_READ = 3
EVERY = 3
"""One in so many events of a bad document is bad."""


@dataclass
class Group:
    """`next`: the index of the next new entry; `in_hand`: when the entries were given out."""

    next: int
    in_hand: dict[int, float] = field(default_factory=dict)

    def handled_to(self) -> int:
        return min(self.in_hand, default=self.next) - 1


class BusServer:
    """What a server holds until it restarts empty."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.names = count(1)
        self.entries: list[DocumentEvent] = []
        self.groups: dict[str, Group] = {}
        self.incarnation = ""
        self.follows_another = False

    def restart(self) -> None:
        self.scheduler.tell("the bus", "restarts empty")
        self.entries, self.groups = [], {}
        self.incarnation, self.follows_another = "", False


class SimulatedBus:
    """A ConfirmingBus of one process."""

    def __init__(self, server: BusServer, faults: Faults, mended: "Mended") -> None:
        self.server, self.faults, self.mended = server, faults, mended

    async def _call(self, what: str) -> None:
        self.faults.strike(what, "refused")
        await checkpoint()

    async def incarnation(self, known: str) -> str:
        await self._call("incarnation")
        if not self.server.incarnation:
            self.server.incarnation = f"i{next(self.server.names)}"
            self.server.follows_another = bool(known)
        return self.server.incarnation

    async def publish_in(self, incarnation: str, events: Sequence[DocumentEvent]) -> int:
        for event in events:
            if self.mended.is_refused(event):
                raise EventRefused(f"{event.aggregate_id} is too large")
        await self._call("publish")
        if not self.is_present(incarnation):
            raise BusRestarted("the bus")
        self.server.entries += events
        self.server.scheduler.note("publishes", [(e.aggregate_id, e.version) for e in events])
        offset = len(self.server.entries) - 1
        self.faults.strike("publish", "done, but the answer is lost")
        return offset

    async def confirmed(self, incarnation: str) -> Mapping[str, int]:
        await self._call("confirmed")
        if not self.is_present(incarnation):
            raise BusRestarted("the bus")
        return {name: self.handled_to(group) for name, group in self.server.groups.items()}

    def is_present(self, incarnation: str) -> bool:
        return self.server.incarnation == incarnation

    def handled_to(self, group: Group) -> int:
        return group.handled_to()

    # Subscribers

    def join(self, name: str, known: set[str]) -> Group:
        """Make the group, unless it is there."""
        if name not in self.server.groups:
            is_lost = self.begins_at_the_start(name, known)
            start = 0 if is_lost else len(self.server.entries)
            self.server.groups[name] = Group(start)
        known.add(name)
        return self.server.groups[name]

    def begins_at_the_start(self, name: str, known: set[str]) -> bool:
        return name in known or self.server.follows_another

    async def consume(self, name: str, handled: dict[str, list[DocumentEvent]]) -> None:
        """Handle the group's events, for ever: each is noted, then acknowledged."""
        known, loop = set[str](), asyncio.get_running_loop()
        while True:
            try:
                group = self.join(name, known)
                self.faults.strike("read", "refused")
                entries = self.server.entries
                taken = self._take(group, loop.time())
                for index in taken:
                    await checkpoint()
                    if self.server.entries is not entries:
                        break
                    handled[name].append(entries[index])
                    self.server.scheduler.note(f"{name} handles", entries[index].id)
                    await checkpoint()
                    group.in_hand.pop(index, None)
                if not taken:
                    await asyncio.sleep(READ_SECONDS)
            except ServerUnavailable:
                await asyncio.sleep(READ_SECONDS)

    def _take(self, group: Group, now: float) -> list[int]:
        lost = [index for index, since in group.in_hand.items() if since < now - CLAIM_SECONDS]
        new = range(group.next, min(len(self.server.entries), group.next + MOST_READ))
        group.next += len(new)
        taken = [*sorted(lost), *new]
        group.in_hand.update(dict.fromkeys(taken, now))
        return taken


class Mended:
    """Documents of which the mapper raises on some events, and of which the bus refuses some, until
    the team mends it."""

    def __init__(self, poison: set[str], refused: set[str]) -> None:
        self.poison, self.refused = poison, refused

    def is_poison(self, id: str, version: int) -> bool:
        return id in self.poison and version % EVERY == 1

    def is_refused(self, event: DocumentEvent) -> bool:
        return event.aggregate_id in self.refused and event.version % EVERY == 1

    def mend(self) -> None:
        self.poison, self.refused = set(), set()
