"""Owners at rest tick together, on whole seconds."""

from types import SimpleNamespace
from typing import Any

import pytest

from eventfleet.workers import owned_session
from eventfleet.workers.owned_session import OwnedSession
from eventfleet.workers.transport.chunk import Chunk


class AnySource:
    """Starts every session, and remembers its number."""

    session = 0

    async def start_session(self, partition: int, offset: int, session: int) -> bool:
        self.session = session
        return True


async def ticks(session: OwnedSession, source: Any) -> bool:
    """Whether a tick comes before a chunk that is there."""
    session.enqueue(Chunk(0, [], 0, 1, source.session))
    return await session.next_chunk() is None


@pytest.mark.parametrize(
    ("last", "pause", "early", "due"),
    [
        pytest.param(10.6, 2.0, 12.99, 13.0, id="rest, rounded up"),
        pytest.param(11.0, 2.0, 12.99, 13.0, id="rest"),
        pytest.param(11.4, 2.0, 12.99, 13.0, id="rest, rounded down"),
        pytest.param(10.4, 0.25, 10.64, 10.66, id="work"),
    ],
)
async def test_ticks_come_after_their_pause_and_at_rest_on_whole_seconds(
    monkeypatch: pytest.MonkeyPatch, last: float, pause: float, early: float, due: float
) -> None:
    clock = SimpleNamespace(now=last)
    monkeypatch.setattr(owned_session, "time", SimpleNamespace(monotonic=lambda: clock.now))
    source: Any = AnySource()
    session = OwnedSession(0, source, pause)
    await session.start(0)
    session.note_tick()
    clock.now = early
    assert not await ticks(session, source)
    clock.now = due
    assert await ticks(session, source)


async def test_a_session_that_starts_at_rest_begins_with_a_tick() -> None:
    source: Any = AnySource()
    session = OwnedSession(0, source, tick_pause=2.0)
    await session.start(0)
    assert await ticks(session, source)
