"""Families of Prometheus' client library, made from the definitions."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.utils import floatToGoString

from eventfleet.service.metric_definitions import MetricDefinition
from eventfleet.stores.histogram import Histogram

FAMILIES: dict[str, type[CounterMetricFamily | GaugeMetricFamily]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
}


def number_family(
    definition: MetricDefinition, values: Iterable[tuple[Sequence[str], float]]
) -> Metric:
    """The family of a counter or gauge, with the value of each set of labels."""
    make = FAMILIES[definition.kind]
    family = make(definition.family, definition.help, labels=definition.labels)
    for labels, value in values:
        family.add_metric(labels, value)
    return family


def domain_family(definition: MetricDefinition, values: Mapping[str, float]) -> Metric:
    """The family of a counter or gauge whose only label is the domain."""
    return number_family(definition, [([domain], value) for domain, value in values.items()])


def histogram_family(
    definition: MetricDefinition, histograms: Iterable[tuple[Sequence[str], Histogram]]
) -> Metric:
    """The family of a histogram, with the counts of each set of labels."""
    family = HistogramMetricFamily(definition.name, definition.help, labels=definition.labels)
    for labels, each in histograms:
        bounds = map(floatToGoString, each.bounds)
        buckets = [*zip(bounds, accumulate(each.counts), strict=True)]
        family.add_metric(labels, buckets, each.sum)
    return family


def summary_family(
    definition: MetricDefinition, values: Iterable[tuple[Sequence[str], int, float]]
) -> Metric:
    """The family of a summary, with the count and the sum of each set of labels."""
    family = SummaryMetricFamily(definition.name, definition.help, labels=definition.labels)
    for labels, count, total in values:
        family.add_metric(labels, count, total)
    return family
