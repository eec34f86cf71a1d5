"""Limits on all requests together: their number, and the memory of their bodies."""

from types import TracebackType
from typing import Self

from eventfleet.web.problems import BUSY, RequestRefused

MEBIBYTE = 2**20


class RequestLimiter:
    """Counts the requests in progress. Entered once for each; RequestRefused beyond the limit."""

    def __init__(self, limit: int) -> None:
        self._limit, self.active_requests = limit, 0

    def __enter__(self) -> None:
        if self.active_requests >= self._limit:
            raise RequestRefused(BUSY, f"the limit is {self._limit} concurrent requests")
        self.active_requests += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: object, where: TracebackType | None
    ) -> None:
        self.active_requests -= 1


class BodyMemory:
    """The memory of the bodies of all requests in progress, in bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes, self.held_bytes = limit_bytes, 0

    def share(self) -> "BodyShare":
        """Returns the share of one request, for a `with` that ends when its body is let go."""
        return BodyShare(self)


class BodyShare:
    """The memory that the body of one request takes."""

    __slots__ = ("_held_bytes", "_memory")

    def __init__(self, memory: BodyMemory) -> None:
        self._memory, self._held_bytes = memory, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, where: TracebackType | None
    ) -> None:
        self._memory.held_bytes -= self._held_bytes

    def take(self, size: int) -> None:
        """Adds bytes. RequestRefused: the bodies in progress would have more than the limit."""
        memory = self._memory
        if memory.held_bytes + size > memory.limit_bytes:
            limit = f"{memory.limit_bytes / MEBIBYTE:g} MiB"
            raise RequestRefused(BUSY, f"the bodies of concurrent requests fill their {limit}")
        memory.held_bytes += size
        self._held_bytes += size
