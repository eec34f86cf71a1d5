"""Translates the driver's errors to the stores'; only sessions handle the former, too."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions as redis

from eventfleet.stores.errors import Misconfigured, ServerUnavailable, StoreError

InvalidResponse = redis.InvalidResponse
ResponseError = redis.ResponseError
UnknownScript = redis.NoScriptError

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
# Credentials and rights: these last until an operator acts.
OPERATOR_ERRORS = (redis.AuthenticationError, redis.AuthorizationError, redis.DataError)


class SessionEnded(redis.ConnectionError):
    """The connection was lost; the driver by itself would have made another in its place."""


@contextmanager
def translate_errors(where: str, seconds: float) -> Iterator[None]:
    """Raise the stores' errors instead of the driver's; `where` and `seconds` are for messages."""
    try:
        yield
    except TimeoutError:
        raise ServerUnavailable(f"{where}: Redis has not done it within {seconds:g} s") from None
    except (redis.RedisError, OSError) as error:
        raise _translate(where, error) from None


def _translate(where: str, error: Exception) -> StoreError:
    message = f"{where}: {error or type(error).__name__}"
    transient = isinstance(error, TRANSIENT_ERRORS) or str(error).startswith(TRANSIENT_PREFIXES)
    refused = isinstance(error, (redis.ResponseError, *OPERATOR_ERRORS))
    return Misconfigured(message) if refused and not transient else ServerUnavailable(message)
