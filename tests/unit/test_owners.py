"""Owners: which chunks reach the role, and what its errors lead to."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from eventfleet.roles.parking import TooManyParked
from eventfleet.roles.role import ChunkReport, PartitionFault
from eventfleet.stores.errors import (
    Fenced,
    Misconfigured,
    ServerUnavailable,
    TopicRefused,
)
from eventfleet.topics.parked import ParkedAggregate
from eventfleet.topics.record import LogRecord
from eventfleet.workers.app import RoleApp
from eventfleet.workers.metrics import Metrics
from eventfleet.workers.owner import Owner, OwnerState
from eventfleet.workers.owner_outage import OwnerTimeouts
from eventfleet.workers.transport.chunk import PartitionBuffer
from tests.unit.eventually import until
from tests.unit.log_fields import fields_of
from tests.unit.owner_bench import Bench

BOUND = 10
FIELDS: dict[str, Any] = {"domain": "orders", "role": "append", "partition": 0}


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.owners.release()


async def test_chunks_reach_the_role_in_order_and_are_acked_and_finished(bench: Bench) -> None:
    await bench.opened()
    bench.give(0, 3)
    bench.give(3, 5)
    await until(lambda: bench.source.ends == [3, 5])
    assert bench.role.seen == [0, 1, 2, 3, 4]
    assert bench.source.acks == [3, 5]
    assert bench.meter.total == ChunkReport(stored=5)


async def test_records_below_the_next_offset_are_dropped(bench: Bench) -> None:
    bench.start = 2
    await bench.opened()
    assert bench.source.sought == [2]
    bench.give(0, 4, start=2)
    await until(lambda: bench.source.ends == [4])
    assert bench.role.seen == [2, 3]


async def test_a_chunk_of_another_session_is_never_processed(bench: Bench) -> None:
    bench.errors = [ServerUnavailable("out")]
    await bench.opened()
    bench.give(0, 2)
    await until(lambda: len(bench.source.sessions) == 2 and bench.owners.all_open([0]))
    bench.give(0, 2, session=0)
    bench.give(0, 3, session=1)
    await until(lambda: bench.source.ends)
    assert bench.role.seen == [0, 1, 2]
    assert bench.role.calls.count("open") == 2


async def test_a_lost_chunk_is_noticed_and_read_again(bench: Bench) -> None:
    await bench.opened()
    bench.give(0, 2)
    bench.give(4, 6)
    await until(lambda: bench.source.sought == [0, 2])
    bench.give(2, 6)
    await until(lambda: bench.source.ends == [2, 6])
    assert bench.role.seen == [0, 1, 2, 3, 4, 5]


async def test_offsets_may_have_gaps(bench: Bench) -> None:
    await bench.opened()
    bench.give(5, 7, start=0)
    await until(lambda: bench.source.ends == [7])
    assert bench.role.seen == [5, 6]


async def test_a_fenced_owner_closes_its_role_and_takes_no_more(bench: Bench) -> None:
    bench.errors = [Fenced("taken")]
    await bench.opened()
    bench.give(0, 2)
    await until(lambda: "close" in bench.role.calls)
    bench.give(0, 2)
    assert [owner.state for owner in bench.owners] == [OwnerState.FENCED]
    assert bench.source.left == [0]
    assert bench.failures == []
    assert bench.role.seen == []
    assert not bench.owners.all_open([0])


async def test_a_fenced_owner_takes_over_afresh_what_stays_assigned() -> None:
    bench = Bench(OwnerTimeouts(tick=0.01, fenced=0.02))
    bench.errors = [Fenced("taken by one that had not heard of its end")]
    await bench.opened()
    bench.give(0, 2)
    await bench.opened(2)
    first, second = bench.roles
    assert first.calls[-1] == "close"
    assert first.seen == []
    assert second.calls[0] == "open"
    bench.give(0, 2, session=0)
    bench.give(0, 3)
    await until(lambda: bench.source.ends == [3])
    assert second.seen == [0, 1, 2]
    assert bench.failures == []
    await bench.owners.release()


async def test_a_fenced_owner_that_is_closed_does_not_come_back() -> None:
    bench = Bench(OwnerTimeouts(fenced=0.01))
    bench.errors = [Fenced("taken")]
    await bench.opened()
    (owner,) = bench.owners
    bench.give(0, 2)
    await until(lambda: owner.state is OwnerState.FENCED)
    await bench.owners.release()
    opened = len(bench.source.sessions)
    await asyncio.sleep(0.05)
    assert len(bench.source.sessions) == opened
    assert bench.role.calls[-1] == "close"


async def test_a_server_that_is_away_is_waited_for_without_end() -> None:
    bench = Bench(OwnerTimeouts(tick=0.01, longest_pause=0.001))
    bench.errors = [ServerUnavailable(f"out {turn}") for turn in range(200)]
    bench.owners.assign(bench.source, [0])
    (owner,) = bench.owners
    bench.source.waiting = 2
    given, waited_for = 0, set()
    while not bench.role.seen:
        if len(bench.source.sessions) > given and bench.owners.all_open([0]):
            given = len(bench.source.sessions)
            bench.give(0, 2)
        await asyncio.sleep(0)
        owner.progress.made_at = time.monotonic() - 2 * BOUND
        if owner.waits_for:
            waited_for.add(owner.waits_for)
            assert not owner.is_stalled(BOUND)
    await until(lambda: not owner.waits_for)
    assert {"out 0", "out 199"} <= waited_for
    assert bench.failures == []
    assert bench.role.seen == [0, 1]
    await bench.owners.release()


async def waiting_in_a_call(bench: Bench) -> Owner:
    """An owner that waits for a server, and whose next call to it has not come back."""
    bench.errors = [ServerUnavailable("out")]
    await bench.opened()
    bench.give(0, 2)
    (owner,) = bench.owners
    await until(lambda: owner.waits_for and bench.owners.all_open([0]))
    bench.role.hold = asyncio.Event()
    bench.give(0, 2)
    await until(lambda: bench.role.inside)
    return owner


async def test_an_owner_that_waits_for_a_server_is_closed_at_once() -> None:
    """Its call may take as long as the server's timeout; the next owner does the chunk again."""
    bench = Bench(OwnerTimeouts(in_hand=60, tick=0.01, longest_pause=0.001))
    await waiting_in_a_call(bench)
    async with asyncio.timeout(5):
        await bench.owners.release()
    assert bench.role.calls[-1] == "close"


@pytest.mark.parametrize("error", [Misconfigured("epoch"), ZeroDivisionError("bug")])
async def test_any_other_error_fails_at_once(bench: Bench, error: Exception) -> None:
    bench.errors = [error]
    await bench.opened()
    bench.give(0, 2)
    await until(lambda: bench.failures)
    assert bench.failures == [(0, error)]
    assert bench.source.ends == []
    assert bench.role.calls.count("open") == 1


async def test_a_fault_of_the_partition_stops_its_role_and_no_other(bench: Bench) -> None:
    fault = PartitionFault("no fold")
    bench.errors = [fault]
    bench.owners.assign(bench.source, [0])
    await until(lambda: bench.owners.all_open([0]))
    bench.owners.assign(bench.source, [1])
    await until(lambda: bench.owners.all_open([0, 1]))
    first, second = bench.owners
    bench.source.waiting = 2
    bench.give(0, 2, session=0)
    await until(lambda: first.state is OwnerState.STOPPED)
    assert bench.roles[0].calls[-1] == "close"
    assert [(partition, str(error)) for partition, error in bench.failures] == [(0, str(fault))]
    assert str(first.fault) == str(fault)
    assert not first.is_stalled(0)
    assert not bench.owners.all_open([0])
    bench.give(0, 2, session=0)
    bench.give(0, 3, session=1, partition=1)
    await until(lambda: bench.source.ends == [3])
    assert bench.roles[0].seen == []
    assert second.state is OwnerState.OPEN
    await bench.owners.release()
    assert bench.roles[0].calls.count("open") == 1


async def test_a_topic_that_is_refused_for_a_moment_is_tried_again(bench: Bench) -> None:
    """A broker that has just started does not know its topics."""
    bench.errors = [TopicRefused("unknown topic")] * 3
    await bench.opened()
    for tried in range(1, 5):
        bench.give(0, 2)
        await until(lambda n=tried: len(bench.source.sessions) == n + (n < 4))
        await until(lambda: bench.owners.all_open([0]))
    await until(lambda: bench.source.ends == [2])
    assert bench.failures == []


async def test_two_refusals_with_a_good_time_between_them_are_two() -> None:
    bench = Bench(OwnerTimeouts(refused=0.2, tick=0.01, longest_pause=0.001))
    await bench.opened()
    for start in (0, 2):
        bench.errors += [TopicRefused("unknown topic")] * 2
        given = 0
        while bench.source.ends != [2, 4][: start // 2 + 1]:
            if len(bench.source.sessions) > given and bench.owners.all_open([0]):
                given = len(bench.source.sessions)
                bench.give(start, start + 2)
            await asyncio.sleep(0)
            assert bench.failures == []
        await asyncio.sleep(0.3)
    await bench.owners.release()


async def test_a_topic_that_is_refused_for_long_stops_the_partition() -> None:
    bench = Bench(OwnerTimeouts(refused=0.1, tick=0.01, longest_pause=0.01))
    bench.errors = [TopicRefused("no topic")] * 1000
    await bench.opened()
    (owner,) = bench.owners
    for _ in range(100):
        bench.give(0, 2)
        await asyncio.sleep(0.02)
        if owner.state is OwnerState.STOPPED:
            break
    assert [str(error) for _, error in bench.failures] == ["no topic"]


async def test_a_fault_while_a_failed_chunk_is_tried_again_stops_the_partition(
    bench: Bench,
) -> None:
    bench.errors = [ServerUnavailable("out"), PartitionFault("this event can't be folded")]
    await bench.opened()
    bench.give(0, 2)
    await until(lambda: len(bench.source.sessions) == 2 and bench.owners.all_open([0]))
    bench.give(0, 2)
    (owner,) = bench.owners
    await until(lambda: owner.state is OwnerState.STOPPED)
    assert [str(error) for _, error in bench.failures] == ["this event can't be folded"]


async def test_a_partition_that_was_opened_again_is_told_to_be_well(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.errors = [ServerUnavailable("out")]
    with caplog.at_level(logging.INFO):
        await bench.opened()
        bench.give(0, 2)
        await until(lambda: len(bench.source.sessions) == 2 and bench.owners.all_open([0]))
        bench.give(0, 2)
        await until(lambda: bench.source.ends == [2] and len(caplog.records) == 2)
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert [fields_of(record) for record in caplog.records] == [FIELDS, FIELDS]
    failed, well = [record.getMessage() for record in caplog.records]
    assert failed == "append of orders, partition 0 will be opened again: out"
    assert well.startswith("append of orders, partition 0 is well again after ")


async def test_a_partition_that_was_fenced_is_told_to_be_open_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench(OwnerTimeouts(tick=0.01, fenced=0.01), errors=[Fenced("taken")])
    await bench.opened()
    bench.give(0, 2)
    await until(lambda: len(bench.source.sessions) == 2 and bench.owners.all_open([0]))
    fenced, assigned, opened = caplog.records
    assert fenced.getMessage() == "append of orders, partition 0 is given up: taken"
    assert "taken over again" in assigned.getMessage()
    assert opened.getMessage().startswith("append of orders, partition 0 is open again after ")
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert [fields_of(record) for record in caplog.records] == [FIELDS] * 3
    await bench.owners.release()


async def test_a_partition_that_a_fault_stopped_is_told_to_be_open_again_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.errors = [PartitionFault("no fold")]
    await bench.opened()
    bench.give(0, 2)
    await until(lambda: bench.failures)
    assert caplog.records == [], "the app logs the fault"
    for opened in (2, 3):
        await bench.owners.release()
        bench.owners.assign(bench.source, [0])
        await until(lambda n=opened: len(bench.source.sessions) == n and bench.owners.all_open([0]))
    (record,) = caplog.records
    assert record.getMessage().startswith("append of orders, partition 0 is open again after ")
    assert record.levelno == logging.ERROR, "as the fault was"


def test_a_fault_is_logged_with_what_it_is_about(caplog: pytest.LogCaptureFixture) -> None:
    parked = ParkedAggregate(
        *("append", 0, "o-1", 3, 4, "e-1", "Placed", "ZeroDivisionError: by nought", "in lift"),
        attempts=1,
        parked_at=datetime(2024, 1, 1, tzinfo=UTC),
    )
    fault = TooManyParked("append", "orders", parked, 7)
    app: Any = SimpleNamespace(title="append of orders", meter=Metrics().of("orders", "append"))
    RoleApp._log_fault(app, 0, fault)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage().endswith(
        "'o-1' version 3 would be another: ZeroDivisionError: by nought\nin lift"
    )
    assert fields_of(record) == FIELDS | {
        "aggregate_id": "o-1",
        "event_id": "e-1",
        "event_type": "Placed",
        "version": 3,
        "exception": "in lift",
    }


async def test_release_lets_the_chunk_in_hand_be_finished(bench: Bench) -> None:
    await bench.opened()
    bench.role.hold = asyncio.Event()
    bench.give(0, 2)
    bench.give(2, 4)
    await until(lambda: bench.role.inside)
    releasing = asyncio.create_task(bench.owners.release())
    await asyncio.sleep(0)
    bench.role.hold.set()
    await releasing
    assert bench.role.seen == [0, 1]
    assert bench.source.acks == [2]
    assert bench.role.calls[-1] == "close"
    assert list(bench.owners) == []


async def test_release_does_not_wait_for_ever() -> None:
    bench = Bench(OwnerTimeouts(in_hand=0.05))
    await bench.opened()
    bench.role.hold = asyncio.Event()
    bench.give(0, 2)
    await until(lambda: bench.role.inside)
    await bench.owners.release()
    assert bench.role.seen == []
    assert bench.role.calls[-1] == "close"


async def test_a_partition_that_is_not_ours_any_more_is_left_alone(bench: Bench) -> None:
    bench.source.ours = False
    bench.owners.assign(bench.source, [0])
    await until(lambda: bench.roles and "close" in bench.role.calls)
    assert bench.failures == []
    assert bench.role.calls == ["open", "close"]


async def test_ticks_come_between_chunks_and_without_them(bench: Bench) -> None:
    await bench.opened()
    await until(lambda: bench.role.calls.count("tick") > 2)
    bench.give(0, 2)
    await until(lambda: bench.source.ends == [2])
    ticks = bench.role.calls.count("tick")
    await until(lambda: bench.role.calls.count("tick") > ticks)


async def test_at_rest_no_tick_comes_until_a_chunk_has_come() -> None:
    bench = Bench(OwnerTimeouts(tick=0.01, rest_tick=60), at_rest=True)
    await bench.opened()
    await until(lambda: bench.role.calls.count("tick") == 1)
    await asyncio.sleep(0.05)
    assert bench.role.calls.count("tick") == 1
    bench.give(0, 2)
    await until(lambda: bench.role.calls.count("tick") == 2)
    await bench.owners.release()


async def test_assigning_again_keeps_the_owner(bench: Bench) -> None:
    await bench.opened()
    bench.owners.assign(bench.source, [0])
    assert len(bench.roles) == 1


async def test_stalled_means_records_wait_and_nothing_was_finished(bench: Bench) -> None:
    await bench.opened()
    bench.role.hold = asyncio.Event()
    bench.give(0, 2)
    await until(lambda: bench.role.inside)
    (owner,) = bench.owners
    await until(lambda: owner.progress.age() > 0.02)
    assert not owner.is_stalled(0.02)
    bench.source.waiting = 2
    assert owner.is_stalled(0.02)
    assert not owner.is_stalled(60)
    bench.role.hold.set()


async def test_an_owner_whose_call_to_a_server_never_ends_is_stalled() -> None:
    bench = Bench(OwnerTimeouts(tick=0.01, longest_pause=0.001))
    owner = await waiting_in_a_call(bench)
    bench.source.waiting = 2
    await until(lambda: owner.is_stalled(0.05))
    assert owner.waits_for == "out"
    bench.role.hold.set()
    await bench.owners.release()


async def test_waiting_without_records_is_no_stall(bench: Bench) -> None:
    await bench.opened()
    (owner,) = bench.owners
    began = owner.progress.made_at
    await until(lambda: owner.progress.made_at > began)
    bench.source.waiting = 1
    last = owner.progress.made_at
    await until(lambda: owner.progress.age() > 0.05)
    assert owner.progress.made_at == last


def buffer_of(*lengths: int) -> PartitionBuffer:
    made = PartitionBuffer(0, 10, 1)
    for length in lengths:
        records = [LogRecord("t", 0, made.fetched + n, None, b"x") for n in range(length)]
        made.add(records, made.fetched + length, 1_000)
    return made


def lag_seconds(bench: Bench) -> float:
    (owner,) = bench.owners
    return owner.progress.lag_seconds()


def milliseconds_ago(seconds: float) -> int:
    return int((time.time() - seconds) * 1000)


async def test_the_lag_in_seconds_is_the_age_of_the_oldest_record_at_hand(bench: Bench) -> None:
    await bench.opened()
    assert lag_seconds(bench) == 0
    bench.source.oldest = milliseconds_ago(100)
    assert 100 <= lag_seconds(bench) < 200
    bench.source.oldest = milliseconds_ago(-100)
    assert lag_seconds(bench) == 0


async def test_where_no_record_is_at_hand_the_lag_is_the_time_without_progress(
    bench: Bench,
) -> None:
    await bench.opened()
    (owner,) = bench.owners
    bench.source.waiting = 5
    await asyncio.sleep(0.03)  # a tick in between counts as progress only where nothing waits
    owner.progress.made_at = time.monotonic() - 100
    assert 100 <= lag_seconds(bench) < 200
    bench.source.waiting = 0
    assert lag_seconds(bench) == 0


async def test_the_lag_goes_on_while_a_chunk_fails_and_where_it_has_stopped_the_role(
    bench: Bench,
) -> None:
    bench.errors = [ServerUnavailable("out"), PartitionFault("bad")]
    bench.timestamp = milliseconds_ago(100)
    await bench.opened()
    bench.give(0, 2)
    await until(lambda: len(bench.source.sessions) == 2 and bench.owners.all_open([0]))
    assert 100 <= lag_seconds(bench) < 200
    bench.give(0, 2)
    await until(lambda: bench.failures)
    assert 100 <= lag_seconds(bench) < 200


async def test_the_ages_of_a_chunk_s_records_are_counted_when_it_is_done(bench: Bench) -> None:
    bench.timestamp = milliseconds_ago(100)
    await bench.opened()
    bench.give(0, 3)
    await until(lambda: bench.source.ends)
    histograms = bench.metrics.histograms("orders", "append")
    assert histograms.event_age.count == histograms.chunk_records.sum == 3
    assert 300 <= histograms.event_age.sum < 600
    assert lag_seconds(bench) == 0


def test_a_buffer_knows_its_oldest_record_until_it_is_done() -> None:
    buffer = PartitionBuffer(0, 10, 1)
    assert buffer.oldest_timestamp is None
    for start, timestamp in ((10, 111), (12, 222)):
        records = [LogRecord("t", 0, start + n, None, b"", (), timestamp + n) for n in range(2)]
        buffer.add(records, start + 2, 100)
    assert buffer.oldest_timestamp == 111
    list(buffer.hand_out())
    assert buffer.oldest_timestamp == 111
    buffer.finish(12)
    assert buffer.oldest_timestamp == 222
    buffer.finish(14)
    assert buffer.oldest_timestamp is None


def test_a_buffer_hands_out_two_chunks_at_a_time() -> None:
    buffer = buffer_of(3, 4, 2)
    assert [(c.start, c.next_offset) for c in buffer.hand_out()] == [(10, 13), (13, 17)]
    assert not buffer.has_room
    buffer.finish(13)
    assert [(c.start, c.next_offset) for c in buffer.hand_out()] == [(17, 19)]
    buffer.finish(19)
    assert buffer.is_idle
    assert buffer.finished == 19


def test_a_buffer_cuts_by_bytes_and_keeps_single_records_whole() -> None:
    buffer = PartitionBuffer(0, 0, 1)
    values = [b"12", b"34", b"567890", b"1"]
    records = [LogRecord("t", 0, n, None, value) for n, value in enumerate(values)]
    buffer.add(records, 9, 4)
    chunks = []
    while not buffer.is_idle:
        for chunk in buffer.hand_out():
            chunks.append(chunk)
            buffer.finish(chunk.next_offset)
    assert [[r.value for r in c.records] for c in chunks] == [[b"12", b"34"], [b"567890"], [b"1"]]
    assert [(c.start, c.next_offset) for c in chunks] == [(0, 2), (2, 3), (3, 9)]


def test_only_the_oldest_chunk_under_way_can_be_acked() -> None:
    buffer = buffer_of(3, 4)
    assert buffer.committable(13) is None
    list(buffer.hand_out())
    assert buffer.committable(12) is None
    assert buffer.committable(13) == 13
    buffer.finish(13)
    assert buffer.committable(17) == 17
