"""ReadinessReport: the answer of `/ready`, of workers and of the HTTP service alike."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import chain
from time import monotonic
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from eventfleet.stores.background_task import BackgroundTask
from eventfleet.stores.gaps import Gap
from eventfleet.stores.topic_faults import TopicFault
from eventfleet.topics.values import DECODE_ERRORS

ReasonKind = Literal[
    "stopped", "waiting", "starting", "server", "task", "parked", "held", "gap", "topic"
]
REASONS: dict[ReasonKind, str] = {
    "stopped": "a fault has stopped a role at a partition",
    "waiting": "a role waits for a server at a partition",
    "starting": "a role does not have all of its partitions yet",
    "server": "a server does not answer, or refuses what commands write",
    "task": "a background task fails",
    "parked": "a role parks aggregates at a partition",
    "held": "the next build of a view is not made live",
    "gap": "a bus may have lost events",
    "topic": "a topic is not as its domain needs it",
}
"""The reasons of a kind in words for anybody: without names."""
READY, NOT_READY = 200, 503


class ReadinessReason(msgspec.Struct, kw_only=True, frozen=True):
    """A reason why a process is not ready. One that is not `blocking` is for operators to know.

    `domain`, `role` and `partition` are there where it is of one, `since` where the time is known.
    """

    kind: ReasonKind
    reason: str
    blocking: bool = False
    domain: str | UnsetType = UNSET
    role: str | UnsetType = UNSET
    partition: int | UnsetType = UNSET
    since: datetime | UnsetType = UNSET


class ReadinessReport(msgspec.Struct, kw_only=True, frozen=True):
    """The readiness of a process: not ready with any reason that is `blocking`."""

    status: Literal["ready", "not ready"]
    reasons: list[ReadinessReason]

    @classmethod
    def of(cls, *reasons: Iterable[ReadinessReason]) -> "ReadinessReport":
        """Make the report of all these reasons, the blocking ones first."""
        found = sorted(chain.from_iterable(reasons), key=lambda each: not each.blocking)
        blocked = bool(found) and found[0].blocking
        return cls(status="not ready" if blocked else "ready", reasons=found)

    def without_names(self) -> "ReadinessReport":
        """The report for anybody: the status, and the kinds of the reasons."""
        kinds = dict.fromkeys((each.kind, each.blocking) for each in self.reasons)
        reasons = [ReadinessReason(kind=k, reason=REASONS[k], blocking=b) for k, b in kinds]
        return ReadinessReport(status=self.status, reasons=reasons)

    @property
    def http_status(self) -> int:
        return READY if self.status == "ready" else NOT_READY

    def encode(self) -> bytes:
        """Encode it with a line for each member, as people read it too."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def task_reason(task: BackgroundTask, reason: str) -> ReadinessReason:
    """The reason that a background task fails."""
    since = second(task.failing_since) if task.failing_since else UNSET
    return ReadinessReason(kind="task", reason=reason, blocking=task.essential, since=since)


def gap_reason(gap: Gap) -> ReadinessReason:
    """The reason that events may be lost."""
    return ReadinessReason(kind="gap", reason=f"{gap.place}: {gap.text}")


def topic_reason(fault: TopicFault) -> ReadinessReason:
    """The reason that a topic is not as a domain needs it."""
    return ReadinessReason(kind="topic", reason=fault.text, domain=fault.domain)


def time_of(steady: float) -> datetime:
    """The time at which the monotonic clock had this value."""
    return second(datetime.now(UTC) - timedelta(seconds=monotonic() - steady))


def second(time: datetime) -> datetime:
    return time.replace(microsecond=0)


def read_reasons(body: bytes) -> list[ReadinessReason]:
    """Decode the reasons of a report; none where it is not one."""
    try:
        return msgspec.json.decode(body, type=ReadinessReport).reasons
    except DECODE_ERRORS:
        return []
