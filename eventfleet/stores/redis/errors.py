"""Translates the driver's errors to the stores'; only sessions handle the former, too."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions as redis

from eventfleet.stores.driver_faults import describe, is_outage
from eventfleet.stores.errors import (
    AccessFault,
    AccessRefused,
    HungUp,
    Misconfigured,
    ServerUnavailable,
    StoreError,
)
from eventfleet.stores.tls import certificate_fault, handshake_fault

InvalidResponse = redis.InvalidResponse
ResponseError = redis.ResponseError
UnknownScript = redis.NoScriptError

# Sessions read from asyncio's streams by themselves.
DRIVERS = frozenset({"redis", "hiredis", "asyncio"})
# These pass when the data set is loaded, a replica is promoted, or memory or a disk has room.
TRANSIENT_ERRORS = (
    redis.BusyLoadingError,
    redis.ReadOnlyError,
    redis.OutOfMemoryError,
    redis.MasterDownError,
    redis.TryAgainError,
    redis.NoScriptError,
)
TRANSIENT_PREFIXES = ("BUSY", "MISCONF", "NOREPLICAS", "LOADING", "UNBLOCKED")
OPERATOR_ERRORS = (redis.ResponseError, redis.DataError)
CREDENTIAL_ERRORS = (redis.AuthenticationError, redis.AuthorizationError)
# What a command within a script lacks, as Redis 7.0 and later ones tell it.
SCRIPT_RIGHTS = ("The user executing the script can't", "ACL failure in script")
# The driver reads by itself only while it connects: the server never answered.
HUNG_UP_TEXTS = ("Connection closed by server", "Error while reading from", "Protocol Error")


class SessionEnded(redis.ConnectionError):
    """The connection was lost; the driver by itself would have made another in its place."""


@contextmanager
def translate_errors(where: str, seconds: float) -> Iterator[None]:
    """Raise the stores' errors instead of the driver's; `where` and `seconds` are for messages.

    Whatever the drivers raise that is not for an operator is ServerUnavailable.
    """
    try:
        yield
    except TimeoutError:
        raise ServerUnavailable(f"{where}: Redis has not done it within {seconds:g} s") from None
    except (redis.RedisError, OSError) as error:
        raise _translate(where, error) from None
    except (Exception, asyncio.CancelledError) as error:
        if not is_outage(DRIVERS, error):
            raise
        raise ServerUnavailable(f"{where}: {describe(error)}") from error


def _translate(where: str, error: Exception) -> StoreError:
    if refusal := _refusal(error):
        reason, access = refusal
        return AccessRefused(f"{where}: Redis", reason, access)
    text = str(error)
    message = f"{where}: {text or type(error).__name__}"
    if isinstance(error, redis.ConnectionError) and text.startswith(HUNG_UP_TEXTS):
        return HungUp(message)
    transient = isinstance(error, TRANSIENT_ERRORS) or text.startswith(TRANSIENT_PREFIXES)
    refused = isinstance(error, OPERATOR_ERRORS)
    return Misconfigured(message) if refused and not transient else ServerUnavailable(message)


def _refusal(error: Exception) -> tuple[str, AccessFault] | None:
    """Return the reason why the server refuses us, or we its certificate; None for other errors."""
    if isinstance(error, CREDENTIAL_ERRORS):
        return f"the user name and password are not accepted ({error})", AccessFault.CREDENTIALS
    if isinstance(error, redis.NoPermissionError) or any(
        text in str(error) for text in SCRIPT_RIGHTS
    ):
        return f"the user lacks a right ({error})", AccessFault.RIGHT
    if fault := certificate_fault(error):
        return f"the server's certificate is not accepted ({fault})", AccessFault.CERTIFICATE
    if fault := handshake_fault(error):
        return f"TLS is not spoken there ({fault})", AccessFault.PROTOCOL
    return None
