"""The driver's errors as ours: the one place that knows the former."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions as redis

from eventfleet.stores.errors import Misconfigured, ServerUnavailable, StoreError

InvalidResponse = redis.InvalidResponse
ResponseError = redis.ResponseError
UnknownScript = redis.NoScriptError

# What passes when the data set is loaded, a replica is promoted, or memory or a disk has room.
TRANSIENT_ERRORS = (
    redis.BusyLoadingError,
    redis.ReadOnlyError,
    redis.OutOfMemoryError,
    redis.MasterDownError,
    redis.TryAgainError,
    redis.NoScriptError,
)
TRANSIENT_PREFIXES = ("BUSY", "MISCONF", "NOREPLICAS", "LOADING", "UNBLOCKED")
# Who we are and what we may: wrong until an operator changes it.
OPERATOR_ERRORS = (redis.AuthenticationError, redis.AuthorizationError, redis.DataError)


class SessionEnded(redis.ConnectionError):
    """The connection was lost; the driver would have made another in its place."""


@contextmanager
def translate_errors(where: str, seconds: float) -> Iterator[None]:
    """Raise our errors instead of the driver's; `where` and `seconds` are for the message."""
    try:
        yield
    except TimeoutError:
        raise ServerUnavailable(f"{where}: Redis has not done it within {seconds:g} s") from None
    except (redis.RedisError, OSError) as error:
        raise _of(where, error) from None


def _of(where: str, error: Exception) -> StoreError:
    message = f"{where}: {error or type(error).__name__}"
    passing = isinstance(error, TRANSIENT_ERRORS) or str(error).startswith(TRANSIENT_PREFIXES)
    refused = isinstance(error, (redis.ResponseError, *OPERATOR_ERRORS))
    return Misconfigured(message) if refused and not passing else ServerUnavailable(message)
