"""DirectDecider: commands of a domain without rules become events at once.

Takes proposed events; looks the ids that are not new up in the store, in one query, and produces
the events that it does not find.
Repeats that the store does not know yet are dropped by append.
"""

from collections.abc import Sequence
from datetime import datetime

from eventfleet.deciders.decider import Answer
from eventfleet.deciders.outcomes import Accepted, Unavailable
from eventfleet.deciders.pending_command import Destination, destination_of, repeat_outcome
from eventfleet.deciders.proposed_event import ProposedEvent
from eventfleet.stores import errors
from eventfleet.stores.contracts import EventStore, LogWriter
from eventfleet.topics.codec import EVENT_HEADERS
from eventfleet.topics.event import EventRecord
from eventfleet.topics.record import ProducerRecord


class DirectDecider:
    """Decides for domains without any after-rule; needs no markers."""

    def __init__(self, store: EventStore, writer: LogWriter, *, partitions: int) -> None:
        self._store, self._writer, self._partitions = store, writer, partitions

    async def decide(
        self, commands: Sequence[ProposedEvent], deadline: datetime, answer: Answer
    ) -> None:
        """Answer each by its index; all are tried once."""
        try:
            keys = [proposed.event.key for proposed in commands if not proposed.new]
            found = await self._store.find(keys) if keys else {}
            unknown = [proposed for proposed in commands if proposed.event.key not in found]
            if unknown:
                await self._writer.produce([self._record(proposed) for proposed in unknown])
        except errors.ServerUnavailable as error:
            for index in range(len(commands)):
                answer(index, Unavailable(str(error)))
            return
        for index, (event, *_) in enumerate(commands):
            place, stored = self._destination(event).name, found.get(event.key)
            repeated = stored and repeat_outcome(event, stored, place)
            answer(index, repeated or Accepted(event.id, place))

    def _record(self, proposed: ProposedEvent) -> ProducerRecord:
        topic, partition, _ = self._destination(proposed.event)
        key = proposed.event.aggregate_id.encode()
        return ProducerRecord(topic, key, proposed.value, partition, EVENT_HEADERS)

    def _destination(self, event: EventRecord) -> Destination:
        return destination_of(event, self._partitions)
