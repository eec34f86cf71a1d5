"""A static member of a consumer group, which ends when another process joins under its name.

Kafka answers FENCED_INSTANCE_ID to requests that carry the name. The client does not know that
error, and its heartbeats and commits do not carry the name: those of a member that was replaced are
answered UNKNOWN_MEMBER_ID, as after an expired session. The client then joins again and replaces
the other in turn, and so on for ever.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

from aiokafka.errors import KafkaError, UnknownMemberIdError
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.group import HeartbeatRequest

from eventfleet.runtime.settings import variable
from eventfleet.stores.errors import Misconfigured

FENCED_INSTANCE_ID = 82
UNKNOWN_MEMBER_ID = UnknownMemberIdError.errno
NAMELESS_REQUESTS = (HeartbeatRequest, OffsetCommitRequest)


class MemberReplaced(KafkaError):  # type: ignore[misc]
    """The client's request is refused, since its member was replaced; the client tries it again."""


class DuplicateInstanceId(Misconfigured):
    """Another process has joined the group under this one's name."""

    def __init__(self, group: str, instance_id: str) -> None:
        setting = variable("kafka_instance_id")
        super().__init__(
            f"another process has joined the group {group} as {instance_id!r}, and took this "
            f"worker's partitions over: {setting}={instance_id} must be set in one worker of each "
            f"role at a time; set another one, or unset {setting}"
        )


class StaticMember:
    """Reads the coordinator's answers to a static member, and reports once that it was replaced."""

    def __init__(self, session_timeout: float, report: Callable[[], None]) -> None:
        self._session_timeout, self._report = session_timeout, report
        self._send: Any = None
        self._last_heartbeat = float("-inf")
        self._is_reported = False

    def attach(self, consumer: Any) -> None:
        """Read the answers to a consumer that was just started."""
        coordinator = consumer._coordinator
        self._send, coordinator._send_req = coordinator._send_req, self.send

    async def send(self, request: Any) -> Any:
        """Send a request. MemberReplaced, which keeps the client from joining anew."""
        sent = time.monotonic()
        response = await self._send(request)
        codes = set(_error_codes(response))
        if self._tells_of_another(request, codes):
            if not self._is_reported:
                self._is_reported = True
                self._report()
            raise MemberReplaced
        if isinstance(request, HeartbeatRequest) and codes == {0}:
            self._last_heartbeat = sent
        return response

    def _tells_of_another(self, request: Any, codes: set[int]) -> bool:
        if UNKNOWN_MEMBER_ID in codes and isinstance(request, NAMELESS_REQUESTS):
            return time.monotonic() - self._last_heartbeat < self._session_timeout
        return FENCED_INSTANCE_ID in codes


def _error_codes(response: Any) -> Iterator[int]:
    """The error codes of a response about the group, or of its commits."""
    if hasattr(response, "error_code"):
        yield response.error_code
        return
    for _, partitions in response.topics:
        for partition in partitions:
            yield partition[-1]
