"""A static member: which answers of the coordinator say that another process took its name."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaError, UnknownMemberIdError
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest

from eventfleet.stores.errors import Misconfigured
from eventfleet.workers.transport.static_member import (
    FENCED_INSTANCE_ID,
    UNKNOWN_MEMBER_ID,
    DuplicateInstanceId,
    MemberReplaced,
    StaticMember,
)

SESSION_SECONDS = 6.0
ILLEGAL_GENERATION, REBALANCE_IN_PROGRESS = 22, 27
HEARTBEAT = HeartbeatRequest("group", 1, "member")
COMMIT = OffsetCommitRequest("group", 1, "member", -1, [])
JOIN = JoinGroupRequest("group", 6000, 18000, "member", "a", "consumer", [])
SYNC = SyncGroupRequest("group", 1, "member", "a", [])


class FakeGroup:
    """A static member whose coordinator gives the answers that a test says; `now` in seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.reports = 100.0, 0
        self.coordinator = SimpleNamespace(_send_req=self._answer)
        self.member = StaticMember(SESSION_SECONDS, self._report)
        self.member.attach(SimpleNamespace(_coordinator=self.coordinator))
        self._response: Any = None
        monkeypatch.setattr("time.monotonic", lambda: self.now)

    def _report(self) -> None:
        self.reports += 1

    async def _answer(self, request: Any) -> Any:
        return self._response

    async def send(self, request: Any, code: int) -> None:
        """Send a request that is answered by this error code."""
        committed = request is COMMIT
        topics = [("topic", [(0, 0), (1, code)])]
        self._response = SimpleNamespace(topics=topics) if committed else _coded(code)
        assert await self.coordinator._send_req(request) is self._response


def _coded(code: int) -> Any:
    return SimpleNamespace(error_code=code)


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> FakeGroup:
    return FakeGroup(monkeypatch)


@pytest.mark.parametrize("request_sent", [JOIN, SYNC, HEARTBEAT, COMMIT])
async def test_a_fenced_name_is_reported_once_and_every_time_refused(
    group: FakeGroup, request_sent: Any
) -> None:
    for _ in range(2):
        with pytest.raises(MemberReplaced):
            await group.send(request_sent, FENCED_INSTANCE_ID)
    assert group.reports == 1


@pytest.mark.parametrize("request_sent", [HEARTBEAT, COMMIT])
async def test_a_member_unknown_within_its_session_was_replaced(
    group: FakeGroup, request_sent: Any
) -> None:
    await group.send(HEARTBEAT, 0)
    group.now += SESSION_SECONDS - 0.1
    with pytest.raises(MemberReplaced):
        await group.send(request_sent, UNKNOWN_MEMBER_ID)
    assert group.reports == 1


@pytest.mark.parametrize("request_sent", [HEARTBEAT, COMMIT])
async def test_a_member_unknown_after_its_session_may_join_again(
    group: FakeGroup, request_sent: Any
) -> None:
    await group.send(HEARTBEAT, 0)
    group.now += SESSION_SECONDS
    await group.send(request_sent, UNKNOWN_MEMBER_ID)
    assert not group.reports


async def test_a_member_that_never_had_a_heartbeat_answered_may_join_again(
    group: FakeGroup,
) -> None:
    await group.send(HEARTBEAT, UNKNOWN_MEMBER_ID)
    assert not group.reports


@pytest.mark.parametrize("code", [ILLEGAL_GENERATION, REBALANCE_IN_PROGRESS])
async def test_other_errors_are_the_clients(group: FakeGroup, code: int) -> None:
    await group.send(HEARTBEAT, 0)
    for request_sent in (JOIN, SYNC, HEARTBEAT, COMMIT):
        await group.send(request_sent, code)
    await group.send(SYNC, UNKNOWN_MEMBER_ID)
    assert not group.reports


def test_the_client_repeats_what_is_refused_and_the_codes_are_kafkas() -> None:
    assert issubclass(MemberReplaced, KafkaError)
    assert (UNKNOWN_MEMBER_ID, UnknownMemberIdError.message) == (25, "UNKNOWN_MEMBER_ID")


def test_the_error_names_the_group_the_name_and_the_setting() -> None:
    error = DuplicateInstanceId("eventfleet.orders.append", "orders-append-0")
    assert isinstance(error, Misconfigured)
    for part in ("eventfleet.orders.append", "'orders-append-0'", "EVENTFLEET_KAFKA_INSTANCE_ID"):
        assert part in str(error)
    assert "\n" not in str(error)
