"""The owner of a partition on a broker with transactions."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced, TopicAuthorizationFailedError

from eventfleet.stores.contracts import Watermarks
from eventfleet.stores.errors import Fenced, ServerUnavailable
from eventfleet.stores.kafka.batching_producer import BatchingProducer, TopicMemory
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.errors import (
    WRONG_STATE_ERRORS,
    NeededRight,
    abort_producer,
    transaction_error,
    translate_errors,
)
from eventfleet.stores.kafka.offsets import fetch_committed
from eventfleet.stores.kafka.transaction_sender import TransactionSender
from eventfleet.stores.kafka.watermarks import fetch_watermarks_beyond
from eventfleet.stores.server_calls import timed_call
from eventfleet.topics.record import ProducerRecord

TRANSACTION_TIMEOUT_SECONDS = 10.0
COMMIT_TIMEOUT_SECONDS = 8.0
"""Shorter than the transaction's own timeout, which would look like a fence by another owner."""

_unanswered_fences: set[tuple[str, str]] = set()
"""The brokers and transactional ids of which a fence by this process may still be under way."""


class TransactionalWriter:
    """PartitionWriter whose transactional id names group, topic and partition.

    After a commit whose outcome is unknown, only the committed offset says whether it was done, and
    only once a new epoch has fenced what is still under way: so `open` comes before anything else.
    """

    def __init__(self, connection: Connection, group: str, topic: str, partition: int) -> None:
        self._connection = connection
        self._group = group
        self._topic = topic
        self._partition = partition
        self._producer: Any = None
        self._committed = 0
        self._topics = TopicMemory()

    @property
    def transactional_id(self) -> str:
        return f"{self._group}-{self._topic}-{self._partition}"

    @property
    def _fence(self) -> tuple[str, str]:
        return self._connection.bootstrap, self.transactional_id

    async def open(self) -> int | None:
        await self.close()
        what = f"taking over {self._topic}/{self._partition} for {self._group}"
        with timed_call("kafka", "take_over"):
            async with translate_errors(what, self._connection.timeout):
                producer, offsets = await self._take_over()
        self._producer = producer
        self._committed = offsets.get(self._partition, 0)
        return offsets.get(self._partition)

    async def _take_over(self) -> tuple[Any, dict[int, int]]:
        """Return a producer that has fenced all earlier ones, and the committed offsets."""
        producer = self._connection.producer(
            transactional_id=self.transactional_id,
            transaction_timeout_ms=int(TRANSACTION_TIMEOUT_SECONDS * 1000),
        )
        sender = TransactionSender(producer, self._connection.timeout + COMMIT_TIMEOUT_SECONDS)
        try:
            await producer.start()
            return producer, await fetch_committed(
                producer.client, self._group, self._topic, [self._partition], stable=True
            )
        except BaseException:
            await abort_producer(producer)
            raise
        finally:
            if sender.fence_unanswered:
                _unanswered_fences.add(self._fence)

    async def watermarks(self) -> Watermarks:
        """RuntimeError unless `open` has succeeded since the last error."""
        if self._producer is None:
            raise RuntimeError(f"{self.transactional_id} is not open")
        what = f"reading the watermarks of {self._topic}/{self._partition}"
        with timed_call("kafka", "watermarks"):
            async with translate_errors(what, self._connection.timeout):
                return await fetch_watermarks_beyond(
                    self._producer.client, self._topic, self._partition, self._committed
                )

    async def commit(
        self,
        records: Sequence[ProducerRecord],
        next_offset: int,
        last: Sequence[ProducerRecord] = (),
    ) -> None:
        """RuntimeError unless `open` has succeeded since the last error.

        ServerUnavailable, not Fenced: this process may have fenced itself, see `_own_fence`.
        """
        producer, self._producer = self._producer, None
        if producer is None:
            raise RuntimeError(f"{self.transactional_id} is not open")
        what = f"committing {next_offset} of {self._topic}/{self._partition} for {self._group}"
        seconds = min(self._connection.timeout, COMMIT_TIMEOUT_SECONDS)
        try:
            with timed_call("kafka", "commit"):
                async with translate_errors(what, seconds):
                    await self._transact(producer, [*records, *last], next_offset)
        except BaseException as error:
            await abort_producer(producer)
            if isinstance(error, Fenced) and self._own_fence():
                raise ServerUnavailable(
                    f"{what}: a late request of its own has fenced it"
                ) from error
            raise
        self._producer = producer

    def _own_fence(self) -> bool:
        """Return whether a fence is taken for the work of an InitProducerId that got no answer.

        It comes late, once. The next fence is another owner's.
        """
        mine = self._fence in _unanswered_fences
        _unanswered_fences.discard(self._fence)
        return mine

    async def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await abort_producer(producer)

    async def _transact(
        self, producer: Any, records: Sequence[ProducerRecord], offset: int
    ) -> None:
        """Send the offset along with the records; only the commit makes either visible."""
        try:
            await producer.begin_transaction()
            source = TopicPartition(self._topic, self._partition)
            await _gather(
                BatchingProducer(producer, self._topics).send(records),
                producer.send_offsets_to_transaction({source: offset}, self._group),
            )
            await producer.commit_transaction()
        except WRONG_STATE_ERRORS as error:
            raise transaction_error(producer) from error
        except KafkaError as error:
            # The driver hides the cause where Kafka refuses the offset alone.
            if isinstance(error.__cause__, TopicAuthorizationFailedError):
                right = NeededRight(f"Read on topic {self._topic}")
                raise TopicAuthorizationFailedError(right) from error
            raise


async def _gather(*work: Awaitable[Any]) -> None:
    """Await all, whatever fails; then raise the most telling error: see `_rank`."""
    results = await asyncio.gather(*work, return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    if errors:
        raise min(errors, key=_rank)


def _rank(error: BaseException) -> int:
    """Rank a fence first, then a cause, then a wrong state, which is only a consequence."""
    return (
        0
        if isinstance(error, ProducerFenced)
        else 2
        if isinstance(error, WRONG_STATE_ERRORS)
        else 1
    )
