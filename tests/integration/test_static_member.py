"""Workers that are static members of their group: restarted, and two under one name."""

from eventfleet.runtime.settings import Settings
from tests.integration.copied_topic import (
    assert_copied_once,
    committed,
    produce,
    settings,
    source,
    until,
)
from tests.integration.worker_processes import Start, WorkerProcess, start

__all__ = ["settings", "source", "start"]

RECORDS = 12_000
LONG_SESSION_SECONDS = "30"
"""Longer than a process takes to start on a busy machine."""


async def rebalances(worker: WorkerProcess) -> str:
    lines = (await worker.page("/metrics"))[1].splitlines()
    return next(each.split()[-1] for each in lines if each.startswith("eventfleet_rebalances_t"))


async def partitions(worker: WorkerProcess) -> set[str]:
    """The partitions that a worker owns."""
    lines = (await worker.page("/metrics"))[1].splitlines()
    lags = [line for line in lines if line.startswith("eventfleet_lag{")]
    return {line.partition('partition="')[2].partition('"')[0] for line in lags}


async def test_a_worker_restarted_within_its_session_keeps_its_partitions_without_a_rebalance(
    settings: Settings, source: str, start: Start
) -> None:
    await produce(settings.kafka_brokers, source, RECORDS)
    first = start(pause="0.5", session=LONG_SESSION_SECONDS, instance_id="worker-0")
    other = start(pause="0.05", session=LONG_SESSION_SECONDS, instance_id="worker-1")

    async def shared() -> bool:
        ready = await first.ready() and await other.ready()
        return ready and await first.assigned() == await other.assigned() == "2.0"

    await until(shared)
    kept, counted = await partitions(first), await rebalances(other)
    first.process.terminate()
    assert await first.ended() == (0, "")
    assert await committed(settings, source) < RECORDS
    again = start(pause="0.01", session=LONG_SESSION_SECONDS, instance_id="worker-0")
    await until(again.ready)
    assert await partitions(again) == kept

    async def done() -> bool:
        return await committed(settings, source) == RECORDS

    await until(done)
    assert (await rebalances(other), await rebalances(again)) == (counted, "1.0")
    await assert_copied_once(settings.kafka_brokers, source)


async def test_of_two_workers_with_one_name_the_first_ends_and_names_the_setting(
    settings: Settings, source: str, start: Start
) -> None:
    await produce(settings.kafka_brokers, source, RECORDS)
    first = start(pause="0.5", session=LONG_SESSION_SECONDS, instance_id="worker-0")

    async def moved() -> bool:
        return await committed(settings, source) > 0

    await until(moved)
    second = start(pause="0.01", session=LONG_SESSION_SECONDS, instance_id="worker-0")
    status, log = await first.ended()
    error = log.splitlines()[-1]
    assert status == 1
    assert error.startswith("eventfleet: copy of ")
    assert ": another process has joined the group " in error
    assert "EVENTFLEET_KAFKA_INSTANCE_ID=worker-0 must be set in one worker" in error

    async def done() -> bool:
        return await committed(settings, source) == RECORDS

    await until(done)
    assert second.process.poll() is None
    await assert_copied_once(settings.kafka_brokers, source)
