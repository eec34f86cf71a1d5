"""The calls of this process to Kafka, MongoDB and Redis: their times and failures."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from time import perf_counter
from types import TracebackType
from typing import Final

from eventfleet.stores.errors import Duplicate, Fenced
from eventfleet.stores.histogram import Histogram
from eventfleet.stores.refusals import OF_COMMANDS, OperationRefusals

OPERATIONS: Final = {
    "kafka": ("produce", "commit", "take_over", "read_offset", "watermarks"),
    "mongodb": (
        "write",
        "put",
        "find",
        "heads",
        "tails",
        "unplaced",
        "read",
        "feed",
        "save_snapshots",
        "read_snapshots",
        "save_rows",
        "read_rows",
        "save_dead_letters",
        "read_dead_letters",
        "registry",
        "prepare",
    ),
    "redis": (
        *("mark", "confirm", "withdraw", "drop", "read", "incarnation", "note_owner"),
        *("publish", "claim", "prepare"),
    ),
}
"""The operations of each server. There are no others, so that the metrics stay few."""

CALL_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, inf)
ANSWERS = (Duplicate, Fenced)
"""Errors that are a server's answer to a call that it has done its part of."""


class CallStatistics:
    """The calls of one operation: their seconds, how many failed, and whether they are refused."""

    __slots__ = ("errors", "refusals", "seconds")

    def __init__(self, refusals: OperationRefusals | None = None) -> None:
        self.seconds = Histogram(CALL_SECONDS)
        self.errors = 0
        self.refusals = refusals


_statistics = {
    (server, operation): CallStatistics(OF_COMMANDS.get((server, operation)))
    for server, operations in OPERATIONS.items()
    for operation in operations
}


class timed_call:
    """Times the block as one call; an exception counts as a failure, unless it is an answer.

    A cancelled call is timed and no failure: its caller has given up.
    """

    __slots__ = ("_began", "_statistics")

    def __init__(self, server: str, operation: str) -> None:
        self._statistics = _statistics[server, operation]

    def __enter__(self) -> None:
        self._began = perf_counter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._statistics.seconds.observe(perf_counter() - self._began)
        failed = _is_failure(error)
        self._statistics.errors += failed
        if self._statistics.refusals is not None:
            if failed and error is not None:
                self._statistics.refusals.note_failure(error)
            elif error is None or isinstance(error, ANSWERS):
                self._statistics.refusals.note_success()


@contextmanager
def counted_failures(server: str, operation: str) -> Iterator[None]:
    """Count a failure of the block, which takes as long as its caller lets it."""
    try:
        yield
    except Exception as error:
        _statistics[server, operation].errors += _is_failure(error)
        raise


def _is_failure(error: BaseException | None) -> bool:
    return isinstance(error, Exception) and not isinstance(error, ANSWERS)


def server_calls() -> Iterator[tuple[str, str, CallStatistics]]:
    """The statistics of each operation that was called, with the names of server and operation."""
    for (server, operation), statistics in _statistics.items():
        if statistics.errors or any(statistics.seconds.counts):
            yield server, operation, statistics
