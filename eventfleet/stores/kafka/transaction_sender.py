"""TransactionSender: the driver's sender, which sends nothing after a request without an answer.

A request that was sent and not answered may still arrive, at any later time. All transactions of a
producer have the same epoch, so a late request of one is taken as a request of the next: a late
EndTxn commits half of it. The driver's sender sends such a request again, after a timeout and
after a lost connection, and goes on. This one gives up: only a new epoch fences what is under way.

A request that was answered may be sent again, since no copy of it is under way; so may one that was
never written. InitProducerId may always: a late one fences our own producer, and tears nothing.
Plain producers keep the driver's own sender: readers drop what it repeats by its id.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aiokafka import errors as kafka
from aiokafka.client import ConnectionGroup
from aiokafka.producer.sender import Sender
from aiokafka.protocol.transaction import InitProducerIdRequest

NEVER_SENT_ERRORS = (kafka.NodeNotReadyError, kafka.IncompatibleBrokerVersion, kafka.ProducerClosed)


class RequestUnanswered(Exception):
    """A request of a transaction was sent, and its answer did not come.

    The driver's handlers of requests must not know it: they repeat what fails by an error of its.
    """


class TransactionClient:
    """The client of a TransactionSender.

    `request_seconds` bounds a request on its own; its caller has a shorter limit. `unanswered` is
    the error after which nothing is sent, `fence_unanswered` whether an InitProducerId may still be
    under way.
    """

    def __init__(self, client: Any, request_seconds: float) -> None:
        self._client, self._request_seconds = client, request_seconds
        self.unanswered: RequestUnanswered | None = None
        self.fence_unanswered = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(
        self, node: int, request: Any, *, group: ConnectionGroup = ConnectionGroup.DEFAULT
    ) -> Any:
        """Send a request of the sender's. RequestUnanswered: now or before, one got no answer."""
        if self.unanswered:
            raise self.unanswered
        await self._connect(node, group)
        try:
            return await self._client.send(node, request, group=group)
        except NEVER_SENT_ERRORS:
            raise
        except BaseException as error:
            if isinstance(request, InitProducerIdRequest):
                self.fence_unanswered = True
                raise
            self.unanswered = RequestUnanswered(f"no answer to {type(request).__name__}: {error!r}")
            if isinstance(error, Exception):
                raise self.unanswered from error
            raise

    async def _connect(self, node: int, group: ConnectionGroup) -> None:
        """Have a connection that waits for answers longer than the driver does otherwise."""
        connection, seconds = self._client._conns.get((node, group)), self._request_seconds
        if connection and connection._request_timeout == seconds and connection.connected():
            return
        if await self._client.ready(node, group=group):
            self._client._conns[node, group]._request_timeout = seconds


class TransactionSender(Sender):  # type: ignore[misc]
    """Takes the place of a producer's sender, before the producer is started."""

    def __init__(self, producer: Any, request_seconds: float) -> None:
        replaced = producer._sender
        super().__init__(
            TransactionClient(producer.client, request_seconds),
            acks=replaced._acks,
            txn_manager=replaced._txn_manager,
            message_accumulator=replaced._message_accumulator,
            retry_backoff_ms=replaced._retry_backoff * 1000,
            request_timeout_ms=replaced._request_timeout_ms,
        )
        producer._sender = self

    @property
    def fence_unanswered(self) -> bool:
        """True when an InitProducerId was sent and not answered: it may fence this producer."""
        return bool(self.client.fence_unanswered)

    async def _send_produce_req(self, node_id: int, batches: Mapping[Any, Any]) -> None:
        with self._giving_up():
            await super()._send_produce_req(node_id, batches)

    async def _do_add_partitions_to_txn(self, tps: Any) -> None:
        with self._giving_up():
            await super()._do_add_partitions_to_txn(tps)

    async def _do_add_offsets_to_txn(self, group_id: str) -> None:
        with self._giving_up():
            await super()._do_add_offsets_to_txn(group_id)

    async def _do_txn_offset_commit(self, offsets: Any, group_id: str) -> None:
        with self._giving_up():
            await super()._do_txn_offset_commit(offsets, group_id)

    async def _do_txn_commit(self, commit_result: Any) -> None:
        with self._giving_up():
            await super()._do_txn_commit(commit_result)

    @contextmanager
    def _giving_up(self) -> Iterator[None]:
        try:
            yield
        except RequestUnanswered as error:
            self._give_up(error)
        except kafka.KafkaError:
            if self._message_accumulator._exception is None:
                raise  # once the producer is at its end, nobody awaits what fails

    def _give_up(self, error: RequestUnanswered) -> None:
        """Fail all that the producer was given, and end the task that sends.

        What is awaited raises it; of the rest the exceptions count as retrieved.
        """
        transaction = self._txn_manager
        if transaction.is_fatal_error():
            return
        futures = [future for *_, future in transaction._pending_txn_offsets]
        failure = kafka.KafkaConnectionError(str(error))
        failure.__cause__ = error.__cause__
        self._message_accumulator.fail_all(failure)
        transaction.fatal_error(failure)
        for future in (*futures, transaction.wait_for_transaction_end()):
            future.exception()
        self._sender_task.cancel()
