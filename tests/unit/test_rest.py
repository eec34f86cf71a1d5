"""A client at rest asks less often."""

from types import SimpleNamespace

import pytest
from aiokafka.consumer.fetcher import Fetcher

from eventfleet.workers.transport import rest
from eventfleet.workers.transport.rest import beat_patiently, fetch_patiently


def test_a_fetcher_asks_how_long_each_request_may_wait() -> None:
    fetcher, waits = object.__new__(Fetcher), [2_000, 100]
    fetcher._fetch_max_wait_ms = 500
    fetch_patiently(SimpleNamespace(_fetcher=fetcher), lambda: waits.pop(0), 2_000)
    assert [fetcher._fetch_max_wait_ms, fetcher._fetch_max_wait_ms] == [2_000, 100]


class Group:
    """A coordinator's heartbeats, due at given times, and whether the broker takes them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.sent, self.taken, self.at_rest = 0.0, [], True, True  # type: ignore[var-annotated]
        self.coordinator = SimpleNamespace(_do_heartbeat=self._send)
        monkeypatch.setattr(rest.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(rest.asyncio, "sleep", self._sleep)
        beat_patiently(SimpleNamespace(_coordinator=self.coordinator), lambda: self.at_rest, 2.0)

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds

    async def _send(self) -> bool:
        self.sent.append(self.now)
        return self.taken

    async def beat(self, *times: float) -> list[float]:
        """The times at which a heartbeat was sent."""
        self.sent.clear()
        for time in times:
            self.now = max(self.now, time)
            assert await self.coordinator._do_heartbeat() in (True, self.taken)
        return list(self.sent)


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Group:
    return Group(monkeypatch)


async def test_at_rest_two_seconds_lie_between_heartbeats(group: Group) -> None:
    assert await group.beat(0.5, 1.0, 3.0) == [0.5, 2.5, 4.5]


async def test_at_work_all_heartbeats_are_sent(group: Group) -> None:
    group.at_rest = False
    assert await group.beat(0.5, 1.0, 1.5) == [0.5, 1.0, 1.5]


async def test_one_that_was_not_taken_is_sent_again_at_once(group: Group) -> None:
    group.taken = False
    assert await group.beat(0.5, 0.6, 0.7) == [0.5, 0.6, 0.7]
