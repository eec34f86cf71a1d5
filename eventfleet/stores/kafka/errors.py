"""Translates aiokafka's errors to the stores', and ends clients that failed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import chain
from typing import Any, TypeVar

from aiokafka import errors as kafka

from eventfleet.stores.driver_faults import describe, is_outage
from eventfleet.stores.errors import (
    AccessFault,
    AccessRefused,
    Fenced,
    HungUp,
    Misconfigured,
    RecordsTooLarge,
    ServerUnavailable,
    StoreError,
    TopicRefused,
)
from eventfleet.stores.kafka.connection_note import ConnectionNote, connections_noted
from eventfleet.stores.retry import REQUEST
from eventfleet.stores.timeout import Timeout

T = TypeVar("T")
DRIVER = frozenset({"aiokafka"})
CLOSE_TIMEOUT_SECONDS = 2.0
# These last until an operator acts; those of the first kind are about one topic.
SIZE_ERRORS = (
    kafka.MessageSizeTooLargeError,
    kafka.RecordListTooLargeError,
    kafka.RecordTooLargeError,
)
TOPIC_ERRORS = (
    kafka.UnknownTopicOrPartitionError,
    kafka.InvalidTopicError,
    kafka.TopicAuthorizationFailedError,
    *SIZE_ERRORS,
    kafka.InvalidTimestampError,
)
OPERATOR_ERRORS = (
    *TOPIC_ERRORS,
    kafka.IncompatibleBrokerVersion,
    kafka.UnsupportedVersionError,
    kafka.InvalidReplicationFactorError,
    kafka.InvalidPartitionsError,
    kafka.InvalidConfigurationError,
    kafka.InvalidTransactionTimeout,
    kafka.PolicyViolationError,
)
# Rights: the kind of thing that one is about, and the right that the fleet mostly needs of it.
RIGHTS = {
    kafka.TopicAuthorizationFailedError: ("topic", "Read"),
    kafka.GroupAuthorizationFailedError: ("group", "Read"),
    kafka.TransactionalIdAuthorizationFailed: ("transactional id", "Write"),
    kafka.ClusterAuthorizationFailedError: ("cluster", "IdempotentWrite"),
}
RIGHT_ERRORS = tuple(RIGHTS)


class NeededRight(str):
    """The argument of a driver's error that names the right which a request of ours needs."""


@asynccontextmanager
async def translate_errors(what: str, seconds: float) -> AsyncIterator[None]:
    """Bound the block by `seconds`, and translate the driver's errors; `what` begins messages.

    Whatever the driver raises that is neither a fence nor for an operator is ServerUnavailable.
    """
    with connections_noted() as note:
        try:
            with Timeout(seconds):
                yield
        except TimeoutError as error:
            reason = f"Kafka has not done it within {seconds:g} s"
            raise _unavailable(what, reason, note) from (note.error or error)
        except kafka.ProducerFenced as error:
            raise Fenced(f"{what}: another owner has taken over") from error
        except RIGHT_ERRORS as error:
            raise AccessRefused(
                f"{what}: Kafka", _missing_right(error), AccessFault.RIGHT
            ) from error
        except OPERATOR_ERRORS as error:
            raise Misconfigured(f"{what}: {describe(error)}") from error
        except (kafka.KafkaError, OSError) as error:
            raise _unavailable(what, describe(error), note) from (note.error or error)
        except (Exception, asyncio.CancelledError) as error:
            if not is_outage(DRIVER, error):
                raise
            raise _unavailable(what, describe(error), note) from (note.error or error)


def _unavailable(what: str, reason: str, note: ConnectionNote) -> StoreError:
    """Return the error for a failed call: what the connection met tells more than the call's own.

    Credentials and certificates do not get right by themselves, so nothing is tried again.
    """
    if isinstance(note.error, AccessRefused):
        return note.error
    if isinstance(note.error, HungUp):
        return HungUp(f"{what}: {note.error}")
    return ServerUnavailable(f"{what}: {note.error or reason}")


@contextmanager
def translate_topic_errors(topic: str, *, named: bool) -> Iterator[None]:
    """Raise TopicRefused, with the topic's name, where the driver refuses to write to it.

    RecordsTooLarge, of no records: it refuses what it was given for its size. ServerUnavailable: it
    does not know a topic that Kafka has `named` before, as during an outage, or from a broker that
    has just started.
    """
    try:
        yield
    except kafka.UnknownTopicOrPartitionError as error:
        kind = ServerUnavailable if named else TopicRefused
        raise kind(f"topic {topic}: {describe(error)}") from error
    except kafka.TopicAuthorizationFailedError as error:
        needed = type(error)(NeededRight(f"Write on topic {topic}"))
        raise TopicRefused(f"topic {topic}: Kafka: {_missing_right(needed)}") from error
    except SIZE_ERRORS as error:
        raise RecordsTooLarge(f"topic {topic}: {describe(error)}") from error
    except TOPIC_ERRORS as error:
        raise TopicRefused(f"topic {topic}: {describe(error)}") from error


def raise_for_code(code: int, right: str = "") -> None:
    """Raise the driver's error for a response's error code; 0 is none.

    `right` is what the request needs, such as "Describe on topic orders.events".
    """
    if code:
        error = kafka.for_code(code)
        raise error(NeededRight(right)) if right and error in RIGHTS else error()


async def retry_request(request: Callable[[], Awaitable[T]]) -> T:
    """Return the response, after repeats on retriable errors; the caller bounds the time."""
    return await REQUEST.retry(request, _is_retriable)


def _is_retriable(error: BaseException) -> bool:
    return isinstance(error, kafka.KafkaError) and bool(error.retriable)


def transaction_error(producer: Any) -> BaseException:
    """Return the error behind a producer's mere report that its transaction's state is wrong.

    A fence where nothing else is known: an owner that wrongly gives up is assigned again, while
    an owner that wrongly goes on would fence its successor.
    """
    end = producer._txn_manager.wait_for_transaction_end()
    error: BaseException | None = end.exception() if end is not None and end.done() else None
    return error or kafka.ProducerFenced()


WRONG_STATE_ERRORS = (AssertionError, kafka.IllegalOperation)


async def abort_producer(producer: Any) -> None:
    """End a producer at once; what it has not sent is never sent. Never raises.

    Its `stop` alone would wait, without a bound, until the brokers have every record; and for the
    answer to a request, which the end of the connections ends.
    """
    producer.client.send = _refuse
    producer._message_accumulator.fail_all(kafka.ProducerClosed())
    producer._message_accumulator.reenqueue = _drop
    sender = producer._sender.sender_task
    if sender is not None:
        sender.cancel()
    _retrieve_exceptions(producer)
    await close_quietly(producer.client.close)
    if sender is not None:  # its `stop` would cancel it once more, and raise that
        await asyncio.wait({sender}, timeout=CLOSE_TIMEOUT_SECONDS)
    await close_quietly(producer.stop)
    _retrieve_exceptions(producer)
    await close_quietly(producer.client.close)


def _retrieve_exceptions(producer: Any) -> None:
    """Retrieve the exceptions of futures that nobody awaits, which asyncio would report."""
    batches = chain.from_iterable(producer._message_accumulator._batches.values())
    futures = [batch._drain_waiter for batch in batches]
    if producer._txn_manager is not None:
        futures.append(producer._txn_manager.wait_for_transaction_end())
    for future in futures:
        if future is not None and future.done() and not future.cancelled():
            future.exception()


async def close_quietly(close: Callable[[], Awaitable[Any]]) -> None:
    """Close a client, within CLOSE_TIMEOUT_SECONDS. Never raises, unless it is cancelled itself."""
    try:
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await close()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise  # any other is of a task of the client's


async def _refuse(*_: Any, **__: Any) -> None:
    raise kafka.ProducerClosed


def _drop(_: Any) -> None:
    """Stand for the queue of what is to be sent again, which knows no batch that has failed."""


def _missing_right(error: BaseException) -> str:
    """Return the sentence that names the right; the driver's errors name the thing at most."""
    right = error.args[0] if error.args else ""
    if not isinstance(right, NeededRight):
        kind, operation = RIGHTS[type(error)]
        names = ", ".join([right] if isinstance(right, str) else sorted(right))
        right = f"{operation} on {kind} {names}".rstrip()
    return f"the user lacks the right {right} ({type(error).__name__})"
