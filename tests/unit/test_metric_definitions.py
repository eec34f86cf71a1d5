"""The metrics are named as Prometheus wants it, bounded, and just those of docs/metrics.md."""

import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise

import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from eventfleet.deciders.manager import ManagerStatistics
from eventfleet.deciders.marker_decider import MarkerStatistics
from eventfleet.roles.role import ChunkReport
from eventfleet.roles.view_statistics import BuildStatus
from eventfleet.service.decider_metrics import DeciderMetrics
from eventfleet.service.metric_definitions import (
    DEFINITIONS,
    LABEL_VALUES,
    WORKER,
    MetricDefinition,
)
from eventfleet.states.lru_cache import cache_statistics
from eventfleet.stores.background_task import BackgroundTask
from eventfleet.stores.server_calls import timed_call
from eventfleet.stores.topic_faults import TopicFault, replace_topic_faults
from eventfleet.topics.record import LogRecord
from eventfleet.web.metrics import HttpMetrics
from eventfleet.web.open_feeds import OpenFeeds
from eventfleet.workers.metrics import COUNTED, Metrics
from tests import metrics_page

UNITS = {"ms", "milliseconds", "minutes", "hours", "kb", "kilobytes", "mb", "percent"}
UNBOUNDED = {"id", "aggregate_id", "event_id", "key", "offset", "actor", "path", "token"}
SUFFIXES = {"histogram": ("_bucket", "_count", "_sum"), "summary": ("_count", "_sum")}
RECORD = LogRecord("orders.events", 0, 0, b"o-1", b"{}", (), 1)


class Saver:
    saved = dropped = 1


async def rendered() -> list[str]:
    """The pages of a worker and of an HTTP service, with every metric that they may show."""
    deciders, task = DeciderMetrics(), BackgroundTask("the work", _nothing)
    deciders.markers["orders"] = MarkerStatistics()
    deciders.managers["bank"] = ManagerStatistics(), Saver()  # type: ignore[assignment]
    cache_statistics("orders", "append", "heads").add(1, 1)
    replace_topic_faults([TopicFault("orders", "orders.events", "it was deleted")])
    with timed_call("redis", "mark"):
        task.start()
    report = ChunkReport(**dict.fromkeys(COUNTED, 1))
    report.reasons["too late"] = report.rules["every"] = 1
    worker = Metrics()
    worker.register(deciders)
    meter = worker.of("orders", "append")
    meter.watch(0, lambda: 1, lambda: 1, lambda: 1)
    meter.assigned(1)
    meter.add_chunk(0.1, report, [RECORD])
    worker.views("orders").rows["by_day"] = 1
    worker.views("orders").builds[0] = [BuildStatus("by_day", "next", ready=False, behind=7)]
    feeds = OpenFeeds()
    feeds.note_cut("ann", "/domains/orders/feed", "slow", "the client took nothing")
    http = HttpMetrics(lambda: 1, 2, deciders, {"orders": {"accepted": 1}}, feeds)
    http.observe("/live", "GET", 200, 0.1)
    pages = [worker.render().decode(), http.render().decode()]
    await task.end()
    return pages


async def _nothing() -> None:
    """The work of a background task that ends at once."""


def families(page: str) -> Iterator[Metric]:
    """The families of a page, without the gauges that the client library adds."""
    for family in text_string_to_metric_families(page):
        if not family.name.endswith("_created"):
            yield family


def differences(family: Metric) -> list[str]:
    """How a family that is shown differs from its definition."""
    name = f"{family.name}_total" if family.type == "counter" else family.name
    defined = DEFINITIONS.get(name)
    if defined is None:
        return [f"{name} is not defined"]
    labels = {label for sample in family.samples for label in sample.labels} - {"le"}
    same_help = family.documentation == defined.help or name.startswith("process_")
    found = {"type": family.type == defined.kind, "help": same_help}
    found["labels"] = labels == set(defined.labels)
    return [f"{name} differs in its {what}" for what, is_same in found.items() if not is_same]


def faults(each: MetricDefinition) -> list[str]:
    """What Prometheus' rules of naming, or our own of bounded labels, have against a metric."""
    words = each.name.split("_")
    found = {
        "a counter ends with _total, and nothing else does": (
            (each.kind == "counter") == each.name.endswith("_total")
        ),
        "units are base units": not UNITS.intersection(words),
        "a prefix names the application": words[0] in ("eventfleet", "process"),
        "there is a help text": bool(each.help),
        "labels are described": set(each.labels) <= set(LABEL_VALUES),
        "no label's values are without bound": UNBOUNDED.isdisjoint(each.labels),
        "partitions are on gauges only": "partition" not in each.labels or each.kind == "gauge",
        "buckets ascend to infinity": (
            all(low < high for low, high in pairwise(each.bounds))
            and each.bounds[-1:] == ((float("inf"),) if each.kind == "histogram" else ())
        ),
    }
    return [rule for rule, is_kept in found.items() if not is_kept]


async def test_all_that_is_shown_is_defined_and_all_that_is_defined_is_shown() -> None:
    shown = [family for page in await rendered() for family in families(page)]
    assert [line for family in shown for line in differences(family)] == []
    names = {f"{f.name}_total" if f.type == "counter" else f.name for f in shown}
    assert names == set(DEFINITIONS)


async def test_no_metric_is_shown_twice_on_a_page() -> None:
    for page in await rendered():
        names = [line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")]
        assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("each", DEFINITIONS.values(), ids=str)
def test_a_metric_keeps_the_rules(each: MetricDefinition) -> None:
    assert faults(each) == []


LAG = next(each for each in WORKER if each.name == "eventfleet_lag_seconds")


@pytest.mark.parametrize(
    ("planted", "count"),
    [
        (LAG._replace(kind="counter"), 2),  # nor is a partition on a counter
        (LAG._replace(name="eventfleet_lag_total"), 1),
        (LAG._replace(name="eventfleet_lag_milliseconds"), 1),
        (LAG._replace(name="lag_seconds"), 1),
        (LAG._replace(help=""), 1),
        (LAG._replace(labels=("shape",)), 1),
        (LAG._replace(labels=("domain", "aggregate_id")), 2),
        (LAG._replace(kind="histogram", labels=(), bounds=(1.0, 2.0)), 1),
        (LAG._replace(kind="histogram", labels=(), bounds=(2.0, 1.0, float("inf"))), 1),
    ],
)
def test_a_metric_that_breaks_a_rule_is_found(planted: MetricDefinition, count: int) -> None:
    assert len(faults(planted)) == count


async def test_a_family_that_differs_is_found() -> None:
    (page, _) = await rendered()
    shown = {family.name: family for family in families(page)}
    lag = shown["eventfleet_lag"]
    assert differences(lag) == []
    lag.type, lag.documentation = "summary", "Other"
    lag.samples = [sample._replace(labels={}) for sample in lag.samples]
    what = ("type", "help", "labels")
    assert differences(lag) == [f"eventfleet_lag differs in its {each}" for each in what]
    lag.name = "eventfleet_other"
    assert differences(lag) == ["eventfleet_other is not defined"]


def test_the_page_is_made_of_the_definitions() -> None:
    assert metrics_page.PAGE.read_text() == metrics_page.render(), "python -m tests.metrics_page"


def test_the_page_has_each_metric_and_label() -> None:
    page = metrics_page.PAGE.read_text()
    assert [name for name in (*DEFINITIONS, *LABEL_VALUES) if f"| `{name}` |" not in page] == []


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
async def test_promtool_finds_nothing() -> None:
    for page in await rendered():
        assert promtool(page) == ""
    assert "no help text" in promtool("# TYPE eventfleet_x gauge\neventfleet_x 1\n")
    counter = "# HELP eventfleet_x Text\n# TYPE eventfleet_x counter\neventfleet_x 1\n"
    assert '"_total"' in promtool(counter)


def promtool(page: str) -> str:
    command = ["promtool", "check", "metrics"]
    done = subprocess.run(command, input=page, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr
