"""Roles notify those who wait for events; the background notifier publishes the notices."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from eventfleet.model.domain import Domain
from eventfleet.roles.append import AppendRole
from eventfleet.roles.notices import notices_of, reply_to
from eventfleet.roles.relay import RelayRole
from eventfleet.roles.role import Role
from eventfleet.roles.snapshot import SnapshotRole
from eventfleet.stores.contracts import Notice, Stage
from eventfleet.stores.errors import Fenced, ServerUnavailable
from eventfleet.stores.memory.notices import MemoryNotices
from eventfleet.stores.parked_aggregates import NoParkedAggregates
from eventfleet.topics.event import EventRecord
from eventfleet.topics.record import LogRecord
from eventfleet.workers import stage_notifier
from eventfleet.workers.stage_notifier import BackgroundNotifier
from tests.simulation.in_memory_servers import Twins, take
from tests.simulation.recording_domain import Tally, marker_tally, tally
from tests.unit.eventually import until

HERE = "notices:here"


class RecordingNotifier:
    """A notifier that records its calls, and what `watch` returns at each."""

    def __init__(self, watch: Callable[[], Any] = lambda: None) -> None:
        self.events: list[tuple[Stage, list[str]]] = []
        self.seen: list[Any] = []
        self._watch = watch

    def notify(self, stage: Stage, events: Sequence[EventRecord]) -> None:
        self.events.append((stage, [event.id for event in events]))
        self.seen.append(self._watch())


@pytest.fixture
def twins() -> Twins:
    return Twins(tally)


def awaited(twins: Twins, n: str, **named: Any) -> EventRecord:
    return twins.event(n, reply_to=reply_to(HERE, n), **named)


async def sent(twins: Twins, *events: EventRecord) -> list[LogRecord]:
    await twins.emit(twins.topics.events, *events)
    return twins.records(twins.topics.events)[-len(events) :]


async def an_append(
    twins: Twins, notifier: RecordingNotifier, domain: Domain[Tally] = tally
) -> AppendRole:
    role = AppendRole(
        *(domain, 0, twins.events, twins.writer("append"), NoParkedAggregates(), twins.clock),
        cached=100,
        notifier=notifier,
    )
    await role.open()
    return role


def behind_append(name: str, twins: Twins, notifier: RecordingNotifier) -> Role:
    writer = twins.writer(name)
    if name == "relay":
        return RelayRole(twins.domain, 0, writer, NoParkedAggregates(), notifier=notifier)
    return SnapshotRole(
        *(twins.domain, 0, twins.stores, writer, NoParkedAggregates(), twins.clock),
        cached=100,
        limit=10_000,
        notifier=notifier,
    )


# Roles


async def test_append_tells_of_what_is_stored_and_its_offset_moved(twins: Twins) -> None:
    notifier = RecordingNotifier(lambda: twins.offset("append"))
    append = await an_append(twins, notifier)
    events = [awaited(twins, "1"), twins.event("2"), awaited(twins, "3")]
    await take(append, await sent(twins, *events))
    assert notifier.events == [(Stage.APPENDED, ["1", "3"])]
    assert notifier.seen == [3]


async def test_append_tells_who_waits_for_a_repeat(twins: Twins) -> None:
    notifier = RecordingNotifier()
    append = await an_append(twins, notifier)
    await take(append, await sent(twins, twins.event("1")))
    again = [awaited(twins, "1"), awaited(twins, "2"), awaited(twins, "2")]
    await take(append, await sent(twins, *again))
    assert notifier.events == [(Stage.APPENDED, ["1", "2", "2"])]


async def test_append_does_not_tell_of_what_is_not_stored(twins: Twins) -> None:
    notifier = RecordingNotifier()
    append = await an_append(twins, notifier, marker_tally)
    first = awaited(twins, "1", prev="")
    superseded, unread = awaited(twins, "2", prev="9"), awaited(twins, "3")
    await take(append, await sent(twins, first, superseded, unread))
    assert notifier.events == [(Stage.APPENDED, ["1"])]


async def test_a_chunk_is_done_though_who_waits_cant_be_told(twins: Twins) -> None:
    notifier = RecordingNotifier()
    append = await an_append(twins, notifier)
    find, calls = twins.events.find, 0

    async def once(event_ids: Any) -> dict[str, EventRecord]:
        """Find for the plan, and fail for those who wait."""
        nonlocal calls
        calls += 1
        if calls > 1:
            raise ServerUnavailable("away")
        return await find(event_ids)

    await take(append, await sent(twins, twins.event("1", prev="")))
    twins.events.find = once  # type: ignore[method-assign]
    again = [awaited(twins, "1", prev=""), awaited(twins, "2", prev="1")]
    await take(append, await sent(twins, *again))
    assert calls == 2
    assert notifier.events == [(Stage.APPENDED, ["2"])]
    assert twins.offset("append") == 3


@pytest.mark.parametrize(
    ("name", "stage"), [("snapshot", Stage.SNAPSHOTTED), ("relay", Stage.RELAYED)]
)
async def test_the_roles_behind_tell_once_their_offset_has_moved(
    twins: Twins, name: str, stage: Stage
) -> None:
    notifier = RecordingNotifier(lambda: twins.offset(name))
    role = behind_append(name, twins, notifier)
    await role.open()
    for n in ("1", "2", "3"):
        await twins.append(n, reply_to=None if n == "2" else reply_to(HERE, n))
    await twins.put(twins.topics.stored, ("a", b"no event"))
    await take(role, twins.records(twins.topics.stored))
    assert notifier.events == [(stage, ["1", "3"])]
    assert notifier.seen == [4]


@pytest.mark.parametrize("name", ["snapshot", "relay"])
async def test_nobody_is_told_of_a_chunk_whose_commit_failed(twins: Twins, name: str) -> None:
    notifier = RecordingNotifier()
    role = behind_append(name, twins, notifier)
    await role.open()
    await twins.append("1", reply_to=reply_to(HERE, "1"))
    await twins.writer(name).open()
    with pytest.raises(Fenced):
        await take(role, twins.records(twins.topics.stored))
    assert notifier.events == []


def test_the_answers_address_of_others_is_none_of_ours(twins: Twins) -> None:
    events = [
        twins.event("1", reply_to="orders.replies"),
        twins.event("2", reply_to="elsewhere/2"),
        twins.event("3"),
        twins.event("4", reply_to=reply_to(HERE, "first")),
        twins.event("5", reply_to=reply_to("notices:there", "5")),
    ]
    assert notices_of(Stage.RELAYED, events) == {
        HERE: [Notice("first", Stage.RELAYED)],
        "notices:there": [Notice("5", Stage.RELAYED)],
    }


# The background notifier


class SlowNotices(MemoryNotices):
    """Holds publishing up until released; counts what was published at once."""

    def __init__(self) -> None:
        super().__init__()
        self.release = asyncio.Event()
        self.batches: list[int] = []

    async def publish(self, told: Mapping[str, Sequence[Notice]]) -> None:
        self.batches.append(sum(map(len, told.values())))
        await self.release.wait()
        await super().publish(told)


class Counts:
    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.told = Counter("told", "told", registry=registry)
        self.lost = Counter("lost", "lost", registry=registry)

    def value(self, name: str) -> float:
        [sample, *_] = next(iter(getattr(self, name).collect())).samples
        return float(sample.value)


async def test_what_roles_tell_reaches_who_listens(twins: Twins) -> None:
    notices, counts = MemoryNotices(), Counts()
    async with (
        BackgroundNotifier(notices, counts.told, counts.lost).running() as notifier,
        notices.subscribe(HERE) as stream,
    ):
        notifier.notify(
            Stage.APPENDED, [awaited(twins, "1"), twins.event("2"), awaited(twins, "3")]
        )
        async with asyncio.timeout(20):
            found = [await anext(stream) for _ in range(2)]
    assert found == [Notice("1", Stage.APPENDED), Notice("3", Stage.APPENDED)]
    assert (counts.value("told"), counts.value("lost")) == (2, 0)


async def test_what_is_told_meanwhile_goes_out_together(twins: Twins) -> None:
    slow, counts = SlowNotices(), Counts()
    async with BackgroundNotifier(slow, counts.told, counts.lost).running() as notifier:
        for n in range(10):
            notifier.notify(Stage.APPENDED, [awaited(twins, str(n))])
            await asyncio.sleep(0)
        slow.release.set()
        await until(lambda: counts.value("told") == 10)
    assert slow.batches == [1, 9]


async def test_what_waits_to_be_told_is_bounded(
    twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_notifier, "MAX_PENDING_NOTICES", 5)
    slow, counts = SlowNotices(), Counts()
    async with BackgroundNotifier(slow, counts.told, counts.lost).running() as notifier:
        notifier.notify(Stage.APPENDED, [awaited(twins, "0")])
        await until(lambda: slow.batches)
        notifier.notify(Stage.APPENDED, [awaited(twins, str(n)) for n in range(1, 10)])
        assert counts.value("lost") == 4
        slow.release.set()
        await until(lambda: counts.value("told") == 6)


async def test_notices_that_cant_be_told_are_counted_and_the_next_go_out(
    twins: Twins, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stage_notifier, "RETRY_PAUSE_SECONDS", 0.001)
    notices, counts = MemoryNotices(), Counts()
    notices.stop()
    async with BackgroundNotifier(notices, counts.told, counts.lost).running() as notifier:
        for n in (1, 2):
            notifier.notify(Stage.APPENDED, [awaited(twins, str(n))])
            await until(lambda n=n: counts.value("lost") == n)
        notices.start()
        notifier.notify(Stage.APPENDED, [awaited(twins, "3")])
        await until(lambda: counts.value("told") == 1)
    assert len([r for r in caplog.records if "not published" in r.message]) == 1


async def test_a_server_that_hangs_does_not_hold_up_the_end(
    twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_notifier, "CLOSE_TIMEOUT_SECONDS", 0.01)
    slow, counts = SlowNotices(), Counts()
    async with (
        asyncio.timeout(20),
        BackgroundNotifier(slow, counts.told, counts.lost).running() as notifier,
    ):
        notifier.notify(Stage.APPENDED, [awaited(twins, "1")])
        await until(lambda: slow.batches)


async def test_without_anybody_who_waits_nothing_is_published(twins: Twins) -> None:
    slow, counts = SlowNotices(), Counts()
    async with BackgroundNotifier(slow, counts.told, counts.lost).running() as notifier:
        notifier.notify(Stage.APPENDED, [twins.event("1")])
        await asyncio.sleep(0)
    assert slow.batches == []
