"""RegistryCopy: keeps a copy of the store's registry in the log, from which a restore recovers it.

What was decided there is in no event: the epoch and the repairs, the shapes of events, which roles
have begun, by how many partitions the events were divided.
"""

from datetime import timedelta

from eventfleet.stores.contracts import Clock, RegistryFacts, StoreRegistry
from eventfleet.stores.registry_facts import PARTITION, registry_record
from eventfleet.topics.record import ProducerRecord

LOOK_INTERVAL = timedelta(seconds=30)


class RegistryCopy:
    """The copy that append's owner of the first partition keeps; other owners keep none."""

    def __init__(self, topic: str, partition: int, registry: StoreRegistry, clock: Clock) -> None:
        self._topic, self._registry, self._clock = topic, registry, clock
        self._keeps = partition == PARTITION
        self._written: RegistryFacts | None = None
        self._look_at = clock.steady()

    def open(self) -> None:
        """Begin anew: another owner may have written since."""
        self._written = None
        self._look_at = self._clock.steady()

    async def read(self) -> RegistryFacts | None:
        """Return the facts that are to be written; None: nothing is due, or has changed."""
        if not self._keeps or self._clock.steady() < self._look_at:
            return None
        self._look_at = self._clock.steady() + LOOK_INTERVAL
        facts = await self._registry.facts()
        return None if facts in (self._written, RegistryFacts()) else facts

    def record(self, facts: RegistryFacts) -> ProducerRecord:
        """Make the record of the facts."""
        return registry_record(self._topic, facts)

    def note_written(self, facts: RegistryFacts) -> None:
        """Note that the record of these facts is committed."""
        self._written = facts
