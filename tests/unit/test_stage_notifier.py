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
from eventfleet.stores.memory.channels import MemoryNotices
from eventfleet.topics.event import EventRecord
from eventfleet.topics.record import LogRecord
from eventfleet.workers import stage_notifier
from eventfleet.workers.stage_notifier import BackgroundNotifier
from tests.simulation.in_memory_servers import InMemoryServers, take
from tests.simulation.recording_domain import Tally, marker_tally, tally
from tests.unit.eventually import until

HERE = "notices:here"


class RecordingNotifier:
    """A notifier that records its calls, and what `watch` returns at each."""

    def __init__(self, watch: Callable[[], Any] = lambda: None) -> None:
        self.events: list[tuple[Stage, list[str]]] = []
        self.dispositions: list[tuple[Stage, str | None, Any]] = []
        self.seen: list[Any] = []
        self._watch = watch

    def notify(self, stage: Stage, events: Sequence[EventRecord], disposition: Any = None) -> None:
        if disposition:
            self.dispositions += [(stage, event.reply_to, disposition) for event in events]
            return
        self.events.append((stage, [event.id for event in events]))
        self.seen.append(self._watch())


@pytest.fixture
def memory() -> InMemoryServers:
    return InMemoryServers(tally)


def awaited(memory: InMemoryServers, n: str, **named: Any) -> EventRecord:
    return memory.event(n, reply_to=reply_to(HERE, n), **named)


async def sent(memory: InMemoryServers, *events: EventRecord) -> list[LogRecord]:
    await memory.emit(memory.topics.events, *events)
    return memory.records(memory.topics.events)[-len(events) :]


async def an_append(
    memory: InMemoryServers, notifier: RecordingNotifier, domain: Domain[Tally] = tally
) -> AppendRole:
    role = AppendRole(
        *(domain, 0, memory.events, memory.writer("append"), memory.clock),
        memory.append_parking(),
        cached=100,
        notifier=notifier,
    )
    await role.open()
    return role


def behind_append(name: str, memory: InMemoryServers, notifier: RecordingNotifier) -> Role:
    writer = memory.writer(name)
    if name == "relay":
        return RelayRole(
            *(memory.domain, 0, memory.events, writer, memory.logged_parking("relay")),
            notifier=notifier,
        )
    return SnapshotRole(
        *(memory.domain, 0, memory.stores, writer, memory.parking("snapshot"), memory.clock),
        cached=100,
        limit=10_000,
        notifier=notifier,
    )


# Roles


async def test_append_tells_of_what_is_stored_and_its_offset_moved(memory: InMemoryServers) -> None:
    notifier = RecordingNotifier(lambda: memory.offset("append"))
    append = await an_append(memory, notifier)
    events = [awaited(memory, "1"), memory.event("2"), awaited(memory, "3")]
    await take(append, await sent(memory, *events))
    assert notifier.events == [(Stage.APPENDED, ["1", "3"])]
    assert notifier.seen == [3]


async def test_append_tells_who_waits_for_a_repeat(memory: InMemoryServers) -> None:
    notifier = RecordingNotifier()
    append = await an_append(memory, notifier)
    await take(append, await sent(memory, memory.event("1")))
    again = [awaited(memory, "1"), awaited(memory, "2"), awaited(memory, "2")]
    await take(append, await sent(memory, *again))
    assert notifier.events == [(Stage.APPENDED, ["1", "2", "2"])]


async def test_append_does_not_tell_of_what_is_not_stored(memory: InMemoryServers) -> None:
    notifier = RecordingNotifier()
    append = await an_append(memory, notifier, marker_tally)
    first = awaited(memory, "1", prev="")
    superseded, unread = awaited(memory, "2", prev="9"), awaited(memory, "3")
    await take(append, await sent(memory, first, superseded, unread))
    assert notifier.events == [(Stage.APPENDED, ["1"])]


async def test_a_chunk_is_done_though_who_waits_cant_be_told(memory: InMemoryServers) -> None:
    notifier = RecordingNotifier()
    append = await an_append(memory, notifier)
    find, calls = memory.events.find, 0

    async def once(event_ids: Any) -> dict[str, EventRecord]:
        """Find for the plan, and fail for those who wait."""
        nonlocal calls
        calls += 1
        if calls > 1:
            raise ServerUnavailable("away")
        return await find(event_ids)

    await take(append, await sent(memory, memory.event("1", prev="")))
    memory.events.find = once  # type: ignore[method-assign]
    again = [awaited(memory, "1", prev=""), awaited(memory, "2", prev="1")]
    await take(append, await sent(memory, *again))
    assert calls == 2
    assert notifier.events == [(Stage.APPENDED, ["2"])]
    assert memory.offset("append") == 3


@pytest.mark.parametrize(
    ("name", "stage"), [("snapshot", Stage.SNAPSHOTTED), ("relay", Stage.RELAYED)]
)
async def test_the_roles_behind_tell_once_their_offset_has_moved(
    memory: InMemoryServers, name: str, stage: Stage
) -> None:
    notifier = RecordingNotifier(lambda: memory.offset(name))
    role = behind_append(name, memory, notifier)
    await role.open()
    for n in ("1", "2", "3"):
        await memory.append(n, reply_to=None if n == "2" else reply_to(HERE, n))
    await memory.put(memory.topics.stored, ("a", b"no event"))
    await take(role, memory.records(memory.topics.stored))
    assert notifier.events == [(stage, ["1", "3"])]
    assert notifier.seen == [4]


@pytest.mark.parametrize("name", ["snapshot", "relay"])
async def test_nobody_is_told_of_a_chunk_whose_commit_failed(
    memory: InMemoryServers, name: str
) -> None:
    notifier = RecordingNotifier()
    role = behind_append(name, memory, notifier)
    await role.open()
    await memory.append("1", reply_to=reply_to(HERE, "1"))
    await memory.writer(name).open()
    with pytest.raises(Fenced):
        await take(role, memory.records(memory.topics.stored))
    assert notifier.events == []


def test_the_answers_address_of_others_is_none_of_ours(memory: InMemoryServers) -> None:
    events = [
        memory.event("1", reply_to="orders.replies"),
        memory.event("2", reply_to="elsewhere/2"),
        memory.event("3"),
        memory.event("4", reply_to=reply_to(HERE, "first")),
        memory.event("5", reply_to=reply_to("notices:there", "5")),
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


async def test_what_roles_tell_reaches_who_listens(memory: InMemoryServers) -> None:
    notices, counts = MemoryNotices(), Counts()
    async with (
        BackgroundNotifier(notices, counts.told, counts.lost).running() as notifier,
        notices.subscribe(HERE) as stream,
    ):
        notifier.notify(
            Stage.APPENDED, [awaited(memory, "1"), memory.event("2"), awaited(memory, "3")]
        )
        async with asyncio.timeout(20):
            found = [await anext(stream) for _ in range(2)]
    assert found == [Notice("1", Stage.APPENDED), Notice("3", Stage.APPENDED)]
    assert (counts.value("told"), counts.value("lost")) == (2, 0)


async def test_what_is_told_meanwhile_goes_out_together(memory: InMemoryServers) -> None:
    slow, counts = SlowNotices(), Counts()
    async with BackgroundNotifier(slow, counts.told, counts.lost).running() as notifier:
        for n in range(10):
            notifier.notify(Stage.APPENDED, [awaited(memory, str(n))])
            await asyncio.sleep(0)
        slow.release.set()
        await until(lambda: counts.value("told") == 10)
    assert slow.batches == [1, 9]


async def test_what_waits_to_be_told_is_bounded(
    memory: InMemoryServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_notifier, "MAX_PENDING_NOTICES", 5)
    slow, counts = SlowNotices(), Counts()
    async with BackgroundNotifier(slow, counts.told, counts.lost).running() as notifier:
        notifier.notify(Stage.APPENDED, [awaited(memory, "0")])
        await until(lambda: slow.batches)
        notifier.notify(Stage.APPENDED, [awaited(memory, str(n)) for n in range(1, 10)])
        assert counts.value("lost") == 4
        slow.release.set()
        await until(lambda: counts.value("told") == 6)


async def test_notices_that_cant_be_told_are_counted_and_the_next_go_out(
    memory: InMemoryServers, caplog: pytest.LogCaptureFixture
) -> None:
    notices, counts = MemoryNotices(), Counts()
    notices.stop()
    async with BackgroundNotifier(notices, counts.told, counts.lost).running() as notifier:
        for n in (1, 2):
            notifier.notify(Stage.APPENDED, [awaited(memory, str(n))])
            await until(lambda n=n: counts.value("lost") == n)
        notices.start()
        notifier.notify(Stage.APPENDED, [awaited(memory, "3")])
        await until(lambda: counts.value("told") == 1)
    warnings = [r.message for r in caplog.records if r.levelname == "WARNING"]
    fault, recovery = [text for text in warnings if "publishing stage notices" in text]
    assert fault.endswith("; it is tried again")
    assert recovery.endswith(" is well again")


async def test_a_publish_that_fails_unexpectedly_is_counted_and_the_next_goes_out(
    memory: InMemoryServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    notices, counts = MemoryNotices(), Counts()
    publish = notices.publish
    errors: list[Exception] = [LookupError("a bug")]

    async def fail_once(told: Mapping[str, Sequence[Notice]]) -> None:
        if errors:
            raise errors.pop()
        await publish(told)

    monkeypatch.setattr(notices, "publish", fail_once)
    async with BackgroundNotifier(notices, counts.told, counts.lost).running() as notifier:
        notifier.notify(Stage.APPENDED, [awaited(memory, "1")])
        await until(lambda: counts.value("lost") == 1)
        notifier.notify(Stage.APPENDED, [awaited(memory, "2")])
        await until(lambda: counts.value("told") == 1)


async def test_a_server_that_hangs_does_not_hold_up_the_end(
    memory: InMemoryServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_notifier, "CLOSE_TIMEOUT_SECONDS", 0.01)
    slow, counts = SlowNotices(), Counts()
    async with (
        asyncio.timeout(20),
        BackgroundNotifier(slow, counts.told, counts.lost).running() as notifier,
    ):
        notifier.notify(Stage.APPENDED, [awaited(memory, "1")])
        await until(lambda: slow.batches)


async def test_without_anybody_who_waits_nothing_is_published(memory: InMemoryServers) -> None:
    slow, counts = SlowNotices(), Counts()
    async with BackgroundNotifier(slow, counts.told, counts.lost).running() as notifier:
        notifier.notify(Stage.APPENDED, [memory.event("1")])
        await asyncio.sleep(0)
    assert slow.batches == []
