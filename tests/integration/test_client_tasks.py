"""Background tasks of the client that an error ends: the work goes on all the same."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from eventfleet.runtime.settings import Settings
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.follower import Follower
from eventfleet.stores.kafka.reader import Reader
from eventfleet.topics.record import LogRecord
from eventfleet.workers.app import RoleApp
from tests.integration.copied_topic import (
    PARTITIONS,
    assert_copied_once,
    produce,
    running,
    settings,
    source,
    until,
)
from tests.integration.copy_role import Mood, copying

__all__ = ["settings", "source"]


def fail_once(owner: Any, name: str, error: Exception) -> asyncio.Event:
    """Let the next call of a coroutine function raise; the event tells that it has."""
    work, raised = getattr(owner, name), asyncio.Event()

    async def fail(*args: Any) -> Any:
        setattr(owner, name, work)
        raised.set()
        raise error

    setattr(owner, name, fail)
    return raised


def end_fetching(consumer: Any) -> asyncio.Event:
    raised = fail_once(consumer._fetcher, "_proc_fetch_request", KeyError("a field"))
    consumer._fetcher._notify(consumer._fetcher._wait_consume_future)
    return raised


def end_coordination(consumer: Any) -> asyncio.Event:
    coordinator = consumer._coordinator
    error = AssertionError("Did we not perform bootstrap?")
    raised = fail_once(coordinator._client, "coordinator_lookup", error)
    coordinator.coordinator_dead()
    return raised


def end_heartbeats(consumer: Any) -> asyncio.Event:
    return fail_once(consumer._coordinator, "_do_heartbeat", AttributeError("no connection"))


def end_metadata(consumer: Any) -> asyncio.Event:
    raised = fail_once(consumer._client, "_metadata_update", IndexError("no broker"))
    consumer._client.force_metadata_update()
    return raised


ENDS = [end_fetching, end_coordination, end_heartbeats, end_metadata]


@pytest.mark.parametrize("end", ENDS)
async def test_a_worker_goes_on_without_a_task_of_its_client(
    settings: Settings, source: str, end: Callable[[Any], asyncio.Event]
) -> None:
    kafka = settings.kafka_brokers
    await produce(kafka, source, 400)
    async with running(settings, source, copying(settings, source, Mood())) as app:
        await until(lambda: app.meter.total.emitted == 400)
        await in_the_thread(app, end)
        await produce(kafka, source, 400, start=400)
        await until(lambda: app.meter.total.emitted == 800)
        await until(lambda: not app.obstacles())
        assert not app.failed.is_set()
    await assert_copied_once(kafka, source)


async def in_the_thread(app: RoleApp, end: Callable[[Any], asyncio.Event]) -> None:
    """Run in the thread of the app's client, and wait until a call has failed there."""
    thread = app._consumer._thread

    async def run() -> None:
        await end(thread._consumer).wait()

    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(run(), thread.thread_loop))


async def test_a_follower_says_that_its_client_fetches_no_more(kafka: str, source: str) -> None:
    follower = Follower(Connection(kafka))
    async with follower.follow(source, PARTITIONS) as records:
        await produce(kafka, source, 4)
        assert [await anext(records) for _ in range(4)]
        await end_fetching(consumer_of(records)).wait()
        with pytest.raises(ServerUnavailable, match="Unexpected error during data retrieval"):
            await anext(records)


def consumer_of(records: AsyncIterator[LogRecord]) -> Any:
    frame: Any = records
    return frame.ag_frame.f_locals["consumer"]


async def test_a_broker_that_knows_of_no_broker_is_away(
    kafka: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that is fenced, or has just started: the next call finds it again."""
    reader = Reader(Connection(kafka))
    with monkeypatch.context() as patch:
        patch.setattr("aiokafka.cluster.ClusterMetadata.brokers", lambda self: set())
        with pytest.raises(ServerUnavailable, match="knows of no broker yet"):
            await reader.committed("a group", source)
    assert await reader.committed("a group", source) == {}
    await reader.close()
