"""Direct: commands of a domain without rules become events at once.

Takes commands as events to be; looks the ids that are not new up in the store, in one query, and
produces the rest.
Repeats that the store does not know yet are dropped by append.
"""

from collections.abc import Sequence
from datetime import datetime

from eventfleet.deciders.outcomes import Accepted, Unavailable
from eventfleet.deciders.pending_command import (
    Answer,
    Destination,
    ProposedEvent,
    destination_of,
    repetition,
)
from eventfleet.stores import errors
from eventfleet.stores.contracts import EventStore, LogWriter
from eventfleet.topics.codec import EVENT_HEADERS
from eventfleet.topics.event import EventRecord
from eventfleet.topics.record import ProducerRecord


class DirectDecider:
    """The way in for domains without any after-rule; needs no markers."""

    def __init__(self, store: EventStore, writer: LogWriter, *, partitions: int) -> None:
        self._store, self._writer, self._partitions = store, writer, partitions

    async def decide(
        self, intents: Sequence[ProposedEvent], deadline: datetime, answer: Answer
    ) -> None:
        """Answer each by its index; all are tried once."""
        try:
            looked = [intent.event.id for intent in intents if not intent.new]
            found = await self._store.find(looked) if looked else {}
            fresh = [i for i, intent in enumerate(intents) if intent.event.id not in found]
            if fresh:
                await self._writer.produce([self._record(intents[i]) for i in fresh])
        except errors.ServerUnavailable as error:
            for index in range(len(intents)):
                answer(index, Unavailable(str(error)))
            return
        for index, (event, *_) in enumerate(intents):
            place, stored = self._destination(event).name, found.get(event.id)
            repeated = stored and repetition(event, stored, place)
            answer(index, repeated or Accepted(event.id, place))

    def _record(self, intent: ProposedEvent) -> ProducerRecord:
        topic, partition, _ = self._destination(intent.event)
        key = intent.event.aggregate_id.encode()
        return ProducerRecord(topic, key, intent.value, partition, EVENT_HEADERS)

    def _destination(self, event: EventRecord) -> Destination:
        return destination_of(event, self._partitions)
