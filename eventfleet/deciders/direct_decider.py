"""DirectDecider: commands of a domain without rules become events at once.

Takes proposed events; looks the ids that are not new up in the store, in one query, and produces
the events that it does not find.
Repeats that the store does not know yet are dropped by append.
"""

from collections.abc import Sequence
from datetime import datetime

from eventfleet.deciders.decider import Answer, Permit
from eventfleet.deciders.outcomes import DEADLINE_PASSED, Accepted, Unavailable
from eventfleet.deciders.pending_command import repeat_outcome
from eventfleet.deciders.proposed_event import ProposedEvent
from eventfleet.stores import errors
from eventfleet.stores.contracts import Clock, EventStore, LogWriter
from eventfleet.topics.event import EventRecord
from eventfleet.topics.partitioner import Destination, destination_of


class DirectDecider:
    """Decides for domains without any after-rule; needs no markers."""

    def __init__(
        self, store: EventStore, writer: LogWriter, topic: str, clock: Clock, *, partitions: int
    ) -> None:
        self._store, self._writer, self._topic = store, writer, topic
        self._clock, self._partitions = clock, partitions

    async def decide(
        self,
        commands: Sequence[ProposedEvent],
        deadline: datetime,
        answer: Answer,
        permit: Permit | None = None,
    ) -> None:
        """Answer each by its index; all are tried once. None is rejected: no permit is needed."""
        try:
            keys = [proposed.event.key for proposed in commands if not proposed.new]
            found = await self._store.find(keys) if keys else {}
            now = self._clock.steady()
            records = [
                self._destination(each.event).record(each.event.aggregate_id, each.value)
                for each in commands
                if each.event.key not in found and not each.is_late(now)
            ]
            if records:
                await self._writer.produce(records)
        except errors.ServerUnavailable as error:
            for index in range(len(commands)):
                answer(index, Unavailable(str(error)))
            return
        for index, proposed in enumerate(commands):
            event = proposed.event
            place = self._destination(event).name
            if stored := found.get(event.key):
                answer(index, repeat_outcome(event, stored, place))
            else:
                accepted = Accepted(event.id, place)
                answer(index, DEADLINE_PASSED if proposed.is_late(now) else accepted)

    def _destination(self, event: EventRecord) -> Destination:
        return destination_of(self._topic, event.aggregate_id, self._partitions)
