"""Writers and a broker with one rule about late requests taken out each."""

from collections.abc import Sequence
from typing import Any

from eventfleet.stores.errors import Fenced, ServerUnavailable
from eventfleet.stores.memory.log import SourcePartition, Transaction
from eventfleet.topics.record import ProducerRecord
from tests.simulation.simulated_transactions import OldBroker, Place, Unanswered
from tests.simulation.simulated_writer import SimulatedWriter


class RepeatsEndTxn(SimulatedWriter):
    """Without: an EndTxn is not sent again within its epoch after no answer."""

    repeated = frozenset({"EndTxn"})


class RepeatsTxnOffsetCommit(SimulatedWriter):
    """Without: a TxnOffsetCommit is not sent again within its epoch after no answer."""

    repeated = frozenset({"TxnOffsetCommit"})


class KeepsItsEpoch(SimulatedWriter):
    """Without: after a request without an answer a new epoch comes before the next transaction."""

    _kept: int | None = None

    async def commit(
        self,
        records: Sequence[ProducerRecord],
        next_offset: int,
        last: Sequence[ProducerRecord] = (),
    ) -> None:
        epoch = self.generation
        try:
            await super().commit(records, next_offset, last)
        except Unanswered:
            self._kept = epoch
            raise

    async def fence(self) -> int:
        epoch, self._kept = self._kept, None
        if epoch is None:
            return await super().fence()
        try:
            await self.request("EndTxn", lambda: self.broker.end(self.source, epoch, False, True))
        except ServerUnavailable:
            """None was open."""
        except Fenced:
            return await super().fence()
        return epoch


class ReadsBeforeItFences(SimulatedWriter):
    """Without: fence first, then read the committed offset."""

    async def open(self) -> int | None:
        offset = await self.read_offset()
        await super().open()
        return offset


class ReadsUnstableOffsets(SimulatedWriter):
    """Without: a committed offset is read once no transaction is about to move it."""

    async def read_offset(self) -> int | None:
        await self.yield_point()
        return self.broker.committed(self.source, stable=False)


class ForgetsItsFences(SimulatedWriter):
    """Without: an owner remembers that a fence of its own may come late."""

    def __init__(self, *about: Any, **named: Any) -> None:
        super().__init__(*about, **named | {"unanswered_fences": NOTHING})


class Nothing(set[Any]):
    """A set that keeps nothing."""

    def add(self, _: object) -> None:
        """It is forgotten."""


NOTHING = Nothing()


class TakesSilenceForAFence(SimulatedWriter):
    """Without: a request without an answer means unavailable, not fenced."""

    async def commit(
        self,
        records: Sequence[ProducerRecord],
        next_offset: int,
        last: Sequence[ProducerRecord] = (),
    ) -> None:
        try:
            await super().commit(records, next_offset, last)
        except Unanswered as error:
            raise Fenced(str(error)) from error


class VerifiesNothing(OldBroker):
    """Without: a batch is refused that is of no open transaction.

    The leaders of the partitions have forgotten the producer, so that they know no epoch of it.
    """

    def verify(self, owner: SourcePartition, epoch: int, place: Place) -> Transaction:
        try:
            return super().verify(owner, epoch, place)
        except (Fenced, ServerUnavailable):
            return Transaction(owner, epoch, {place})
