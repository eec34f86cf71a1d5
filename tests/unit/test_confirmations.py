"""Events that a late publisher settles in an incarnation that a bus has lost."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from eventfleet.buses import DocumentEvent
from eventfleet.buses.confirmations import LOOK_INTERVAL, Confirmations
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts.outbox import BusNote, BusPlace
from eventfleet.stores.memory.outbox import MemoryOutbox
from tests.contract.samples import event, key


class RestartedBus:
    """A bus whose server holds its second incarnation, in which no group has handled anything."""

    async def incarnation(self, known: str) -> str:
        return "second"

    async def publish_in(self, incarnation: str, events: Sequence[DocumentEvent]) -> int:
        return 0

    async def confirmed(self, incarnation: str) -> Mapping[str, int]:
        return {"mails": -1}


class LaterClock(SystemClock):
    """A clock of which each look is an interval later."""

    def __init__(self) -> None:
        self._time = super().steady()

    def steady(self) -> datetime:
        self._time += LOOK_INTERVAL
        return self._time


async def test_what_is_settled_late_in_a_lost_incarnation_comes_again_without_new_events() -> None:
    outbox = MemoryOutbox()
    outbox.unsettled[True].update((each.key, each) for each in (event("a1", 1), event("a1", 2)))
    await outbox.note_bus("notes.bus", BusNote("first", ("mails",)))
    await outbox.settle([key("a1", 1)], BusPlace("first", 1))
    confirmations = Confirmations("notes.bus", outbox, RestartedBus(), LaterClock())
    await confirmations.open()
    assert [each.version for each in await outbox.pending(9, to_publish=True)] == [1, 2]
    await outbox.settle([key("a1", 1), key("a1", 2)], BusPlace("first", 2))
    assert await outbox.pending(9, to_publish=True) == []
    await confirmations.look()
    assert [each.version for each in await outbox.pending(9, to_publish=True)] == [1, 2]
