"""A writer as Kafka's is, request by request."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from eventfleet.stores.errors import Fenced, ServerUnavailable
from eventfleet.stores.memory.log import MemoryTransactionalWriter, SourcePartition
from eventfleet.stores.memory.yield_point import YieldPoint, no_yield
from eventfleet.topics.partitioner import partition_of
from eventfleet.topics.record import ProducerRecord
from tests.simulation.simulated_log import SimulatedLog
from tests.simulation.simulated_transactions import (
    Network,
    OldBroker,
    Place,
    Request,
    TryAgain,
    Unanswered,
)


class SimulatedWriter(MemoryTransactionalWriter):
    """PartitionWriter over requests that may come late.

    Within an epoch it sends nothing after a request without an answer. `unanswered_fences`: those
    of its process that may still be under way.
    """

    repeated: ClassVar[frozenset[str]] = frozenset()  # what is sent again though unanswered

    def __init__(
        self,
        log: SimulatedLog,
        group: str,
        topic: str,
        partition: int,
        yield_point: YieldPoint = no_yield,
        *,
        network: Network,
        unanswered_fences: set[SourcePartition] | None = None,
    ) -> None:
        super().__init__(log, group, topic, partition, yield_point)
        self.network = network
        self.broker: OldBroker = network.broker
        self.unanswered_fences = set() if unanswered_fences is None else unanswered_fences
        self._sequences: Counter[Place] = Counter()

    # Taking over

    async def open(self) -> int | None:
        self.generation = None
        epoch = await self.fence()
        offset = await self.read_offset()
        self.generation = epoch
        return offset

    async def fence(self) -> int:
        self._sequences.clear()
        try:
            epoch: int = await self.request(
                "InitProducerId", lambda: self.broker.init_producer_id(self.source)
            )
        except Unanswered:
            self.unanswered_fences.add(self.source)
            raise
        return epoch

    async def read_offset(self) -> int | None:
        """The group's offset, once no transaction is about to move it."""
        while True:
            await self.yield_point()
            try:
                return self.broker.committed(self.source, stable=True)
            except TryAgain:
                continue

    # A transaction

    async def commit(
        self,
        records: Sequence[ProducerRecord],
        next_offset: int,
        last: Sequence[ProducerRecord] = (),
    ) -> None:
        """RuntimeError unless `open` has succeeded since the last error."""
        try:
            await super().commit(records, next_offset, last)
        except Fenced as error:
            if self.source not in self.unanswered_fences:
                raise
            self.unanswered_fences.discard(self.source)
            raise ServerUnavailable(f"{self.source}: its own late request has fenced it") from error

    async def write(self, generation: int, records: Sequence[ProducerRecord]) -> None:
        batches = self._batches(records)
        if not batches:
            return
        await self.request(
            "AddPartitionsToTxn",
            lambda: self.broker.add_partitions(self.source, generation, batches),
        )
        sent = {
            place: self.network.send(*self._produce(generation, place, batch))
            for place, batch in batches.items()
        }
        for place, batch in batches.items():
            await self._await_batch(sent[place], generation, place, batch)
            self._sequences[place] += len(batch)

    async def move(self, generation: int, next_offset: int) -> None:
        source, broker = self.source, self.broker
        await self.request("AddOffsetsToTxn", lambda: broker.add_offsets(source, generation))
        await self.request(
            "TxnOffsetCommit", lambda: broker.commit_offset(source, generation, next_offset)
        )
        stable = self.network.ends_stable()
        await self.request("EndTxn", lambda: broker.end(source, generation, True, stable))

    def _batches(self, records: Sequence[ProducerRecord]) -> dict[Place, list[ProducerRecord]]:
        batches: dict[Place, list[ProducerRecord]] = defaultdict(list)
        for record in records:
            batches[self._place(record)].append(record)
        return batches

    def _place(self, record: ProducerRecord) -> Place:
        if record.partition is not None:
            return record.topic, record.partition
        count = self.log.partition_count(record.topic)
        return record.topic, partition_of((record.key or b"").decode(), count)

    def _produce(
        self, generation: int, place: Place, batch: Sequence[ProducerRecord]
    ) -> tuple[str, SourcePartition, Callable[[], None]]:
        sequence, source = self._sequences[place], self.source
        return (
            "Produce",
            source,
            lambda: self.broker.produce(source, generation, place, sequence, batch),
        )

    async def _await_batch(
        self, request: Request, generation: int, place: Place, batch: Sequence[ProducerRecord]
    ) -> None:
        while True:
            try:
                await self.network.receive(request, self.yield_point)
                return
            except TryAgain:
                request = self.network.send(*self._produce(generation, place, batch))

    # Requests

    async def request(self, name: str, do: Callable[[], Any]) -> Any:
        """Send a request until it has an answer that counts. Unanswered; or the broker's error."""
        while True:
            try:
                sent = self.network.send(name, self.source, do)
                return await self.network.receive(sent, self.yield_point)
            except TryAgain:
                await self.yield_point()
            except Unanswered:
                if name not in self.repeated:
                    raise
