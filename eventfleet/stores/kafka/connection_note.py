"""Notes why connections to brokers fail: the driver logs the reason, and raises another error.

A client that has connected to a broker which names no broker would never find one: it is refused.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from aiokafka import client as driver
from aiokafka import errors as kafka

from eventfleet.stores.errors import (
    AccessFault,
    AccessRefused,
    HungUp,
    ServerUnavailable,
    StoreError,
)
from eventfleet.stores.tls import certificate_fault, handshake_fault

CREDENTIAL_ERRORS = (kafka.SaslAuthenticationFailed, kafka.AuthenticationFailedError)
PROTOCOL_ERRORS = (kafka.IllegalSaslStateError, kafka.AuthenticationMethodNotSupported)
HUNG_UP_ERRORS = (kafka.KafkaConnectionError, ConnectionError, EOFError)


class ConnectionNote:
    """Why the last connection to a broker failed, unless one has succeeded since.

    A refusal stands above an absence: of several brokers one may be away, and the others refuse.
    """

    def __init__(self) -> None:
        self.error: StoreError | None = None

    def add(self, error: StoreError) -> None:
        if not isinstance(self.error, AccessRefused) or isinstance(error, AccessRefused):
            self.error = error


_current: ContextVar[ConnectionNote | None] = ContextVar("connection note", default=None)


@contextmanager
def connections_noted() -> Iterator[ConnectionNote]:
    """Note the connections that are made within the block, and by tasks that begin in it."""
    before, note = _current.get(), ConnectionNote()
    _current.set(note)
    try:
        yield note
    finally:
        _current.set(before)


def _noting(connect: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Wrap the driver's only way to a broker; it catches what a connection raises."""

    async def create_conn(host: str, port: int, **options: Any) -> Any:
        note = _current.get()
        try:
            connection = await connect(host, port, **options)
        except (OSError, kafka.KafkaError) as error:
            if note is not None:
                note.add(_translate(f"{host}:{port}", options, error))
            raise
        if note is not None:
            note.error = None
        return connection

    return create_conn


def _knowing_brokers(bootstrap: Callable[[Any], Awaitable[None]]) -> Callable[..., Any]:
    """Wrap the driver's start of a client: a broker that is fenced, or has just started, may know
    of none, and the driver then fails at an assertion in each later call."""

    async def bootstrap_with_brokers(client: Any) -> None:
        await bootstrap(client)
        if not client.cluster.brokers():
            raise kafka.KafkaConnectionError("the broker that answers knows of no broker yet")

    return bootstrap_with_brokers


driver.create_conn = _noting(driver.create_conn)
driver.AIOKafkaClient.bootstrap = _knowing_brokers(driver.AIOKafkaClient.bootstrap)


def _translate(address: str, options: Mapping[str, Any], error: BaseException) -> StoreError:
    """Return the stores' error for a connection that could not be made."""
    where, text, security = f"Kafka at {address}", _text(error), options["security_protocol"]
    if isinstance(error, CREDENTIAL_ERRORS):
        reason = f"the user name and password are not accepted ({text})"
        return AccessRefused(where, reason, AccessFault.CREDENTIALS)
    if isinstance(error, kafka.UnsupportedSaslMechanismError):
        reason = f"the SASL mechanism {options['sasl_mechanism']} is not offered there"
        return AccessRefused(where, reason, AccessFault.PROTOCOL)
    if isinstance(error, PROTOCOL_ERRORS):
        return AccessRefused(
            where, f"{security} is not spoken there ({text})", AccessFault.PROTOCOL
        )
    if fault := certificate_fault(error):
        reason = f"the certificate of {address} is not accepted ({fault})"
        return AccessRefused(where, reason, AccessFault.CERTIFICATE)
    if fault := handshake_fault(error):
        return AccessRefused(
            where, f"{security} is not spoken there ({fault})", AccessFault.PROTOCOL
        )
    if isinstance(error, HUNG_UP_ERRORS) and not isinstance(error, ConnectionRefusedError):
        return HungUp(f"{address} hangs up on {security}")
    return ServerUnavailable(f"no connection to {address}: {text}")


def _text(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    texts = [each for each in error.args if isinstance(each, str) and each]
    return (texts[-1] if texts else type(error).__name__).rstrip(".")
