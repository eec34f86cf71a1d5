"""The driver's errors as ours: the one place that knows the former."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions as redis

from eventfleet.stores.errors import Misconfigured, ServerUnavailable, StoreError

Garbled = redis.InvalidResponse
Refused = redis.ResponseError
UnknownScript = redis.NoScriptError

# What passes when the data set is loaded, a replica is promoted, or memory or a disk has room.
PASSING = (
    redis.BusyLoadingError,
    redis.ReadOnlyError,
    redis.OutOfMemoryError,
    redis.MasterDownError,
    redis.TryAgainError,
    redis.NoScriptError,
)
PASSING_WORDS = ("BUSY", "MISCONF", "NOREPLICAS", "LOADING", "UNBLOCKED")
# Who we are and what we may: wrong until an operator changes it.
OPERATORS = (redis.AuthenticationError, redis.AuthorizationError, redis.DataError)


class SessionEnded(redis.ConnectionError):
    """The connection was lost; the driver would have made another in its place."""


@contextmanager
def translated(where: str, seconds: float) -> Iterator[None]:
    """Raise our errors instead of the driver's; `where` and `seconds` are for the message."""
    try:
        yield
    except TimeoutError:
        raise ServerUnavailable(f"{where}: Redis has not done it within {seconds:g} s") from None
    except (redis.RedisError, OSError) as error:
        raise _of(where, error) from None


def _of(where: str, error: Exception) -> StoreError:
    message = f"{where}: {error or type(error).__name__}"
    passing = isinstance(error, PASSING) or str(error).startswith(PASSING_WORDS)
    refused = isinstance(error, (redis.ResponseError, *OPERATORS))
    return Misconfigured(message) if refused and not passing else ServerUnavailable(message)
