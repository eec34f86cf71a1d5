"""Many schedules of late and lost requests of transactions, on a real Kafka; `make late-requests`.

SEEDS (200): of each role; FIRST_SEED (0), BATCH (20): how many at once.
"""

import os
import statistics
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.conftest import running
from tests.late_requests.batch import run_batch
from tests.late_requests.modes import MODES, Mode
from tests.late_requests.trial import Report, Schedule
from tests.servers.frame_proxy import FrameProxy
from tests.servers.kafka import ProxiedKafka
from tests.servers.server import free_port

pytestmark = pytest.mark.faults

FIRST_SEED, SEEDS = int(os.environ.get("FIRST_SEED", "0")), int(os.environ.get("SEEDS", "200"))
BATCH = int(os.environ.get("BATCH", "20"))


@pytest.fixture(scope="module")
def proxied() -> Iterator[tuple[ProxiedKafka, FrameProxy]]:
    proxy = FrameProxy(free_port())
    with running(lambda: ProxiedKafka(proxy.address)) as kafka:
        proxy.start(kafka.behind)
        yield kafka, proxy
        proxy.stop()


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
async def test_many_schedules(
    mode: type[Mode],
    proxied: tuple[ProxiedKafka, FrameProxy],
    prefix: str,
) -> None:
    kafka, proxy = proxied
    reports: list[Report] = []
    for first in range(FIRST_SEED, FIRST_SEED + SEEDS, BATCH):
        seeds = [*range(first, min(first + BATCH, FIRST_SEED + SEEDS))]
        schedules = [Schedule.of(f"{mode.name} {seed}") for seed in seeds]
        reports += await run_batch(mode, f"{prefix}-{first}", schedules, kafka.address, proxy)
    print_figures(mode.name, reports)
    assert [report for report in reports if report.faults] == []


def print_figures(name: str, reports: list[Report]) -> None:
    """Print the sums, and the requests that had which mishap."""
    sums = {
        what: sum(getattr(report, what) for report in reports)
        for what in ("doubled", "torn", "lost", "stray")
    }
    seconds = [each for report in reports for each in report.seconds]
    sums["fenced by itself"] = len(seconds)
    if seconds:
        sums["back after, median"] = round(statistics.median(seconds), 2)
        sums["at most"] = round(max(seconds), 2)
    failed = [report for report in reports if report.faults]
    print(f"\n{name}: {len(reports)} seeds, {len(failed)} with faults; {sums}")
    print("  ", dict(sorted(Counter(report.kind for report in reports).items())))
    for report in failed[:20]:
        print("  ", report)
