"""Worker processes: killed, stopped, joined by others, and told that something is wrong."""

import asyncio
import gc
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eventfleet.roles.role import Role
from eventfleet.runtime.settings import Settings
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.transactional_writer import TRANSACTION_TIMEOUT_SECONDS
from eventfleet.workers.app_runner import role_app, run_apps
from eventfleet.workers.health_server import HealthServer, HealthServerNotStarted
from eventfleet.workers.metrics import Metrics
from eventfleet.workers.owner import Ack
from eventfleet.workers.transport.consumer_thread import DaemonThread
from eventfleet.workers.worker_log import KafkaLog
from tests.integration.copied_topic import (
    assert_copied_once,
    committed,
    produce,
    read,
    settings,
    source,
    until,
)
from tests.integration.copy_role import CopyAgent
from tests.integration.worker_processes import BOUND, Start, WorkerProcess
from tests.integration.worker_processes import start as start

__all__ = ["settings", "source"]


async def test_a_killed_worker_is_followed_without_loss_or_repeat(
    settings: Settings, source: str, start: Start
) -> None:
    await produce(settings.kafka_brokers, source, 12_000)

    async def moved() -> bool:
        return await committed(settings, source) > done

    for _ in range(2):
        done = await committed(settings, source)
        worker = start(pause="0.02")
        await until(moved)
        worker.process.kill()
        assert (await worker.ended())[0] == -signal.SIGKILL
    assert await committed(settings, source) < 12_000
    done = 11_999
    start()
    await until(moved)
    await assert_copied_once(settings.kafka_brokers, source)


async def test_workers_that_join_and_leave_share_the_work(
    settings: Settings, source: str, start: Start
) -> None:
    await produce(settings.kafka_brokers, source, 12_000)
    first, second = start(pause="0.05"), start(pause="0.05")

    async def shared() -> bool:
        ready = await first.ready() and await second.ready()
        return ready and await first.assigned() == await second.assigned() == "2.0"

    async def done() -> bool:
        return await committed(settings, source) == 12_000

    await until(shared)
    assert not await done()
    second.process.terminate()
    assert await second.ended() == (0, "")
    assert not await done()
    await until(done)
    await assert_copied_once(settings.kafka_brokers, source)


async def test_a_stopped_worker_finishes_its_chunk_and_leaves_the_group(
    settings: Settings, source: str, start: Start
) -> None:
    await produce(settings.kafka_brokers, source, 12_000)
    worker = start(pause="0.3")

    async def moved() -> bool:
        return await committed(settings, source) > 0

    await until(moved)
    worker.process.terminate()
    assert await worker.ended() == (0, "")
    assert await committed(settings, source) < 12_000
    copied = await read(settings.kafka_brokers, f"{source}.copy")
    assert len(copied) == await committed(settings, source)
    follower = start()
    await until(follower.ready)


async def test_a_worker_that_wakes_up_after_it_was_given_up_doubles_nothing(
    settings: Settings, source: str, start: Start
) -> None:
    await produce(settings.kafka_brokers, source, 20_000)
    sleeper = start(pause="0.05")

    async def moved() -> bool:
        return await committed(settings, source) > before

    before = 0
    await until(moved)
    os.kill(sleeper.process.pid, signal.SIGSTOP)
    before = await committed(settings, source)
    other = start(pause="0.05")
    await until(moved)
    os.kill(sleeper.process.pid, signal.SIGCONT)

    async def shared() -> bool:
        ready = await sleeper.ready() and await other.ready()
        return ready and await sleeper.assigned() == await other.assigned() == "2.0"

    await until(shared)
    before = 19_999
    await until(moved)
    await assert_copied_once(settings.kafka_brokers, source)


async def test_a_worker_that_stood_still_for_longer_than_all_its_timeouts_goes_on(
    settings: Settings, source: str, start: Start
) -> None:
    """Nobody takes its place: its fetch (11 s), transaction and session have run out."""
    await produce(settings.kafka_brokers, source, 20_000)
    worker = start(pause="0.05")

    async def moved() -> bool:
        return await committed(settings, source) > before

    before = 0
    await until(moved)
    os.kill(worker.process.pid, signal.SIGSTOP)
    await asyncio.sleep(TRANSACTION_TIMEOUT_SECONDS + 2)
    os.kill(worker.process.pid, signal.SIGCONT)
    before = 19_999
    await until(moved)
    assert worker.process.poll() is None
    await assert_copied_once(settings.kafka_brokers, source)


async def test_a_fault_is_one_line_and_a_status(
    settings: Settings, source: str, start: Start
) -> None:
    await produce(settings.kafka_brokers, source, 40)
    status, said = await start(fatal_at="6").ended()
    assert status == 1
    assert said == f"eventfleet: copy of {source}, partition 2: this record can't be used\n"
    assert b"6" not in {r.value for r in await read(settings.kafka_brokers, f"{source}.copy")}


async def test_a_bug_is_a_traceback_that_names_the_partition(
    settings: Settings, source: str, start: Start
) -> None:
    await produce(settings.kafka_brokers, source, 40)
    status, said = await start(crash_at="6").ended()
    assert status == 1
    assert said.startswith("Traceback")
    assert said.endswith(f"ZeroDivisionError: a bug\ncopy of {source}, partition 2\n")
    assert said.count("Traceback") == 1


async def test_the_page_of_a_worker(settings: Settings, source: str, start: Start) -> None:
    await produce(settings.kafka_brokers, source, 400)
    worker = start()
    await until(worker.ready)

    async def done() -> bool:
        return await committed(settings, source) == 400

    await until(done)
    assert await worker.page("/live") == (200, "ok\n")
    _, text = await worker.page("/metrics")
    where = f'{{domain="{source}",role="copy"}}'
    assert f"eventfleet_emitted_total{where} 400.0\n" in text
    assert f"eventfleet_rebalances_total{where} 1.0\n" in text
    assert f"eventfleet_assigned_partitions{where} 4.0\n" in text
    for name in ("event_age_seconds_count", "chunk_records_sum"):
        assert f"eventfleet_{name}{where} 400.0\n" in text
    hour = f'{{domain="{source}",le="3600.0",role="copy"}}'
    assert f"eventfleet_event_age_seconds_bucket{hour} 400.0\n" in text
    for partition in range(4):
        each = f'{{domain="{source}",partition="{partition}",role="copy"}}'
        assert f"eventfleet_lag{each} 0.0\n" in text
        assert f"eventfleet_lag_seconds{each} 0.0\n" in text
        assert f"eventfleet_last_commit_age_seconds{each}" in text


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield held.getsockname()[1]


async def test_a_taken_port_is_named() -> None:
    with taken_port() as port, pytest.raises(HealthServerNotStarted, match=f"127.0.0.1:{port}"):
        async with HealthServer(Metrics(), []).served("127.0.0.1", port):
            pass


async def test_an_absent_broker_is_named_in_one_line(tmp_path: Path, start: Start) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    worker = WorkerProcess(Settings(kafka_brokers=address), "nowhere", tmp_path / "absent", {})
    status, said = await worker.ended()
    assert status == 1
    assert said.startswith(f"eventfleet: consuming from {address}: ")
    assert said.count("\n") == 1


def _never_made(partition: int, ack: Ack) -> Role:
    pytest.fail(f"partition {partition} of a broker that is not there")


async def test_a_thread_that_fails_before_its_start_ends_leaves_no_stray_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start_and_end(daemon: DaemonThread) -> None:
        threading.Thread.start(daemon)
        daemon.join(BOUND)

    stray: list[object] = []
    monkeypatch.setattr(DaemonThread, "start", start_and_end)
    asyncio.get_running_loop().set_exception_handler(lambda _, context: stray.append(context))
    settings = Settings(kafka_brokers="127.0.0.1:1")
    agent = CopyAgent(settings, "nowhere", _never_made)
    app = role_app(settings, KafkaLog(Connection(settings.kafka_brokers)), agent, Metrics())
    with pytest.raises(ServerUnavailable, match=r"consuming from 127\.0\.0\.1:1: "):
        await run_apps([app], asyncio.Event())
    del app
    gc.collect()
    await asyncio.sleep(0)
    assert stray == []
