"""The sender of a transactional producer: what it sends again, and what it never does."""

import asyncio
import hashlib
import inspect
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka import errors as kafka
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.producer import sender
from aiokafka.producer.message_accumulator import MessageAccumulator
from aiokafka.producer.transaction_manager import TransactionManager

from eventfleet.stores.errors import Fenced, ServerUnavailable
from eventfleet.stores.kafka import transactional_writer
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.errors import abort_producer
from eventfleet.stores.kafka.transaction_sender import TransactionSender
from eventfleet.stores.kafka.transactional_writer import TransactionalWriter
from tests.unit.eventually import until

OUT, SOURCE = TopicPartition("out", 0), TopicPartition("source", 0)
KINDS = ["AddPartitionsToTxn", "Produce", "AddOffsetsToTxn", "TxnOffsetCommit", "EndTxn"]
LOST = [kafka.RequestTimedOutError, kafka.KafkaConnectionError]
RETRIABLE = {
    "AddPartitionsToTxn": kafka.ConcurrentTransactions.errno,
    "Produce": kafka.NotLeaderForPartitionError.errno,
    "AddOffsetsToTxn": kafka.CoordinatorLoadInProgressError.errno,
    "TxnOffsetCommit": kafka.RequestTimedOutError.errno,
    "EndTxn": kafka.CoordinatorNotAvailableError.errno,
    "InitProducerId": kafka.CoordinatorLoadInProgressError.errno,
}

# Where the client's sender has changed, read what of it sends a request again, and on which errors.
READ_METHODS: list[Callable[..., Any]] = [
    sender.Sender.__init__,
    sender.Sender._sender_routine,
    sender.Sender._fail_all,
    sender.Sender.close,
    sender.Sender._maybe_wait_for_pid,
    sender.Sender._find_coordinator,
    sender.Sender._send_produce_req,
    sender.Sender._maybe_do_transactional_request,
    sender.Sender._do_add_partitions_to_txn,
    sender.Sender._do_add_offsets_to_txn,
    sender.Sender._do_txn_offset_commit,
    sender.Sender._do_txn_commit,
    sender.BaseHandler.do,
    sender.SendProduceReqHandler.do,
    sender.SendProduceReqHandler._can_retry,
    AIOKafkaClient.send,
    AIOKafkaClient.ready,
    AIOKafkaClient._get_conn,
    AIOKafkaClient.close,
    AIOKafkaConnection.send,
    AIOKafkaConnection.close,
    AIOKafkaProducer.stop,
    AIOKafkaProducer.commit_transaction,
    MessageAccumulator.fail_all,
    TransactionManager.fatal_error,
]
READ_DIGEST = "d15e5fc50bc86fb75481765fe3203ebc9a87355ae1ebe34326af6ffd1f355494"


def test_the_drivers_sender_is_the_one_that_was_read() -> None:
    source = "".join(inspect.getsource(method) for method in READ_METHODS)
    assert hashlib.sha256(source.encode()).hexdigest() == READ_DIGEST


class ScriptedClient:
    """A client whose answers are of error code 0, but for those in `script`, by kind of request.

    An integer is the error code of the next answer, an error is raised instead of it, and an event
    is waited for before it. `sent` has the kinds of the requests that the broker has got.
    """

    def __init__(self) -> None:
        self.script: dict[str, list[Any]] = {}
        self.sent: list[str] = []
        self._waiting: list[asyncio.Future[Any]] = []
        connection = SimpleNamespace(_request_timeout=1.0, connected=lambda: True)
        self._conns: Any = {(1, group): connection for group in range(2)}
        self._client_id = "scripted"

    async def ready(self, node: int, *, group: int) -> bool:
        return True

    async def coordinator_lookup(self, kind: int, key: str) -> int:
        return 1

    def force_metadata_update(self) -> "asyncio.Future[bool]":
        updated: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        updated.set_result(True)
        return updated

    async def _maybe_wait_metadata(self) -> None:
        """There is none."""

    async def close(self) -> None:
        """Lose all connections: no request that is under way is answered."""
        for waiting in self._waiting:
            waiting.cancel()

    async def send(self, node: int, request: Any, *, group: int = 0) -> Any:
        kind = type(request).__name__.removesuffix("Request")
        self.sent.append(kind)
        step = self.script[kind].pop(0) if self.script.get(kind) else 0
        if isinstance(step, asyncio.Event):
            step = await self._answer_after(step)
        if not isinstance(step, int):
            raise step()
        return answer(kind, step)

    async def _answer_after(self, event: asyncio.Event) -> int:
        waiting = asyncio.ensure_future(event.wait())
        self._waiting.append(waiting)
        await asyncio.wait({waiting})
        await asyncio.sleep(0)
        if waiting.cancelled():
            raise kafka.KafkaConnectionError
        return 0


def answer(kind: str, code: int) -> Any:
    tp = SOURCE if kind == "TxnOffsetCommit" else OUT
    return SimpleNamespace(
        API_VERSION=7,
        error_code=code,
        producer_id=1,
        producer_epoch=0,
        errors=[(tp.topic, [(tp.partition, code)])],
        topics=[(tp.topic, [(tp.partition, code, 0, -1, 0)])],
    )


class Cluster:
    """The metadata of one broker with all partitions."""

    def leader_for_partition(self, partition: TopicPartition) -> int:
        return 1


@pytest.fixture
async def client() -> ScriptedClient:
    return ScriptedClient()


@pytest.fixture
async def producer(client: ScriptedClient) -> AsyncIterator[Any]:
    made = AIOKafkaProducer(transactional_id="g-source-0", acks="all", retry_backoff_ms=1)
    await made.client.close()
    made.client = made._sender.client = client
    made._message_accumulator._cluster = Cluster()
    TransactionSender(made, 60)
    yield made
    await abort_producer(made)


async def begin(producer: Any) -> None:
    if not producer._sender.sender_task:
        await producer._sender.start()
    await producer.begin_transaction()
    batch = producer.create_batch()
    batch.append(timestamp=None, key=b"k", value=b"v", headers=[])
    await (await producer._message_accumulator.add_batch(batch, OUT, 60))
    await producer.send_offsets_to_transaction({SOURCE: 1}, "g")


async def transact(producer: Any) -> None:
    async with asyncio.timeout(60):
        await begin(producer)
        await producer.commit_transaction()


async def test_a_transaction_sends_each_request_once(producer: Any, client: ScriptedClient) -> None:
    await transact(producer)
    assert client.sent == ["InitProducerId", *KINDS]


async def test_a_connection_waits_for_answers_longer_than_a_commit_does(
    producer: Any, client: ScriptedClient
) -> None:
    await transact(producer)
    assert {connection._request_timeout for connection in client._conns.values()} == {60}


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("kind", KINDS)
async def test_nothing_is_sent_after_a_request_without_an_answer(
    producer: Any, client: ScriptedClient, kind: str, lost: type[Exception]
) -> None:
    client.script[kind] = [lost]
    with pytest.raises(kafka.KafkaConnectionError, match=f"no answer to {kind}Request"):
        await transact(producer)
    await asyncio.sleep(0.05)
    with pytest.raises(AssertionError):
        await transact(producer)
    assert client.sent == ["InitProducerId", *KINDS[: KINDS.index(kind) + 1]]


@pytest.mark.parametrize("kind", ["InitProducerId", *KINDS])
async def test_a_request_with_a_retriable_answer_is_sent_again(
    producer: Any, client: ScriptedClient, kind: str
) -> None:
    client.script[kind] = [RETRIABLE[kind]] * 2
    await transact(producer)
    at = client.sent.index(kind)
    assert client.sent[at : at + 3] == [kind] * 3
    assert sorted({*client.sent}) == sorted(["InitProducerId", *KINDS])
    assert not producer._sender.fence_unanswered


@pytest.mark.parametrize("kind", KINDS)
async def test_a_request_that_was_never_sent_is_sent_once_there_is_a_connection(
    producer: Any, client: ScriptedClient, kind: str
) -> None:
    send = client.send

    async def once_away(node: int, request: Any, **named: Any) -> Any:
        if type(request).__name__ == f"{kind}Request":
            client.send = send  # type: ignore[method-assign]
            raise kafka.NodeNotReadyError
        return await send(node, request, **named)

    client.send = once_away  # type: ignore[method-assign]
    await transact(producer)
    assert client.sent == ["InitProducerId", *KINDS]


@pytest.mark.parametrize("lost", LOST)
async def test_a_fence_is_sent_again_and_remembered(
    producer: Any, client: ScriptedClient, lost: type[Exception]
) -> None:
    client.script["InitProducerId"] = [lost]
    await transact(producer)
    assert client.sent == ["InitProducerId", "InitProducerId", *KINDS]
    assert producer._sender.fence_unanswered


async def test_an_end_while_an_answer_is_awaited_sends_nothing_more(
    producer: Any, client: ScriptedClient
) -> None:
    answered = asyncio.Event()
    client.script["AddOffsetsToTxn"] = [answered]
    beginning = asyncio.create_task(begin(producer))
    await until(lambda: "AddOffsetsToTxn" in client.sent)
    beginning.cancel()
    await asyncio.wait({beginning})
    ending = asyncio.create_task(abort_producer(producer))
    await asyncio.sleep(0)
    answered.set()
    await ending
    assert client.sent[-1] == "AddOffsetsToTxn"


@pytest.mark.parametrize("kind", KINDS)
async def test_an_end_without_an_answer_ends_the_producer_and_cancels_nobody_else(
    producer: Any, client: ScriptedClient, kind: str
) -> None:
    client.script[kind] = [asyncio.Event()]
    transacting = asyncio.create_task(transact(producer))
    await until(lambda: kind in client.sent)
    transacting.cancel()
    await asyncio.wait({transacting})
    async with asyncio.timeout(60):
        await abort_producer(producer)
    assert producer._sender.sender_task.done()
    assert client.sent[-1] == kind


async def test_a_batch_that_is_to_be_sent_again_at_the_end_is_dropped(
    producer: Any, client: ScriptedClient
) -> None:
    client.script["Produce"] = [RETRIABLE["Produce"]]
    producer._sender._retry_backoff = 0.05
    beginning = asyncio.create_task(begin(producer))
    await until(lambda: "Produce" in client.sent)
    await abort_producer(producer)
    with pytest.raises(kafka.ProducerClosed):
        await beginning
    assert producer._sender.sender_task.exception() is None


# The writer


class FencedProducer:
    """A started producer that another one has fenced."""

    def __init__(self) -> None:
        self.client = SimpleNamespace(close=self._end)
        self._message_accumulator = SimpleNamespace(fail_all=lambda _: None, _batches={})
        self._txn_manager = None
        self._sender = SimpleNamespace(sender_task=None)
        self.stop = self._end

    async def _end(self) -> None:
        """There is nothing to end."""

    async def begin_transaction(self) -> None:
        raise kafka.ProducerFenced


@pytest.fixture
def unanswered(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    fences = {("nowhere:1", "g-source-0")}
    monkeypatch.setattr(transactional_writer, "_unanswered_fences", fences)
    return fences


async def fenced(partition: int = 0, broker: str = "nowhere:1") -> None:
    """A commit of a new writer, which finds itself fenced."""
    writer = TransactionalWriter(Connection(broker), "g", "source", partition)
    writer._producer = FencedProducer()
    await writer.commit([], 1)


async def test_the_first_fence_after_an_unanswered_one_is_taken_for_its_own(
    unanswered: set[tuple[str, str]],
) -> None:
    with pytest.raises(ServerUnavailable, match="a late request of its own"):
        await fenced()
    with pytest.raises(Fenced, match="another owner"):
        await fenced()


@pytest.mark.parametrize("other", [{"partition": 1}, {"broker": "elsewhere:1"}], ids=repr)
async def test_a_fence_of_another_partition_or_broker_is_another_owners(
    unanswered: set[tuple[str, str]], other: dict[str, Any]
) -> None:
    with pytest.raises(Fenced):
        await fenced(**other)
    assert unanswered == {("nowhere:1", "g-source-0")}
