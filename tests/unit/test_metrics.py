"""What a process shows of its work."""

import asyncio
import time
from platform import python_version

from eventfleet.deciders.marker_decider import MarkerStatistics
from eventfleet.deciders.outcomes import Accepted, Rejected
from eventfleet.roles.command import count_outcome
from eventfleet.roles.role import ChunkReport
from eventfleet.roles.view_statistics import BuildStatus
from eventfleet.service.decider_metrics import DeciderMetrics
from eventfleet.stores.background_task import BackgroundTask
from eventfleet.stores.contracts import MarkStatus
from eventfleet.topics.record import LogRecord
from eventfleet.workers.metrics import COUNTED, MAX_REASONS, Metrics
from tests.unit.sync_domain import SyncFixture

WHERE = 'domain="orders",role="append"'


def lines(metrics: Metrics) -> list[str]:
    return metrics.render().decode().splitlines()


def test_every_count_of_a_report_is_shown_by_domain_and_role() -> None:
    metrics = Metrics()
    report = ChunkReport(*range(1, len(COUNTED) + 1))
    metrics.of("orders", "append").add(report)
    metrics.of("orders", "append").add_chunk(0.2, report)
    for name in COUNTED:
        assert f"eventfleet_{name}_total{{{WHERE}}} {2.0 * getattr(report, name)}" in lines(metrics)
    assert f"eventfleet_chunk_seconds_count{{{WHERE}}} 1.0" in lines(metrics)


def test_counts_begin_at_zero() -> None:
    metrics = Metrics()
    metrics.of("orders", "append")
    for name in (*COUNTED, "rebalances", "fenced", "retries"):
        assert f"eventfleet_{name}_total{{{WHERE}}} 0.0" in lines(metrics)


def test_the_total_is_kept_for_each_role() -> None:
    metrics = Metrics()
    append, relay = metrics.of("orders", "append"), metrics.of("orders", "relay")
    append.add(ChunkReport(stored=2))
    append.add_chunk(0.1, ChunkReport(stored=3, repeated=1))
    assert append.total == ChunkReport(stored=5, repeated=1)
    assert relay.total == ChunkReport()


def test_lag_and_age_are_asked_at_each_reading_until_forgotten() -> None:
    metrics = Metrics()
    meter = metrics.of("orders", "append")
    waiting = [7]
    meter.watch(3, lambda: waiting[0], lambda: 2.5, lambda: 1.5)
    where = 'domain="orders",partition="3",role="append"'
    assert f"eventfleet_lag{{{where}}} 7.0" in lines(metrics)
    assert f"eventfleet_last_commit_age_seconds{{{where}}} 1.5" in lines(metrics)
    waiting[0] = 0
    assert f"eventfleet_lag{{{where}}} 0.0" in lines(metrics)
    meter.forget(3)
    assert not [line for line in lines(metrics) if 'partition="3"' in line]


def test_rebalances_fences_and_retries_are_counted() -> None:
    metrics = Metrics()
    meter = metrics.of("orders", "append")
    meter.assigned(4)
    meter.assigned(2)
    meter.fenced()
    meter.retried()
    shown = lines(metrics)
    assert f"eventfleet_rebalances_total{{{WHERE}}} 2.0" in shown
    assert f"eventfleet_assigned_partitions{{{WHERE}}} 2.0" in shown
    assert f"eventfleet_fenced_total{{{WHERE}}} 1.0" in shown
    assert f"eventfleet_retries_total{{{WHERE}}} 1.0" in shown


async def test_failures_of_background_tasks_are_shown_by_task() -> None:
    task = BackgroundTask("the work", asyncio.Event().wait)  # type: ignore[arg-type]
    task.start()
    task.report_failure(LookupError("a bug"))
    assert 'eventfleet_background_failures_total{task="the work"} 1.0' in lines(Metrics())
    await task.end()


def test_a_stopped_partition_is_shown_until_it_is_given_up() -> None:
    metrics = Metrics()
    meter = metrics.of("orders", "append")
    meter.watch(3, lambda: 0, lambda: 0, lambda: 0)
    shown = 'eventfleet_stopped{domain="orders",partition="3",role="append"}'
    assert f"{shown} 0.0" in lines(metrics)
    meter.stopped(3)
    assert f"{shown} 1.0" in lines(metrics)
    meter.forget(3)
    assert not any(line.startswith(shown) for line in lines(metrics))


def test_rejections_are_shown_by_reason() -> None:
    metrics, report = Metrics(), ChunkReport()
    for outcome in (Rejected("too late", "Shipped"), Rejected("too soon", ""), Accepted("e", "p")):
        count_outcome(outcome, report)
    report += report
    metrics.of("orders", "command").add(report)
    where = 'domain="orders",reason="{}",role="command"'
    for reason in ("too late", "too soon"):
        shown = f"eventfleet_rejected_total{{{where.format(reason)}}} 2.0"
        assert shown in lines(metrics)
    assert 'eventfleet_accepted_total{domain="orders",role="command"} 2.0' in lines(metrics)


def test_of_reasons_without_end_so_many_are_named() -> None:
    metrics, report = Metrics(), ChunkReport()
    for cents in range(2 * MAX_REASONS):
        count_outcome(Rejected(f"there are {cents}"), report)
    metrics.of("bank", "command").add(report)
    shown = [line for line in lines(metrics) if line.startswith("eventfleet_rejected_total")]
    assert len(shown) == MAX_REASONS + 1
    where = 'domain="bank",reason="other",role="command"'
    assert f"eventfleet_rejected_total{{{where}}} {MAX_REASONS}.0" in shown


def test_snapshots_are_shown_by_rule() -> None:
    metrics, report = Metrics(), ChunkReport()
    report.rules["every & ~after"] += 2
    metrics.of("orders", "snapshot").add(report)
    shown = 'eventfleet_snapshots_by_rule_total{domain="orders",rule="every & ~after"} 2.0'
    assert shown in lines(metrics)


def test_chunks_are_counted_by_records_and_their_ages() -> None:
    metrics, now = Metrics(), time.time_ns() // 1_000_000
    records = [LogRecord("t", 0, n, None, b"", (), now - 20_000) for n in range(3)]
    metrics.of("orders", "append").add_chunk(0.1, ChunkReport(), records)
    for shown in (
        'eventfleet_chunk_records_bucket{domain="orders",le="1.0",role="append"} 0.0',
        'eventfleet_chunk_records_bucket{domain="orders",le="10.0",role="append"} 1.0',
        'eventfleet_event_age_seconds_bucket{domain="orders",le="10.0",role="append"} 0.0',
        'eventfleet_event_age_seconds_bucket{domain="orders",le="30.0",role="append"} 3.0',
        'eventfleet_event_age_seconds_bucket{domain="orders",le="+Inf",role="append"} 3.0',
        f"eventfleet_event_age_seconds_count{{{WHERE}}} 3.0",
    ):
        assert shown in lines(metrics)


def test_a_process_shows_its_build_and_itself() -> None:
    shown = lines(Metrics())
    (build,) = [line for line in shown if line.startswith("eventfleet_build_info")]
    assert f'python="{python_version()}"' in build
    assert build.endswith(" 1.0")
    assert any(line.startswith("process_resident_memory_bytes ") for line in shown)


async def test_what_a_manager_has_done_is_asked_at_each_reading() -> None:
    metrics, tallies = Metrics(), DeciderMetrics()
    metrics.register(tallies)
    async with SyncFixture().open() as desk:
        tallies.managers["till"] = desk.manager.statistics, desk.saver
        desk.producer.before["produce"] = 1
        await desk.send("PutIn", cents=1)
        await desk.saved(1)
        assert 'eventfleet_unpublished_total{domain="till"} 1.0' in lines(metrics)
        assert 'eventfleet_decided_again_total{domain="till"} 0.0' in lines(metrics)
        assert 'eventfleet_states_saved_total{domain="till"} 1.0' in lines(metrics)
        tallies.queriers["till"] = desk.querier.saver
        desk.querier.saver.saved = 2
        assert 'eventfleet_states_saved_total{domain="till"} 3.0' in lines(metrics)
        assert 'eventfleet_states_dropped_total{domain="till"} 0.0' in lines(metrics)


def test_what_a_marking_has_done_is_asked_at_each_reading() -> None:
    metrics, tallies, tally = Metrics(), DeciderMetrics(), MarkerStatistics()
    metrics.register(tallies)
    tallies.markers["orders"] = tally
    assert 'eventfleet_marker_lookups_total{domain="orders"} 0.0' in lines(metrics)
    tally.rounds, tally.seconds, tally.lookups, tally.finished = 4, 0.5, 9, 1
    tally.results[MarkStatus.STALE] = 3
    for shown in (
        'eventfleet_marker_round_seconds_count{domain="orders"} 4.0',
        'eventfleet_marker_round_seconds_sum{domain="orders"} 0.5',
        'eventfleet_marker_lookups_total{domain="orders"} 9.0',
        'eventfleet_stale_notes_finished_total{domain="orders"} 1.0',
        'eventfleet_marker_results_total{domain="orders",status="stale"} 3.0',
        'eventfleet_marker_results_total{domain="orders",status="mine"} 0.0',
    ):
        assert shown in lines(metrics)


def test_views_are_shown_until_their_partition_is_let_go() -> None:
    metrics = Metrics()
    views = metrics.views("orders")
    views.rows["by_day"] += 3
    views.builds[3] = [BuildStatus("orders", "next", ready=False, behind=7)]
    assert metrics.views("orders") is views
    assert 'eventfleet_view_rows_total{domain="orders",view="by_day"} 3.0' in lines(metrics)
    where = 'build="next",domain="orders",partition="3",view="orders"'
    assert f"eventfleet_view_ready{{{where}}} 0.0" in lines(metrics)
    assert f"eventfleet_view_behind{{{where}}} 7.0" in lines(metrics)
    views.builds[3] = [BuildStatus("orders", "next", ready=True, behind=0)]
    assert f"eventfleet_view_ready{{{where}}} 1.0" in lines(metrics)
    del views.builds[3]
    assert not any("eventfleet_view_ready{" in line for line in lines(metrics))
