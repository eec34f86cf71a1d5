"""`python -m tests.metrics_page` writes docs/metrics.md from the definitions of the metrics."""

import re
from collections.abc import Iterable
from math import inf
from pathlib import Path

from eventfleet.service import metric_definitions as definitions
from eventfleet.service.metric_definitions import MetricDefinition

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
TEXT = """\
# Metrics

<!-- Made by `python -m tests.metrics_page` from eventfleet/service/metric_definitions.py. -->

| process | page | address |
|---|---|---|
| `eventfleet worker` | `/metrics`, `/live`, `/ready` | `EVENTFLEET_METRICS_HOST`, `EVENTFLEET_METRICS_PORT` |
| `eventfleet serve` | the same three, for anyone who reaches the port | `EVENTFLEET_METRICS_HOST`, `EVENTFLEET_HTTP_METRICS_PORT`; without the port there is no such page |
| `eventfleet serve` | the same three, `/metrics` with a token of the scope `metrics` | `EVENTFLEET_HTTP_HOST`, `EVENTFLEET_HTTP_PORT` |

A process shows only what it has met: a counter with further labels appears with its first event. The
client library adds a gauge with the ending `_created` to some counters: when it began. Counters begin
at 0 with the process, so look at them through `rate` or `increase`.

## Workers
{worker}

`eventfleet_event_age_seconds` is from end to end: `append` gives the records that it writes to
`<domain>.stored` the timestamps of the records in `<domain>.events` that they came from, and `relay`
passes them on to its routes. So the age at `snapshot` or `relay` counts from the same moment as that at
`append`, by the clocks of who produced the event and of the worker. Of an event of a synchronous domain
that moment comes after it was stored. A record that arrives again counts again.

`eventfleet_lag_seconds` is the age of the oldest record that the worker has fetched and not finished.
Where records wait in the log alone, it is the time since anything was done at the partition. It grows
while a server is away or a partition is stopped.

`eventfleet_lag` and the ages with `role="project"` are those of all views of a domain together. Of one
view, `eventfleet_view_ready` and `eventfleet_view_behind` show a build that is still being made, by
partition; a build that is ready is as far as the role.

## Deciders and queriers
In workers with the role `command`, and in `eventfleet serve`.

{deciders}

## HTTP
{http}

## Every process
{process}

Calls are those of roles, deciders and queries; a call that is cut off by its caller's deadline or end
is timed and is no error, and neither is an answer such as a version that is taken. A read that streams
events is not timed, as it takes as long as its reader; its failures count.

## Labels
No label's values grow with the number of events, aggregates or callers.

| label | values |
|---|---|
{labels}

## Buckets
Upper bounds, as in the label `le`; each histogram has `+Inf` too.

| histogram | bounds |
|---|---|
{buckets}
"""  # noqa: E501


def render() -> str:
    """The text of the page."""
    return TEXT.format(
        worker=_table(definitions.WORKER),
        deciders=_table(definitions.DECIDERS),
        http=_table(definitions.HTTP),
        process=_table(definitions.PROCESS),
        labels="\n".join(
            f"| `{label}` | {values} |" for label, values in definitions.LABEL_VALUES.items()
        ),
        buckets="\n".join(
            f"| `{each.name}` | {_bounds(each)} |"
            for each in definitions.DEFINITIONS.values()
            if each.bounds
        ),
    )


def _table(group: Iterable[MetricDefinition]) -> str:
    rows = [
        f"| `{each.name}` | {each.kind} | {', '.join(each.labels) or '-'} | {_cell(each.help)} |"
        for each in group
    ]
    return "\n".join(["| metric | type | labels | meaning |", "|---|---|---|---|", *rows])


def _cell(text: str) -> str:
    return re.sub(r"<domain>\.\w+", r"`\g<0>`", text)


def _bounds(each: MetricDefinition) -> str:
    return ", ".join(str(float(bound)) for bound in each.bounds if bound != inf)


if __name__ == "__main__":
    PAGE.write_text(render())
